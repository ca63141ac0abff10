"""Compare ways of training on one folder: the same faces, seeds and steps, one setting changed at a time.

    python benchmarks/recipes.py FOLDER --only default plain --image-size 96 --steps 1500 --seeds 0 1

Each recipe and seed is a run of its own in --output; what is done already is not done again, and a run that
was stopped goes on. One that went wrong beyond repair is compared as it was before. At the end stands a
table, which tells of each run whether it went back after trouble. Its scores are of as many averaged fakes as
images are held out, against those, beside the floor: images trained on in the place of the fakes. Two
pictures stand beside the runs: samples of each, row by row, from the same latent vectors; and how KID and
coverage went, over the steps and over the minutes.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median, stdev
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from tyro.conf import Positional

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from gan.checkpoint import LoadedGenerator, load, load_generator
from gan.command import parse
from gan.comparison import compare, sample
from gan.config import Settings, at_least, changed, check, flag
from gan.curves import Metrics, new_figure, read_metrics, save_figure
from gan.dataset import FaceSet, load_folder
from gan.errors import UserError, run_script
from gan.features import random_space
from gan.health import EXIT_CODE
from gan.images import save_png, tile
from gan.latent import draw
from gan.launch import make_plan
from gan.runs import BEST, NEWEST, best_path, checkpoints, read_info, step_of
from gan.scorecard import with_spread

RECIPES: dict[str, tuple[str, ...]] = {
    "default": (),
    "plain": ("--plain",),
    "plain, averaged": ("--plain", "--ema-half-life", "10000"),
    "batch norm everywhere": ("--normalisation", "batch"),
    "batch norm but first": ("--normalisation", "batch-but-first"),
    "spectral norm": ("--normalisation", "spectral"),
    "no norm": ("--normalisation", "none"),
    "no augmentation": ("--augmentation",),
    "all images augmented": ("--augmentation-target", "0"),
    "colour and translation": ("--augmentation", "colour", "translation"),
    "translation and cutout": ("--augmentation", "translation", "cutout"),
    "spectral norm, no augmentation": ("--normalisation", "spectral", "--augmentation"),
    "head 1": ("--head-scale", "1"),
    "separate updates": ("--updates", "separate"),
    "beta2 0.999": ("--beta2", "0.999"),
    "longer average": ("--ema-half-life", "50000"),
    "batches of 32": ("--batch-size", "32"),
}
MEASURED = ("KID", "coverage")
"""In the features of the random network that comes with the project."""
IN_PIXELS = ("checkerboard", "nearest two")
DRAWS = 3
"""Over which the spread of a score is taken: seeds of the latent vectors, and images for the floor."""
SHOWN = 16
"""Samples of each run in the picture."""
LAST_PART = 5
"""The losses are those of the last fifth of the steps."""
FEWEST_STEPS = 2 * Settings.log_every
"""For a spread of the losses."""

Images = NDArray[np.uint8]


@dataclass(frozen=True)
class Choice:
    """What to compare."""

    folder: Annotated[str, Positional]
    """Folder of face images."""
    only: tuple[str, ...] = tuple(RECIPES)
    """Names of the recipes."""
    image_size: int = 48
    """Side of the images in pixels."""
    steps: int = 1500
    """Of each run."""
    seeds: tuple[int, ...] = (0,)
    """Each recipe is trained with each of them."""
    output: Path = Path("outputs/recipes")
    """Folder of the runs."""
    cache: Path = Path("data/cache")
    """Folder of decoded images."""

    def __post_init__(self) -> None:
        unknown = set(self.only) - RECIPES.keys()
        if unknown:
            raise UserError(f"no recipe is called {', '.join(unknown)}; there are: {', '.join(RECIPES)}")
        if not self.only or not self.seeds:
            raise UserError("--only takes one or more recipes, --seeds one or more numbers")
        at_least(self, FEWEST_STEPS, "steps")
        for seed in self.seeds:
            check(Settings(image_size=self.image_size, seed=seed))


def main() -> None:
    """Train what is missing, then print the table."""
    choice = parse(Choice, description=__doc__)
    judge = Judge(_data(choice))
    floor = judge.floor()  # too few images are a mistake to be told before hours of training
    runs = {
        f"{name}, seed {seed}": _trained(choice, name, seed) for name in choice.only for seed in choice.seeds
    }
    header = ["recipe", "step", "s a step", *MEASURED, *IN_PIXELS, "D loss", "G loss", "accuracy"]
    print(f"{judge.count:,} images a side, {DRAWS} draws\n")
    print(_line(header), _line(["---"] * len(header)), sep="\n")
    print(_line(["real images", "", "", *floor, "", "", ""]), flush=True)
    shown = []
    for name, run in runs.items():
        last = load_generator(run, NEWEST)
        shown.append(last.images(draw(SHOWN, last.latent_size, 0)))
        training = _training(read_metrics(run), last.settings)
        times = load(last.checkpoint)["course"]["recovery"]["times"]
        told = f"{name}, gone back {times} times" if times else name
        print(_line([told, f"{last.step:,}", training[0], *judge.scores(last), *training[1:]]), flush=True)
        if best_path(run).is_file():
            best = load_generator(run, BEST)
            print(_line([f"{name}, its best", f"{best.step:,}", "", *judge.scores(best), "", "", ""]))
    picture = choice.output / "samples.png"
    save_png(picture, tile(np.concatenate(shown), SHOWN), {"recipes": "; ".join(runs)})
    print(f"\n{picture}: a row each, in this order")
    scores = choice.output / "scores.png"
    _save_scores(scores, runs)
    print(scores)


class Judge:
    """Scores sets of images against those held out.

    Args:
        data: the faces, of which enough are held out.
    """

    def __init__(self, data: FaceSet) -> None:
        self._spaces = [random_space()]
        self._held_out = sample(self._spaces, data.images[np.flatnonzero(data.held)])
        self._others = data.images, data.trained
        self.count = min(len(self._held_out.images), len(data.trained))

    def scores(self, generator: LoadedGenerator) -> list[str]:
        """Cells of a generator's scores, each with its spread."""
        return self._cells(lambda seed: generator.images(draw(self.count, generator.latent_size, seed)))

    def floor(self) -> list[str]:
        """Cells of the scores of images that were trained on."""
        images, rows = self._others

        def chosen(seed: int) -> Images:
            return images[np.sort(np.random.default_rng(seed).choice(rows, self.count, replace=False))]

        return self._cells(chosen)

    def _cells(self, images: Callable[[int], Images]) -> list[str]:
        space = self._spaces[0].name
        found = [
            compare(self._held_out, sample(self._spaces, images(seed)), seed=seed) for seed in range(DRAWS)
        ]
        columns = [[scores[space][name] for scores in found] for name in MEASURED]
        columns += [[scores[""][name] for scores in found] for name in IN_PIXELS]
        return [with_spread(mean(values), stdev(values)) for values in columns]


