"""Learn to tell who is on an image, or what: `python train_classifier.py FOLDER`; --help lists settings."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from engine.cli import parse_arguments
from engine.errors import run_script

if TYPE_CHECKING:
    from engine.setup import Plan
    from faces.recognition.settings import ClassifierSettings

TRAIT = "glasses"
"""Of drawn faces, that is learnt where nothing is asked for."""


def main() -> int:
    """Parse, train, tell how good it is."""
    from faces.recognition.settings import ClassifierArguments

    words = sys.argv[1:]
    request = parse_arguments(words, ClassifierArguments)  # --help is answered before torch is imported
    from engine.setup import network_summary, train_in_run
    from faces.loop import SupervisedLoop
    from faces.recognition.report import write_report
    from faces.recognition.setup import load_data, make_plan, make_trainer
    from images.dataset import write_skipped

    plan, folder = _with_folder(make_plan(words))
    data = load_data(plan, folder)
    print(data.summary())
    learner = make_trainer(plan, data)
    if request.dry_run:
        print(f"{network_summary(learner.network)} in the first step")
        return 0
    return train_in_run(
        plan,
        SupervisedLoop,
        learner,
        data.folder.name,
        data.facts(),
        lambda logger: write_skipped(logger.run / "skipped.txt", data.skipped),
        lambda run, _: write_report(run, data),
    )


def _with_folder(plan: Plan[ClassifierSettings]) -> tuple[Plan[ClassifierSettings], Path]:
    """The folder to train on; where none is given, of drawn faces, whose people and traits are known."""
    from dataclasses import replace

    from faces.drawn import default_folder

    settings = plan.settings
    if settings.folder is not None:
        return plan, Path(settings.folder)
    people = settings.method == "arcface"
    label = settings.label or ("person" if people else TRAIT)
    print(f"no folder given: learning to tell drawn faces by their {label}, one of the columns of labels.csv")
    folder = default_folder(settings.workers, many_per_person=people)
    return replace(plan, settings=replace(settings, label=label)), folder


if __name__ == "__main__":
    run_script(main)
