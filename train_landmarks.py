"""Learn to find face landmarks: `python train_landmarks.py FOLDER`; --help lists the settings."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from engine.cli import parse_arguments
from engine.errors import run_script

if TYPE_CHECKING:
    from engine.best import BestTracker


def main() -> int:
    """Parse, train, print."""
    from faces.landmarks.settings import LandmarkArguments

    words = sys.argv[1:]
    request = parse_arguments(words, LandmarkArguments)  # --help is answered before torch is imported
    from engine.setup import network_summary, train_in_run
    from faces.landmarks.setup import load_data, make_plan, make_trainer
    from faces.loop import SupervisedLoop
    from images.dataset import write_skipped

    plan = make_plan(words)
    folder = Path(plan.settings.folder) if plan.settings.folder else _draw(plan.settings.workers)
    data = load_data(plan, folder)
    print(data.summary())
    learner = make_trainer(plan, data)
    if request.dry_run:
        print(network_summary(learner.network))
        return 0
    face_crops = data.face_crops
    return train_in_run(
        plan,
        SupervisedLoop,
        learner,
        face_crops.folder.name,
        data.facts(),
        lambda logger: write_skipped(logger.run / "skipped.txt", face_crops.skipped),
        _report,
    )


def _report(run: Path, best: BestTracker) -> list[str]:
    return [f"normalised mean error on people never seen: {best.score:.2%} at the best step, {best.step:,}"]


def _draw(workers: int | None) -> Path:
    """The embedded default: a folder of drawn faces, whose landmarks are known."""
    from faces.drawn import default_folder

    print("no folder given: training on drawn faces; `python train_landmarks.py FOLDER` trains on photos")
    return default_folder(workers)


if __name__ == "__main__":
    run_script(main)
