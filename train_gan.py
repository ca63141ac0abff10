"""Train a DCGAN on a folder of face photos: `python train_gan.py FOLDER`; --help lists the settings."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from engine.cli import parse_arguments
from engine.errors import UserError, run_script
from engine.output import counted
from gan.config import Settings, TrainingArguments

if TYPE_CHECKING:
    from engine.distributed import World


def main() -> int:
    """Parse the command line, train, and report how it ended."""
    argv = sys.argv[1:]
    if "--plain" in argv:
        raise UserError("--plain is now --preset textbook")
    arguments = parse_arguments(argv, TrainingArguments)  # before torch is imported
    from engine.device import report_out_of_memory
    from engine.distributed import join_world

    with join_world() as world, report_out_of_memory():
        return _train(argv, arguments.dry_run, world)


def _train(argv: list[str], dry_run: bool, world: World) -> int:
    from engine.finite import EXIT_DIVERGED
    from engine.setup import run_loop
    from faces.preparation.state import crops_folder
    from gan import milestones
    from gan.rollback import UnrecoverableError
    from gan.setup import load_data, make_plan, make_trainer, make_validator, open_gan_run
    from gan.summary import summary
    from web.address import watch_hint

    if world.on_rank_zero(lambda: _has_given_up(world)):
        return EXIT_DIVERGED
    plan = world.on_rank_zero(lambda: make_plan(argv, world))
    folder = Path(plan.settings.folder or world.rank_zero_first(lambda: _draw_faces(plan.settings)))
    if plan.resumed is None and (crops := crops_folder(folder)):
        raise UserError(f"{folder} also contains what prepare_faces.py left out; give {crops}")
    data, plan = load_data(plan, folder, world)
    processes = f", {world.size} processes" if world.size > 1 else ""
    print(
        f"{len(data.images):,} images from {data.folder}, {data.held_out.sum():,} of them held out to score "
        f"the run ({counted(len(data.skipped), 'file')} skipped, "
        f"{counted(data.duplicates, 'exact duplicate')}); {plan.device}, {plan.settings.precision}{processes}"
    )
    for line in data.notes():
        print(line)
    if dry_run:
        print(summary(plan.settings, plan.device, data, world.size))
        return 0
    trainer = make_trainer(plan, data, world)
    validator = make_validator(plan, data) if world.is_rank_zero else None
    with open_gan_run(plan, data, trainer, validator, Path(folder).resolve().name) as (run, loop):
        notes = [f"some of the images: {run / 'real.png'}", watch_hint(run)]
        if not (plan.resumed or loop.fine_tuned):
            notes += milestones.preview(plan.settings, len(data.training_indices))
        outcome = run_loop(loop, run, notes, UnrecoverableError)
    if outcome:
        lines = milestones.conclusion(plan.settings, run, outcome.step, loop.best, fine_tuned=loop.fine_tuned)
        print("\n".join(lines))
    return outcome.exit_code if outcome else EXIT_DIVERGED


def _has_given_up(world: World) -> bool:
    """Whether torchrun restarted a run that gave up; it would only give up again."""
    from engine.runs import gave_up

    run = world.stored_run()
    if run is None or not gave_up(run):
        return False
    print(f"stopped: {run} has given up; a restart would only repeat that", file=sys.stderr)
    return True


def _draw_faces(settings: Settings) -> Path:
    """The default data: a folder of drawn faces."""
    from faces.drawn.folder import FACES, FACES_COUNT, default_folder

    budget = f" for {settings.minutes:g} minutes" if settings.minutes else ""
    print(
        f"no folder given: training{budget} on what comes with the project, {FACES_COUNT:,} drawn faces in "
        f"{FACES}, in batches of {settings.batch_size}; `python train_gan.py FOLDER` trains on your photos"
    )
    return default_folder(settings.workers)


if __name__ == "__main__":
    run_script(main)
