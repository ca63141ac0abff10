"""Train a DCGAN on a folder of face photos: `python train_gan.py FOLDER`; --help lists the settings."""

from __future__ import annotations

import sys
from pathlib import Path

from gan.config import Settings
from gan.errors import run_script
from gan.request import read_request

DRAWN = Path("data/drawn-5000")
DRAWN_COUNT = 5000


def main() -> int:
    """Parse, train, print."""
    words = sys.argv[1:]
    request = read_request(words)  # --help and most mistakes are answered before torch is imported
    from gan.health import EXIT_CODE
    from gan.launch import load_data, make_course, make_plan, make_scorer, make_trainer, open_run
    from gan.loop import train
    from gan.recovery import BeyondRepairError
    from gan.summary import summary

    plan = make_plan(words)
    folder = Path(plan.settings.folder) if plan.settings.folder else _draw(plan.settings)
    data, plan = load_data(plan, folder)
    print(
        f"{len(data.images):,} images from {data.folder} ({len(data.skipped):,} files left out, "
        f"{data.duplicates:,} exact duplicates), {data.held.sum():,} of them held out to score the run; "
        f"{plan.device}, {plan.settings.precision}"
    )
    if request.dry_run:
        print(summary(plan.settings, plan.device, data))
        return 0
    trainer, course, scorer = make_trainer(plan, data), make_course(plan, data), make_scorer(plan, data)
    with open_run(plan, data, trainer, course, plan.settings.name or folder.resolve().name) as recorder:
        run = recorder.run
        print(f"writing to {run}; to watch: tensorboard --logdir {plan.settings.output}")
        try:
            outcome = train(trainer, recorder, course, scorer)
        except BeyondRepairError as seen:
            print(f"stopped: {seen}; what {run}/checkpoints holds is from before that", file=sys.stderr)
            return EXIT_CODE
    print(f"step {outcome.step:,} after {outcome.seconds / 60:.1f} minutes, saved in {outcome.checkpoint}")
    return outcome.exit_code


def _draw(settings: Settings) -> Path:
    """The embedded default: a folder of drawn faces."""
    from faces.drawn import write_folder
    from gan.processes import worker_count

    budget = f" for {settings.minutes:g} minutes" if settings.minutes else ""
    print(
        f"no folder given: training on drawn faces{budget}; "
        "`python train_gan.py FOLDER` trains on your photos"
    )
    write_folder(DRAWN, DRAWN_COUNT, seed=0, workers=worker_count(settings.workers))
    return DRAWN


if __name__ == "__main__":
    run_script(main)