def _data(choice: Choice) -> FaceSet:
    held_out = Settings(folder=choice.folder).held_out
    return load_folder(choice.folder, choice.image_size, cache=choice.cache, workers=2, held_out=held_out)


def _trained(choice: Choice, name: str, seed: int) -> Path:
    """The finished run of a recipe; trained, or trained further, where it is not.

    Raises:
        UserError: the training was refused or stopped, or left nothing to compare; or the recipe is not
            what it was when its run began.
    """
    run_name = f"{name} seed {seed}"
    words = [choice.folder, "--name", run_name, "--seed", seed, "--image-size", choice.image_size]
    words += ["--steps", choice.steps, "--output", choice.output, "--cache", choice.cache, *RECIPES[name]]
    wanted = make_plan([str(word) for word in words]).settings
    run = _found(wanted)
    if run is None:
        _train(*words)
    elif step_of(checkpoints(run)[-1]) < choice.steps:
        _train("--resume", run, "--steps", choice.steps)
    trained = run or _found(wanted)
    if trained is None:
        raise UserError(f"{run_name} went wrong beyond repair before its first checkpoint; leave it out")
    return trained


def _found(wanted: Settings) -> Path | None:
    """The run with these settings, if one got as far as its first checkpoint.

    One that went further than is asked for would be compared at another step than the rest.

    Raises:
        UserError: the run of that name was trained in another way, as by an earlier default.
    """
    for run in sorted(wanted.output.glob("*")):
        if not (run / "config.json").exists() or not checkpoints(run):
            continue
        theirs = read_info(run).settings
        place = ("name", "folder", "image_size")
        same_place = all(getattr(theirs, field) == getattr(wanted, field) for field in place)
        if not same_place or step_of(checkpoints(run)[-1]) > (wanted.steps or 0):
            continue
        if differences := changed(theirs, wanted):
            raise UserError(
                f"{run} was trained with another {', '.join(map(flag, differences))} than its recipe has "
                "now; give another folder with --output"
            )
        return run
    return None


def _train(*words: object) -> None:
    script = Path(__file__).resolve().parent.parent / "train_gan.py"
    done = subprocess.run([sys.executable, script, *map(str, words)], stdout=sys.stderr, check=False)
    if done.returncode not in (0, EXIT_CODE):
        raise UserError(
            f"the training ended with exit code {done.returncode}, as told above; where it was only stopped, "
            "the same command goes on"
        )


def _seconds_a_step(metrics: Metrics, settings: Settings) -> float:
    return settings.batch_size / median(metrics["speed/images_per_second"][1])


def _training(metrics: Metrics, settings: Settings) -> list[str]:
    """Cells about the training: seconds a step, and the losses of its last part."""
    last = slice(-max(2, len(metrics["loss/generator"][0]) // LAST_PART), None)
    losses = [metrics[f"loss/{network}"][1][last] for network in ("discriminator", "generator")]
    accuracy = mean(metrics["accuracy/real"][1][last] + metrics["accuracy/fake"][1][last])
    spreads = [f"{mean(values):.2f} ± {stdev(values):.2f}" for values in losses]
    return [f"{_seconds_a_step(metrics, settings):.2f}", *spreads, f"{accuracy:.2f}"]


def _save_scores(path: Path, runs: dict[str, Path]) -> None:
    """Draw the scores that the runs gave themselves, over steps on the left and over minutes on the right."""
    figure = new_figure("curves", 10, 6.4)
    grid = figure.subplots(2, 2, sharex="col", sharey="row")
    for name, run in runs.items():
        metrics, settings = read_metrics(run), read_info(run).settings
        minutes = _seconds_a_step(metrics, settings) / 60
        for row, score in zip(grid, ("score/kid", "score/coverage"), strict=True):
            steps, values = metrics.get(score, ([], []))
            for axes, scale in zip(row, (1, minutes), strict=True):
                axes.plot([step * scale for step in steps], values, label=name)
    for row, label in zip(grid, MEASURED, strict=True):
        row[0].set_ylabel(f"{label} against held-out images")
    grid[0][0].set_yscale("symlog", linthresh=0.1)
    for axes, label in zip(grid[1], ("step", "minutes"), strict=True):
        axes.set_xlabel(label)
    for axes in grid.flat:
        axes.grid(alpha=0.3)
    grid[0][0].legend()
    save_figure(path, figure)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    run_script(main)
