"""Compare recipes for training the GAN on one folder: the same faces, seeds and steps.

    python -m experiments.recipes FOLDER --only default textbook --image-size 96 --steps 1500 --seeds 0 1

Each recipe and seed is a run of its own in --output. Finished runs are reused and stopped runs are resumed. A
run that could not recover from an alarm is compared as its last checkpoint left it. The script then prints:

- the scores of each run at its end and at its best: images of the averaged generator, or of the raw one in a
  run without an average, against as many held-out ones, beside the floor, where training images take the
  place of the generated ones;
- how much worse than its best each run ended;
- whether it settled: KID of the raw generator beside that of the average, and the spread of its last scores;
- the scores after equal training time;
- with --few 1000, for which each recipe is also trained on 1,000 of the images, the share of copies.

It saves samples.png (a row for each run, from the same latent vectors) and scores.png (KID and coverage over
steps and minutes) beside the runs.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from tyro.conf import Positional

from engine.cli import parse
from engine.errors import UserError, run_script
from engine.finite import EXIT_DIVERGED
from engine.png import save_png
from engine.settings import at_least
from experiments.recipe_tables import (
    HeldOutScorer,
    RecipeRun,
    print_copies,
    print_equal_time,
    print_final_against_best,
    print_scores,
    print_settling,
    save_scores,
)
from experiments.running import train_once
from gan.config import RESUMABLE, Settings, check, read_info
from gan.latent.vectors import draw
from gan.setup import make_plan
from images.dataset import ImageDataset, load_folder
from images.tiles import tile

RECIPES: dict[str, tuple[str, ...]] = {
    "default": (),
    "textbook": ("--preset", "textbook"),
    "textbook, averaged": ("--preset", "textbook", "--ema-half-life", "10000"),
    "batch norm": ("--normalisation", "batch"),
    "no norm": ("--normalisation", "none"),
    "no augmentation": ("--augmentation", "none"),
    "all images augmented": ("--augmentation", "always"),
    "no packs": ("--pack", "1"),
    "packs of 4": ("--pack", "4"),
    "narrow G": ("--generator-widths", "250", "150", "90", "54"),
    "half width of G": ("--generator-widths", "256", "128", "64", "32"),
    "width of the paper": ("--generator-widths", "1024", "512", "256", "128"),
    "half width of D": ("--discriminator-widths", "32", "64", "128", "256"),
    "double width of D": ("--discriminator-widths", "128", "256", "512", "1024"),
    "no negatives": ("--negatives", "0"),
    "head 1": ("--head-scale", "1"),
    "beta2 0.999": ("--beta2", "0.999"),
    "longer average": ("--ema-half-life", "50000"),
    "batches of 24": ("--batch-size", "24"),
    "batches of 96": ("--batch-size", "96"),
}
"""Flags of train_gan.py for each recipe."""
SAMPLES = 16
"""Samples of each run in the picture."""
MIN_STEPS = 2 * Settings.log_every
"""The standard deviation of the losses needs two log lines."""


@dataclass(frozen=True)
class RecipeArguments:
    """Which recipes to compare, and on what."""

    folder: Annotated[str, Positional]
    """Folder of face images."""
    only: tuple[str, ...] = tuple(RECIPES)
    """Names of the recipes."""
    image_size: int = 48
    """Side of the images in pixels."""
    steps: int = 3000
    """Steps of each run."""
    seeds: tuple[int, ...] = (0,)
    """Seeds with which each recipe is trained."""
    few: int | None = None
    """Also train each recipe on this many of the images, and report the share of copies."""
    output: Path = Path("outputs/recipes")
    """Folder of the runs."""
    cache: Path = Path("data/cache")
    """Folder of decoded images."""

    def __post_init__(self) -> None:
        unknown = set(self.only) - RECIPES.keys()
        if unknown:
            raise UserError(f"unknown recipe {', '.join(unknown)}; the recipes are: {', '.join(RECIPES)}")
        if not self.only or not self.seeds:
            raise UserError("--only takes one or more recipes, --seeds one or more numbers")
        at_least(self, MIN_STEPS, "steps")
        at_least(self, 1, "few")
        for seed in self.seeds:
            check(Settings(image_size=self.image_size, seed=seed))


@dataclass(frozen=True)
class TrainingSet:
    """The images that runs are trained on: all of the folder, or a subset."""

    folder: str
    suffix: str
    """Added to the name of a run."""
    rows: np.ndarray
    """Rows of the folder's training images."""


