"""Compare ways of training on one folder: the same faces, seeds and steps, one setting changed at a time.

    python benchmarks/recipes.py FOLDER --only default plain --image-size 96 --steps 1500 --seeds 0 1

Each recipe and seed is a run of its own in --output; what is done already is not done again, and a run that
was stopped goes on. One that went wrong beyond repair is compared as it was before. At the end stand tables:
the scores of each run at its end and at its best, of as many averaged fakes as images are held out, against
those, beside the floor: images trained on in the place of the fakes; how much worse than its best each ended;
and how far all were after as many minutes. With --few 1000 each recipe is trained once more on 1,000 of the
images alone, scored against the same held-out ones, and a table tells what is copied. Two pictures stand
beside the runs: samples of each, row by row, from the same latent vectors; and how KID and coverage went,
over the steps and over the minutes.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from tyro.conf import Positional

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.recipe_tables import (
    Judge,
    Row,
    print_copying,
    print_ends,
    print_scores,
    print_times,
    save_scores,
)
from benchmarks.running import run_to_end
from engine.cli import parse
from engine.errors import UserError, run_script
from engine.png import save_png
from engine.runs import checkpoints, gave_up, step_of
from engine.settings import at_least, changed, flag
from gan.config import FREE, Settings, check, read_info
from gan.latent.vectors import draw
from gan.monitor import EXIT_CODE
from gan.setup import make_plan
from images.dataset import ImageDataset, load_folder
from images.tiles import tile

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
    "no negatives": ("--negatives", "0"),
    "colour and translation": ("--augmentation", "colour", "translation"),
    "translation and cutout": ("--augmentation", "translation", "cutout"),
    "spectral norm, no augmentation": ("--normalisation", "spectral", "--augmentation"),
    "head 1": ("--head-scale", "1"),
    "separate updates": ("--updates", "separate"),
    "beta2 0.999": ("--beta2", "0.999"),
    "longer average": ("--ema-half-life", "50000"),
    "batches of 32": ("--batch-size", "32"),
}
SHOWN = 16
"""Samples of each run in the picture."""
FEWEST_STEPS = 2 * Settings.log_every
"""For a spread of the losses."""


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
    few: int | None = None
    """Train each once more on so many of the images alone, and tell what is copied."""
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
        at_least(self, 1, "few")
        for seed in self.seeds:
            check(Settings(image_size=self.image_size, seed=seed))


@dataclass(frozen=True)
class Part:
    """What runs are trained on: the folder, or few of its images."""

    folder: str
    told: str
    """After the name of a run."""
    trained: np.ndarray
    """Rows of the folder's images that are trained on."""


def main() -> None:
    """Train what is missing, then print the tables."""
    choice = parse(Choice, description=__doc__)
    data = _data(choice, choice.folder)
    judge = Judge(data)
    floor = judge.floor()  # too few images are a mistake to be told before hours of training
    parts = [Part(choice.folder, "", data.training_indices)]
    if choice.few is not None:
        parts.append(_few(choice, data, choice.few))
    rows = []
    for name in choice.only:
        for seed in choice.seeds:
            for part in parts:
                if run := _trained(choice, name, seed, part):
                    title = f"{name}, seed {seed}{part.told}"
                    rows.append(Row(title, " ".join(RECIPES[name]), run, part.trained))
    if not rows:
        raise UserError("nothing is left to compare")
    print(judge.conditions(), end="\n\n")
    found = print_scores(judge, rows, floor)
    print_ends(rows, found, floor)
    print_times(rows)
    if choice.few is not None:
        print_copying(judge, rows, found)
    shown = [row.last.images(draw(SHOWN, row.last.latent_size, 0)) for row in rows]
    picture, scores = choice.output / "samples.png", choice.output / "scores.png"
    save_png(picture, tile(np.concatenate(shown), SHOWN), {"recipes": "; ".join(row.name for row in rows)})
    print(f"\n{picture}: a row each, in the order of the first table")
    save_scores(scores, rows)
    print(scores)


def _data(choice: Choice, folder: str | Path) -> ImageDataset:
    return load_folder(folder, choice.image_size, cache=choice.cache, workers=2, held_out=Settings().held_out)


def _few(choice: Choice, data: ImageDataset, few: int) -> Part:
    """A folder of links to so many of the images trained on and to all that are held out.

    Those with the largest fingerprints are trained on, since `images.holdout` takes the smallest: the runs on
    both folders have the same images held out.

    Raises:
        UserError: there are not so many, or so few that some of those held out would be trained on.
    """
    held = np.unique(data.fingerprints[data.held_out])
    different, first = np.unique(data.fingerprints[data.training_indices], return_index=True)
    if not len(held) <= few <= len(different):
        raise UserError(
            f"--few must be {len(held):,}, as many as are held out, to {len(different):,}, the different "
            f"ones trained on, not {few:,}"
        )
    rows = np.sort(data.training_indices[first[max(0, len(different) - few) :]])
    folder = choice.output.absolute() / f"images-{few}-of-{data.digest[:8]}-{choice.image_size}px"
    for name in np.array(data.files)[np.union1d(rows, np.flatnonzero(data.held_out))]:
        link = folder / str(name)
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(data.folder / str(name))
    found = _data(choice, folder)
    if not np.array_equal(np.unique(found.fingerprints[found.held_out]), held):
        raise UserError(f"with --few {few:,} other images would be held out than of all: give fewer")
    return Part(str(folder), f", {few:,} images", rows)


def _trained(choice: Choice, name: str, seed: int, part: Part) -> Path | None:
    """The finished run of a recipe; trained, or trained further, where it is not.

    None where it left nothing to compare, which is told.

    Raises:
        UserError: the training was refused or stopped, or the recipe is not what it was when its run began.
    """
    run_name = f"{name} seed {seed}{part.told}"
    words = [part.folder, "--name", run_name, "--seed", seed, "--image-size", choice.image_size]
    words += ["--steps", choice.steps, "--output", choice.output, "--cache", choice.cache, *RECIPES[name]]
    wanted = make_plan([str(word) for word in words]).settings
    run = _found(wanted)
    if run is None:
        _train(*words)
        run = _found(wanted)
    elif step_of(checkpoints(run)[-1]) < choice.steps and not gave_up(run):
        _train("--resume", run, "--steps", choice.steps)
    if run is None:
        print(f"{run_name} went wrong beyond repair before its first checkpoint: left out", file=sys.stderr)
    return run


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
        if differences := changed(theirs, wanted, FREE):
            raise UserError(
                f"{run} was trained with another {', '.join(map(flag, differences))} than its recipe has "
                "now; give another folder with --output"
            )
        return run
    return None


def _train(*words: object) -> None:
    # Its output stands apart from the tables.
    code = run_to_end("train_gan.py", *words, out=sys.stderr)
    if code not in (0, EXIT_CODE):
        raise UserError(
            f"the training ended with exit code {code}, as told above; where it was only stopped, "
            "the same command goes on"
        )


if __name__ == "__main__":
    run_script(main)
