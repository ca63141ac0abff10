"""Compare ways of training on one folder: the same faces, seed and steps, one setting changed at a time.

    python benchmarks/recipes.py FOLDER --image-size 48 --steps 1500

Each recipe is a run of its own in --output; what is done already is not done again, and a run that was
stopped goes on. At the end stands a table, and a picture of all recipes' samples, row by row, from the
same latent vectors.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from tyro.conf import Positional

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from gan.checkpoint import load_generator
from gan.command import parse
from gan.curves import read_metrics
from gan.dataset import load_folder
from gan.errors import UserError, run_script
from gan.images import save_png, tile
from gan.latent import draw
from gan.metrics.pixels import checkerboard_to_real, nearest_to_real
from gan.runs import checkpoints, read_info, step_of

RECIPES: dict[str, tuple[str, ...]] = {
    "default": (),
    "plain": ("--plain",),
    "plain, averaged": ("--plain", "--ema-half-life", "10000"),
    "batch norm everywhere": ("--normalisation", "batch"),
    "batch norm but first": ("--normalisation", "batch-but-first"),
    "spectral norm": ("--normalisation", "spectral"),
    "no norm": ("--normalisation", "none"),
    "no augmentation": ("--augmentation",),
    "colour and translation": ("--augmentation", "colour", "translation"),
    "translation and cutout": ("--augmentation", "translation", "cutout"),
    "spectral norm, no augmentation": ("--normalisation", "spectral", "--augmentation"),
    "head 1": ("--head-scale", "1"),
    "separate updates": ("--updates", "separate"),
    "beta2 0.999": ("--beta2", "0.999"),
}
JUDGED = 512
"""Generated and real images that are compared."""
GRID = 64
"""Of them, those among which the two nearest are sought: as many as a sample grid has."""
SHOWN = 16
"""Samples of each recipe in the picture."""
LAST_PART = 5
"""The losses are those of the last fifth of the steps."""


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
    seed: int = 0
    """Of each run."""
    output: Path = Path("outputs/recipes")
    """Folder of the runs."""


def main() -> None:
    """Train what is missing, then print the table."""
    choice = parse(Choice, description=__doc__)
    unknown = set(choice.only) - RECIPES.keys()
    if unknown:
        raise UserError(f"no recipe is called {', '.join(unknown)}; there are: {', '.join(RECIPES)}")
    cache = Path("data/cache")
    data = load_folder(choice.folder, choice.image_size, cache=cache, workers=2)
    random = np.random.default_rng(choice.seed)
    real, held = (data.images[np.sort(part)] for part in _two_parts(random, len(data.images)))
    print(
        "| recipe | steps | seconds a step | D loss | G loss | D accuracy "
        "| nearest two, to real | checkerboard, to real |\n|---|---|---|---|---|---|---|---|"
    )
    print(_row("real against real", held, real, []))
    shown = []
    for name in choice.only:
        run = _trained(choice, name)
        generator = load_generator(run)
        images = generator.images(draw(JUDGED, generator.latent_size, choice.seed))
        shown.append(images[:SHOWN])
        print(_row(name, images, real, _training(run)), flush=True)
    picture = choice.output / "samples.png"
    save_png(picture, tile(np.concatenate(shown), SHOWN), {"recipes": ", ".join(choice.only)})
    print(f"\n{picture}: a row each, in this order")


def _trained(choice: Choice, name: str) -> Path:
    """The finished run of a recipe; trained, or trained further, where it is not."""
    run_name = f"{name} {choice.steps} steps seed {choice.seed}"
    run = _found(choice, run_name)
    if run is None:
        flags = [choice.folder, "--name", run_name, "--seed", choice.seed, "--image-size", choice.image_size]
        _train(*flags, "--steps", choice.steps, "--output", choice.output, *RECIPES[name])
    elif step_of(checkpoints(run)[-1]) < choice.steps:
        _train("--resume", run)
    trained = run or _found(choice, run_name)
    assert trained is not None, "a training that ends well leaves a checkpoint"
    return trained


def _found(choice: Choice, name: str) -> Path | None:
    """The run of that name on this folder at this size, if one got as far as its first checkpoint."""
    for run in sorted(choice.output.glob("*")):
        if not (run / "config.json").exists() or not checkpoints(run):
            continue
        info = read_info(run)
        same_folder = Path(info.data.get("folder", "")) == Path(choice.folder).resolve()
        if same_folder and info.settings.name == name and info.settings.image_size == choice.image_size:
            return run
    return None


def _train(*words: object) -> None:
    script = Path(__file__).resolve().parent.parent / "train_gan.py"
    done = subprocess.run([sys.executable, script, *map(str, words)], stdout=sys.stderr, check=False)
    if done.returncode:
        raise UserError("training was stopped; the same command goes on")


def _training(run: Path) -> list[str]:
    """Cells about the training: steps, seconds a step, and the losses of its last part."""
    metrics = read_metrics(run)
    settings = read_info(run).settings
    steps, speeds = metrics["speed/images_per_second"]
    rate = settings.batch_size / float(np.median(speeds))
    last = slice(-max(2, len(steps) // LAST_PART), None)
    losses = [metrics[f"loss/{network}"][1][last] for network in ("discriminator", "generator")]
    accuracy = mean(metrics["accuracy/real"][1][last] + metrics["accuracy/fake"][1][last])
    spreads = [f"{mean(values):.2f} ± {stdev(values):.2f}" for values in losses]
    return [f"{steps[-1]:,}", f"{rate:.2f}", *spreads, f"{accuracy:.2f}"]


def _row(name: str, images: NDArray[np.uint8], real: NDArray[np.uint8], training: list[str]) -> str:
    measures = [nearest_to_real(images[:GRID], real), checkerboard_to_real(images, real)]
    cells = [name, *(training or [""] * 5), *(f"{measure:.2f}" for measure in measures)]
    return f"| {' | '.join(cells)} |"


def _two_parts(random: np.random.Generator, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Two disjoint draws of images, `JUDGED` each or half of all."""
    order = random.permutation(count)
    size = min(JUDGED, count // 2)
    return order[:size], order[size : 2 * size]


if __name__ == "__main__":
    run_script(main)
