"""Learn to find face landmarks: `python train_landmarks.py FOLDER`; --help lists the settings."""

from __future__ import annotations

import sys
from pathlib import Path

from gan.errors import run_script
from gan.request import read_request

DRAWN = Path("data/drawn-5000")
DRAWN_COUNT = 5000


def main() -> int:
    """Parse, train, print."""
    from faces.landmarks.settings import LandmarkRequest

    words = sys.argv[1:]
    request = read_request(words, kind=LandmarkRequest)  # --help is answered before torch is imported
    from faces.landmarks.launch import load_data, make_learner, make_plan, summary
    from faces.launch import open_run, told_of
    from faces.training import train
    from gan.best import Best
    from gan.health import EXIT_CODE, DivergedError

    plan = make_plan(words)
    folder = Path(plan.settings.folder) if plan.settings.folder else _draw(plan.settings.workers)
    data = load_data(plan, folder)
    print(data.summary())
    learner, best = make_learner(plan, data), Best(smoothed=1)
    if request.dry_run:
        print(summary(learner))
        return 0
    with open_run(plan, learner, best, folder.resolve().name, data.facts()) as recorder:
        run = recorder.run
        data.write_skipped(run)
        print(f"writing to {run}; to watch: tensorboard --logdir {plan.settings.output}")
        try:
            outcome = train(learner, recorder, best)
        except DivergedError as seen:
            print(f"stopped: {seen}; what {run}/checkpoints holds is from before that", file=sys.stderr)
            return EXIT_CODE
    print("\n".join(told_of(plan, run, outcome, best)))
    if best.step is not None:
        print(f"normalised mean error on people never seen: {best.score:.2%} at the best step, {best.step:,}")
    return outcome.exit_code


def _draw(workers: int | None) -> Path:
    """The embedded default: a folder of drawn faces, whose landmarks are known."""
    from faces.drawn import write_folder
    from gan.processes import worker_count

    print("no folder given: training on drawn faces; `python train_landmarks.py FOLDER` trains on photos")
    write_folder(DRAWN, DRAWN_COUNT, seed=0, workers=worker_count(workers))
    return DRAWN


if __name__ == "__main__":
    run_script(main)
