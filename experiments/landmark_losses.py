"""Compare landmark losses on one folder: equal steps, held-out people, several seeds.

    python -m experiments.landmark_losses FOLDER

Each loss and seed is a run of its own in --output. Finished runs are reused and stopped runs are resumed. The
scores are of the last step, never of the best one, which is chosen on the people that it is scored on.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Annotated

from tyro.conf import Positional

from engine.cli import parse
from engine.errors import UserError, run_script
from experiments.running import train_once
from faces.landmarks.setup import LANDMARKS, load_data, make_plan, make_trainer
from faces.settings import RESUMABLE
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
"""Flags of train_landmarks.py for each row."""
FORMATS = {"score/nme": "{:.2%}", "score/failures": "{:.1%}", "score/mse": "{:.6f}"}
"""How the scores are printed, by name."""


@dataclass(frozen=True)
class LossArguments:
    """What to compare."""

    folder: Annotated[Path, Positional]
    """Photos and their landmarks."""
    steps: int = 2000
    """Steps of each run."""
    seeds: tuple[int, ...] = (0, 1)
    """Seeds of the runs; the held-out people are the same for all."""
    only: tuple[str, ...] = tuple(RECIPES)
    """Names of the rows."""
    output: Path = Path("outputs/landmark-losses")
    """Folder of the runs."""
    workers: int | None = None
    """Processes that decode images."""

    def __post_init__(self) -> None:
        if {*self.only} - RECIPES.keys() or not self.only or not self.seeds:
            raise UserError(f"--only takes rows of these: {', '.join(RECIPES)}; and --seeds one seed or more")

    def flags(self) -> list[str]:
        """Flags of every run."""
        workers = [] if self.workers is None else ["--workers", str(self.workers)]
        return [str(self.folder), "--steps", str(self.steps), "--output", str(self.output), *workers]


def main() -> None:
    """Train what is missing, then print the table."""
    arguments = parse(LossArguments, description=__doc__)
    scores = {
        name: [_last_scores(_train(arguments, name, seed)) for seed in arguments.seeds]
        for name in arguments.only
    }
    print("| loss | normalised mean error | faces above 10 % | mean squared error |\n|---|---|---|---|")
    print(_row("none: the mean face", [_untrained_scores(arguments)]))
    for name, values in scores.items():
        print(_row(name, values))


def _train(arguments: LossArguments, name: str, seed: int) -> Path:
    run_name = f"{name} {arguments.steps} steps seed {seed}"
    flags = [*arguments.flags(), "--name", run_name, "--seed", str(seed), *RECIPES[name]]
    run = train_once("train_landmarks.py", flags, make_plan(flags).settings, LANDMARKS.read_info, RESUMABLE)
    assert run is not None, "a run that succeeds leaves a checkpoint"
    return run


def _last_scores(run: Path) -> dict[str, float]:
    metrics = read_metrics(run)
    return {name: metrics[name][1][-1] for name in FORMATS}


def _untrained_scores(arguments: LossArguments) -> dict[str, float]:
    """Scores of a new network, which predicts the mean face."""
    plan = make_plan(arguments.flags())
    return make_trainer(plan, load_data(plan, arguments.folder)).scores()


def _row(name: str, scores: list[dict[str, float]]) -> str:
    cells = [name]
    for score, form in FORMATS.items():
        values = [run[score] for run in scores]
        text = form.format(mean(values))
        if len(values) > 1:
            text += f" ({form.format(min(values))} to {form.format(max(values))})"
        cells.append(text)
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    run_script(main)
