"""Train a face landmark network: `python train_landmarks.py FOLDER`; --help lists the settings."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from engine.cli import parse_arguments
from engine.errors import run_script
from faces.landmarks.settings import LandmarkArguments

if TYPE_CHECKING:
    from engine.best import BestTracker


def main() -> int:
    """Parse the command line, train, and report the best score."""
    argv = sys.argv[1:]
    arguments = parse_arguments(argv, LandmarkArguments)  # before torch is imported
    from engine.setup import network_summary, train_in_run
    from faces.landmarks.setup import load_data, make_plan, make_trainer
    from faces.loop import SupervisedLoop
    from images.dataset import write_skipped
    from web.address import watch_hint

    plan = make_plan(argv)
    data = load_data(plan, Path(plan.settings.folder or _draw_faces(plan.settings.workers)))
    print(data.summary())
    trainer = make_trainer(plan, data)
    if arguments.dry_run:
        print(network_summary(trainer.network))
        return 0
    face_crops = data.face_crops
    return train_in_run(
        plan,
        SupervisedLoop,
        trainer,
        face_crops.folder.name,
        data.facts(),
        lambda logger: write_skipped(logger.run / "skipped.txt", face_crops.skipped),
        _report,
        lambda run: [watch_hint(run)],
    )


def _report(run: Path, best: BestTracker) -> list[str]:
    quoted = shlex.quote(str(run))
    return [
        f"normalised mean error on held-out people: {best.score:.2%} at the best step, {best.step:,} (points "
        "are off by that share of the distance between the two points of `scale`, such as the eyes)",
        f"next: `python predict_landmarks.py {quoted} PHOTOS` predicts the points of other photos",
    ]


def _draw_faces(workers: int | None) -> Path:
    """The default data: a folder of drawn faces, whose landmarks are known."""
    from faces.drawn.folder import FACES, FACES_COUNT, default_folder

    print(
        f"no folder given: training on what comes with the project, {FACES_COUNT:,} drawn faces in "
        f"{FACES}; `python train_landmarks.py FOLDER` trains on photos"
    )
    return default_folder(workers)


if __name__ == "__main__":
    run_script(main)