def main() -> None:
    """Train what is missing, then print the tables."""
    arguments = parse(RecipeArguments, description=__doc__)
    data = _load(arguments, arguments.folder)
    scorer = HeldOutScorer(data)
    floor = scorer.floor()  # fails on too few images before hours of training
    training_sets = [TrainingSet(arguments.folder, "", data.training_indices)]
    if arguments.few is not None:
        training_sets.append(_link_subset(arguments, data, arguments.few))
    runs = []
    for name in arguments.only:
        for seed in arguments.seeds:
            for images in training_sets:
                if folder := _train(arguments, name, seed, images):
                    title = f"{name}, seed {seed}{images.suffix}"
                    runs.append(RecipeRun(title, " ".join(RECIPES[name]), folder, images.rows))
    if not runs:
        raise UserError("no run has a checkpoint to compare")
    print(scorer.conditions(), end="\n\n")
    scores = print_scores(scorer, runs, floor)
    print_final_against_best(runs, scores, floor)
    print_settling(runs)
    print_equal_time(runs)
    if arguments.few is not None:
        print_copies(scorer, runs, scores)
    samples = [run.last.images(draw(SAMPLES, run.last.latent_size, 0)) for run in runs]
    picture, curves = arguments.output / "samples.png", arguments.output / "scores.png"
    save_png(
        picture, tile(np.concatenate(samples), SAMPLES), {"recipes": "; ".join(run.name for run in runs)}
    )
    print(f"\n{picture}: a row for each run, in the order of the first table")
    save_scores(curves, runs)
    print(curves)


def _load(arguments: RecipeArguments, folder: str | Path) -> ImageDataset:
    held_out = Settings().held_out
    return load_folder(folder, arguments.image_size, cache=arguments.cache, workers=2, held_out=held_out)


def _link_subset(arguments: RecipeArguments, data: ImageDataset, count: int) -> TrainingSet:
    """Make a folder of links to `count` training images and to all held-out images.

    `images.holdout` holds out the images with the smallest keys. Here those with the largest keys, one of
    several near-duplicates, are trained on, so that both folders have the same held-out images.

    Raises:
        UserError: there are fewer images, or so few are wanted that others would be held out.
    """
    held_out = np.unique(data.fingerprints[data.held_out])
    distinct, first = np.unique(data.split_keys[data.training_indices], return_index=True)
    if not len(held_out) <= count <= len(distinct):
        raise UserError(
            f"--few must be {len(held_out):,} (the number of held-out images) to {len(distinct):,} (the "
            f"number of distinct training images), not {count:,}"
        )
    rows = np.sort(data.training_indices[first[max(0, len(distinct) - count) :]])
    folder = arguments.output.absolute() / f"images-{count}-of-{data.digest[:8]}-{arguments.image_size}px"
    for name in np.array(data.files)[np.union1d(rows, np.flatnonzero(data.held_out))]:
        link = folder / str(name)
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(data.folder / str(name))
    subset = _load(arguments, folder)
    if not np.array_equal(np.unique(subset.fingerprints[subset.held_out]), held_out):
        raise UserError(f"--few {count:,} would hold out different images than all images do; give fewer")
    return TrainingSet(str(folder), f", {count:,} images", rows)


def _train(arguments: RecipeArguments, name: str, seed: int, images: TrainingSet) -> Path | None:
    """The finished run of a recipe; None, with a note, if it failed before its first checkpoint."""
    run_name = f"{name} seed {seed}{images.suffix}"
    flags = [images.folder, "--name", run_name, "--seed", seed, "--image-size", arguments.image_size]
    flags += ["--steps", arguments.steps, "--output", arguments.output, "--cache", arguments.cache]
    flags += RECIPES[name]
    settings = make_plan([*map(str, flags)]).settings
    if settings.batch_size > len(images.rows):
        raise UserError(
            f"{name} has batches of {settings.batch_size}, and there are {len(images.rows)} training images"
        )
    run = train_once("train_gan.py", flags, settings, read_info, RESUMABLE, success=(0, EXIT_DIVERGED))
    if run is None:
        print(f"{run_name} failed before its first checkpoint and is left out", file=sys.stderr)
    return run


if __name__ == "__main__":
    run_script(main)
