"""Learn to tell who is on an image, or what: `python train_classifier.py FOLDER`; --help lists settings."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gan.errors import run_script
from gan.request import read_request

if TYPE_CHECKING:
    from faces.launch import Plan
    from faces.recognition.settings import ClassifierSettings

DRAWN, DRAWN_COUNT, TRAIT = Path("data/drawn-5000"), 5000, "glasses"
DRAWN_PEOPLE, DRAWN_PEOPLE_COUNT, FACES_EACH = Path("data/drawn-people-2000"), 2000, 25


def main() -> int:
    """Parse, train, tell how good it is."""
    from faces.recognition.settings import ClassifierRequest

    words = sys.argv[1:]
    request = read_request(words, kind=ClassifierRequest)  # --help is answered before torch is imported
    from faces.launch import open_run, told_of
    from faces.recognition.launch import facts, load_data, make_learner, make_plan, summary
    from faces.recognition.report import write_report
    from faces.training import train
    from gan.best import Best
    from gan.dataset import write_skipped
    from gan.health import EXIT_CODE, DivergedError
    from gan.runs import written_to

    plan, folder = _with_folder(make_plan(words))
    data = load_data(plan, folder)
    print(data.summary())
    learner, best = make_learner(plan, data), Best(smoothed=1)
    if request.dry_run:
        print(summary(learner))
        return 0
    with open_run(plan, learner, best, folder.resolve().name, facts(data)) as recorder:
        run = recorder.run
        with written_to(run):
            write_skipped(run / "skipped.txt", data.skipped)
        print(f"writing to {run}; to watch: tensorboard --logdir {plan.settings.output}")
        try:
            outcome = train(learner, recorder, best)
        except DivergedError as seen:
            print(f"stopped: {seen}; what {run}/checkpoints holds is from before that", file=sys.stderr)
            return EXIT_CODE
    print("\n".join(told_of(plan, run, outcome, best)))
    if best.step is not None:
        print("\n".join(write_report(run, data)))
    return outcome.exit_code


def _with_folder(plan: Plan[ClassifierSettings]) -> tuple[Plan[ClassifierSettings], Path]:
    """The folder to train on; where none is given, of drawn faces, whose people and traits are known."""
    from dataclasses import replace

    from faces.drawn import write_folder
    from gan.processes import worker_count

    settings = plan.settings
    if settings.folder is not None:
        return plan, Path(settings.folder)
    people = settings.method == "arcface"
    folder, count, each = (
        (DRAWN_PEOPLE, DRAWN_PEOPLE_COUNT, FACES_EACH) if people else (DRAWN, DRAWN_COUNT, 5)
    )
    label = settings.label or ("person" if people else TRAIT)
    print(f"no folder given: learning to tell drawn faces by their {label}, one of the columns of labels.csv")
    write_folder(folder, count, seed=0, faces_per_person=each, workers=worker_count(settings.workers))
    return replace(plan, settings=replace(settings, label=label)), folder


if __name__ == "__main__":
    run_script(main)
