"""Train an image classifier: `python train_classifier.py FOLDER`; --help lists the settings."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from engine.cli import parse_arguments
from engine.errors import run_script
from faces.recognition.settings import ClassifierArguments

if TYPE_CHECKING:
    from engine.setup import Plan
    from faces.recognition.settings import ClassifierSettings, Method

DEFAULT_LABEL = "glasses"
"""Column of labels.csv that gives the classes of drawn faces; for arcface it is `person`."""


def main() -> int:
    """Parse the command line, train, and report on the best network."""
    argv = sys.argv[1:]
    arguments = parse_arguments(argv, ClassifierArguments)  # before torch is imported
    from engine.setup import network_summary, train_in_run
    from faces.loop import SupervisedLoop
    from faces.recognition.report import write_report
    from faces.recognition.setup import load_data, make_plan, make_trainer
    from images.dataset import write_skipped
    from web.address import watch_hint

    plan, folder = _with_folder(make_plan(argv))
    data = load_data(plan, folder)
    print(data.summary())
    trainer = make_trainer(plan, data)
    if arguments.dry_run:
        print(f"{network_summary(trainer.network)} in the first step")
        return 0
    return train_in_run(
        plan,
        SupervisedLoop,
        trainer,
        data.folder.name,
        data.facts(),
        lambda logger: write_skipped(logger.run / "skipped.txt", data.skipped),
        lambda run, _: [*write_report(run, data), _what_next(run, plan.settings.method)],
        lambda run: [watch_hint(run)],
    )


def _what_next(run: Path, method: Method) -> str:
    quoted = shlex.quote(str(run))
    if method == "arcface":
        return (
            f"next: `python recognize.py enroll people.npz NAME PHOTOS --checkpoint {quoted}` adds a person"
        )
    return f"next: `python recognize.py predict {quoted} PHOTOS` names what other photos show"


def _with_folder(plan: Plan[ClassifierSettings]) -> tuple[Plan[ClassifierSettings], Path]:
    """The folder to train on; by default, one of drawn faces, and the label of their classes."""
    settings = plan.settings
    if settings.folder is not None:
        return plan, Path(settings.folder)
    from faces.drawn.folder import FACES, PEOPLE, default_folder

    many_per_person = settings.method == "arcface"
    label = settings.label or ("person" if many_per_person else DEFAULT_LABEL)
    print(
        f"no folder given: training on what comes with the project, drawn faces in "
        f"{PEOPLE if many_per_person else FACES}, with the column {label} of its labels.csv as their class; "
        "`python train_classifier.py FOLDER` trains on your photos"
    )
    folder = default_folder(settings.workers, many_per_person=many_per_person)
    return replace(plan, settings=replace(settings, label=label)), folder


if __name__ == "__main__":
    run_script(main)
