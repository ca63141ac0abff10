"""Compare losses for landmarks on one folder: equal steps, people never seen, several seeds.

    python benchmarks/landmark_losses.py FOLDER

Each loss and seed is a run of its own in --output; what is done already is not done again, and a run that was
stopped goes on. At the end stands a table. Its scores are of the last step, never of the best one, which
would have been picked by the very people that it is scored on.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Annotated

from tyro.conf import Positional

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.running import run_to_end
from engine.cli import parse
from engine.errors import UserError, run_script
from engine.runs import checkpoints, step_of
from engine.settings import changed, flag
from faces.landmarks.launch import LANDMARKS, load_data, make_learner, make_plan
from faces.landmarks.settings import LandmarkSettings
from faces.settings import FREE
from images.plots import read_metrics

PLAIN = ("--colour", "0")
RECIPES: dict[str, tuple[str, ...]] = {
    "point": ("--loss", "point", *PLAIN),
    "distance": ("--loss", "distance", *PLAIN),
    "distances": ("--loss", "distances", *PLAIN),
    "triangles": ("--loss", "triangles", *PLAIN),
    "areas": ("--loss", "areas", *PLAIN),
    "areas + colour": ("--loss", "areas"),
    "wing": ("--loss", "wing", *PLAIN),
    "wing + colour": ("--loss", "wing"),
}
"""Flags of each row."""
SCORES = ("score/nme", "score/failures", "score/mse")
DIGITS = {"score/nme": "{:.2%}", "score/failures": "{:.1%}", "score/mse": "{:.6f}"}


@dataclass(frozen=True)
class Choice:
    """What is compared."""

    folder: Annotated[Path, Positional]
    """Photos and their landmarks."""
    steps: int = 2000
    """Steps of each run."""
    seeds: tuple[int, ...] = (0, 1)
    """Of the runs; the people held out are always the same."""
    only: tuple[str, ...] = tuple(RECIPES)
    """Rows, by their names."""
    output: Path = Path("outputs/landmark-losses")
    """Folder of the runs."""
    workers: int | None = None
    """Processes that decode images."""


def main() -> None:
    """Train what is missing, then print the table."""
    choice = parse(Choice, description=__doc__)
    unknown = {*choice.only} - RECIPES.keys()
    if unknown or not choice.only or not choice.seeds:
        raise UserError(f"--only takes rows of these: {', '.join(RECIPES)}; and --seeds one seed or more")
    scored = {name: [_scores(_trained(choice, name, seed)) for seed in choice.seeds] for name in choice.only}
    print("| loss | normalised mean error | faces above 10 % | mean squared error |\n|---|---|---|---|")
    print(_row("none: the mean face", [_untrained(choice)]))
    for name, scores in scored.items():
        print(_row(name, scores))


def _trained(choice: Choice, name: str, seed: int) -> Path:
    """The finished run of a row; trained, or trained further, where it is not.

    Raises:
        UserError: a training ended early, or the row is not what it was when its run began.
    """
    run_name = f"{name} {choice.steps} steps seed {seed}"
    words = [str(word) for word in (*_flags(choice), "--name", run_name, "--seed", seed, *RECIPES[name])]
    wanted = make_plan(words).settings
    run = _found(wanted)
    if run is None:
        _train(*words)
    elif step_of(checkpoints(run)[-1]) < choice.steps:
        _train("--resume", run)
    trained = run or _found(wanted)
    assert trained is not None, "a training that ends well leaves a checkpoint"
    return trained


def _found(wanted: LandmarkSettings) -> Path | None:
    """The run with these settings, if one got as far as its first checkpoint.

    Raises:
        UserError: the run of that name was trained in another way, as by an earlier default.
    """
    for run in sorted(wanted.output.glob("*")):
        if not (run / "config.json").exists() or not checkpoints(run):
            continue
        theirs = LANDMARKS.read_info(run).settings
        if (theirs.folder, theirs.name) != (wanted.folder, wanted.name):
            continue
        if differences := changed(theirs, wanted, FREE):
            raise UserError(
                f"{run} was trained with another {', '.join(map(flag, differences))} than its row has now; "
                "give another folder with --output"
            )
        return run
    return None


def _flags(choice: Choice) -> tuple[object, ...]:
    workers = () if choice.workers is None else ("--workers", choice.workers)
    return (choice.folder, "--steps", choice.steps, "--output", choice.output, *workers)


def _train(*words: object) -> None:
    # Its output stands apart from the table.
    code = run_to_end("train_landmarks.py", *words, out=sys.stderr)
    if code:
        raise UserError(f"a training ended with code {code}; the same command goes on")


def _scores(run: Path) -> dict[str, float]:
    """Those of the last step."""
    metrics = read_metrics(run)
    return {name: metrics[name][1][-1] for name in SCORES}


def _untrained(choice: Choice) -> dict[str, float]:
    """Those of a network that takes every face for the mean one."""
    plan = make_plan([str(word) for word in _flags(choice)])
    return make_learner(plan, load_data(plan, choice.folder)).scores()


def _row(name: str, scores: list[dict[str, float]]) -> str:
    cells = [name]
    for score in SCORES:
        values = [one[score] for one in scores]
        text = DIGITS[score].format(mean(values))
        if len(values) > 1:
            text += f" ({DIGITS[score].format(min(values))} to {DIGITS[score].format(max(values))})"
        cells.append(text)
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    run_script(main)
