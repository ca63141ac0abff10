"""Judge a run by two numbers that need no network: are its faces different, and are they checkered?

    python benchmarks/judge.py [RUN]

Each is given against real images of the run's own data set, for several draws of 64 faces: the smallest
distance of two faces over the 1st percentile among as many real ones (1 or more is good), and the energy
at the highest image frequencies over that of the real ones (1 is good). Real images against others of
the set stand beside them, as the floor.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from engine.cli import parse
from engine.errors import UserError, run_script
from gan.config import read_info
from gan.generator import load_generator
from gan.latent.vectors import draw
from gan.metrics.pixels import checkerboard_ratio, min_distance_ratio
from gan.metrics.references import load_reference
from gan.options import RunArguments

FACES = 64
DRAWS = 5


@dataclass(frozen=True)
class JudgeChoice(RunArguments):
    """Which run, and which of its generators."""

    checkpoint: str | None = None
    """Step or file of the checkpoint, `best` or `newest`; the best if none is named."""
    raw: bool = False
    """Take the weights of the last training step instead of their moving average (EMA)."""


def main() -> None:
    """Draw, compare, print. Raises `UserError` where the run's images are too few, or no longer there."""
    choice = parse(JudgeChoice, description=__doc__)
    run = choice.folder()
    generator = load_generator(run, choice.checkpoint, raw=choice.raw)
    images = load_reference(read_info(run), None).faces.images
    if len(images) < 2 * FACES:
        raise UserError(f"the run's folder holds {len(images)} images; this takes {2 * FACES} or more")
    random = np.random.default_rng(0)
    rows: dict[str, list[tuple[float, float]]] = {"real against real": [], run.name: []}
    for seed in range(generator.seed, generator.seed + DRAWS):
        order = random.permutation(len(images))
        real, others = images[np.sort(order[:FACES])], images[np.sort(order[FACES : 2 * FACES])]
        faces = generator.images(draw(FACES, generator.latent_size, seed))
        for name, judged in zip(rows, (others, faces), strict=True):
            rows[name].append((min_distance_ratio(judged, real), checkerboard_ratio(judged, real)))
    print(f"step {generator.step:,}, {generator.weights} weights, {DRAWS} draws of {FACES} faces\n")
    print("| | nearest two, to real | checkerboard, to real |\n|---|---|---|")
    for name, pairs in rows.items():
        cells = [f"{mean(values):.2f} ± {stdev(values):.2f}" for values in zip(*pairs, strict=True)]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    run_script(main)
