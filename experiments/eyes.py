"""Measure in how many generated faces a detector finds both eyes, beside real faces.

    python -m experiments.eyes [RUN] [--checkpoint 3000]

KID and coverage may be equal whether faces have all their parts or not (docs/faces.md). Here a cascade of
OpenCV (Viola and Jones 2001), which knows no generated faces, searches each half of a face for an eye. It
misses some real eyes, such as half closed ones or those behind glasses, so compare with the share of real
faces. The images must be aligned, as those of prepare_faces.py are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.cli import parse
from engine.errors import UserError, run_script
from engine.settings import at_least
from faces.detection.cascades import to_grayscale
from faces.detection.opencv import load_cascade, load_opencv
from gan.config import read_info
from gan.latent.vectors import draw
from gan.metrics.references import load_reference
from gan.options import GeneratorArguments

EYE = "haarcascade_eye"
SIDE = 192
"""Images are enlarged to this side in pixels: the cascade needs eyes of 20 or more."""
MIN_EYE = 20
BAND = slice(40, 125)
"""Rows in which the eyes of an aligned face are."""
HALVES = slice(5, 110), slice(82, 187)
"""Columns of each eye. They overlap, as faces may be turned."""


@dataclass(frozen=True)
class EyeArguments(GeneratorArguments):
    """Which generator, and how many faces."""

    count: int = 1000
    """Number of generated faces, and of real ones to compare them with."""
    seed: int = 0
    """Seed of the latent vectors and of the choice of real faces."""

    def __post_init__(self) -> None:
        at_least(self, 2, "count")
        at_least(self, 0, "seed")


def main() -> None:
    """Generate, search, print. Raises `UserError` if the run or its images are missing."""
    arguments = parse(EyeArguments, description=__doc__)
    if arguments.file_of_generator() is not None:
        raise UserError("this needs a run: a generator's file does not name the real faces")
    load_cascade(EYE)  # fails before the images are loaded
    generator = arguments.load_generator()
    generated = generator.images(draw(arguments.count, generator.latent_size, arguments.seed))
    reference = load_reference(read_info(arguments.folder()), None).faces
    random = np.random.default_rng(arguments.seed)
    rows = random.permutation(reference.pool)[: arguments.count]
    print(f"both eyes found, by {generator.weights} weights of step {generator.step:,}:")
    for name, images in (("generated", generated), ("real", reference.images[np.sort(rows)])):
        share = np.mean([has_both_eyes(image) for image in images])
        error = (share * (1 - share) / len(images)) ** 0.5
        print(f"{name}: {share:.3f} ± {error:.3f} of {len(images):,} faces")


def has_both_eyes(image: NDArray[np.uint8]) -> bool:
    """Whether the cascade finds an eye in each half of an aligned face, uint8 [3, S, S]."""
    cv2 = load_opencv()
    enlarged = cv2.resize(to_grayscale(image), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)

    def finds_eye(half: slice) -> bool:
        part = np.ascontiguousarray(enlarged[BAND, half])
        found = load_cascade(EYE).detectMultiScale(
            part, scaleFactor=1.05, minNeighbors=3, minSize=(MIN_EYE, MIN_EYE)
        )
        return len(found) > 0

    return all(map(finds_eye, HALVES))


if __name__ == "__main__":
    run_script(main)
