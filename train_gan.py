"""Train a DCGAN on a folder of face photos: `python train_gan.py FOLDER`; --help lists the settings."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from engine.cli import parse_arguments
from engine.errors import run_script
from gan.config import Settings, TrainingArguments

if TYPE_CHECKING:
    from engine.distributed import World


def main() -> int:
    """Parse, train, print."""
    words = sys.argv[1:]
    request = parse_arguments(
        words, TrainingArguments
    )  # --help and most mistakes are answered before torch is imported
    from engine.device import report_out_of_memory
    from engine.distributed import join_world

    with join_world() as world, report_out_of_memory():
        return _train(words, request.dry_run, world)


def _train(words: list[str], dry_run: bool, world: World) -> int:
    from gan.loop import train
    from gan.monitor import EXIT_CODE
    from gan.rollback import UnrecoverableError
    from gan.setup import load_data, make_course, make_plan, make_scorer, make_trainer, open_run
    from gan.summary import summary

    plan = world.on_rank_zero(lambda: make_plan(words, world))
    given = plan.settings.folder
    folder = Path(given) if given else world.rank_zero_first(lambda: _draw(plan.settings))
    data, plan = load_data(plan, folder, world)
    processes = f", {world.size} processes" if world.size > 1 else ""
    print(
        f"{len(data.images):,} images from {data.folder} ({len(data.skipped):,} files left out, "
        f"{data.duplicates:,} exact duplicates), {data.held.sum():,} of them held out to score the run; "
        f"{plan.device}, {plan.settings.precision}{processes}"
    )
    if dry_run:
        print(summary(plan.settings, plan.device, data, world.size))
        return 0
    trainer, course = make_trainer(plan, data, world), make_course(plan, data)
    scorer = make_scorer(plan, data) if world.is_rank_zero else None
    name = plan.settings.name or folder.resolve().name
    with open_run(plan, data, trainer, course, name) as (run, logger):
        print(f"writing to {run}; to watch: tensorboard --logdir {plan.settings.output}")
        try:
            outcome = train(trainer, logger, course, scorer)
        except UnrecoverableError as seen:
            print(f"stopped: {seen}; what {run}/checkpoints holds is from before that", file=sys.stderr)
            return EXIT_CODE
    print(f"step {outcome.step:,} after {outcome.seconds / 60:.1f} minutes, saved in {outcome.checkpoint}")
    return outcome.exit_code


def _draw(settings: Settings) -> Path:
    """The embedded default: a folder of drawn faces."""
    from faces.drawn import default_folder

    budget = f" for {settings.minutes:g} min" if settings.minutes else ""
    print(
        f"no folder given: training on drawn faces{budget}, {settings.batch_size} images a step; "
        "`python train_gan.py FOLDER` trains on your photos"
    )
    return default_folder(settings.workers)


if __name__ == "__main__":
    run_script(main)
