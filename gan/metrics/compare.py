"""One set of images against another: every score, by pixels and in feature spaces.

A score's name is its key here, in the JSON of an evaluation and in its table; `SCORES` tells of each
which way is better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.errors import UserError
from gan.metrics.distribution import fid, kid, precision_recall_density_coverage
from gan.metrics.features import FeatureSpace, extract
from gan.metrics.memorization import Copying, Proportion, copying, copying_of_held_out
from gan.metrics.ms_ssim import mean_ms_ssim
from gan.metrics.pixels import checkerboard_ratio, min_distance_ratio
from gan.metrics.swd import sliced_wasserstein

Images = NDArray[np.uint8]
Direction = Literal["lower", "higher", "floor"]

SLICED_WASSERSTEIN = "sliced Wasserstein"
NEARER_TO_TRAINING, CLOSE_TO_TRAINING = "nearer to training", "close to training"

SCORES: dict[str, Direction] = {
    "FID": "lower",
    "KID": "lower",
    "precision": "higher",
    "recall": "higher",
    "density": "higher",
    "coverage": "higher",
    NEARER_TO_TRAINING: "lower",
    CLOSE_TO_TRAINING: "lower",
    SLICED_WASSERSTEIN: "lower",
    "MS-SSIM": "floor",
    "checkerboard": "floor",
    "nearest two": "higher",
}
"""Which way is better: `floor` where a set of real images is neither low nor high."""

FEWEST = 4
"""Images that the scores need on each side, whatever k is."""
MAX_PIXEL_IMAGES = 500
"""Images at most by which textures and the two nearest are judged: with 5,000 this would take most of the
time and of the memory."""


@dataclass(frozen=True)
class ImageSet:
    """A set of images and its features.

    Attributes:
        images: uint8 [N, 3, S, S]; none where only the features are wanted.
        features: in each space, by its name: float32 [V, N, F], V of 1, or 2 where the second are those
            of the mirror images.
    """

    images: Images
    features: dict[str, Tensor]

    def subset(self, rows: NDArray[np.int64], *, images: bool = True) -> ImageSet:
        """The images of these rows, as a set of their own; or their features alone.

        A set that was trained on may not fit into memory.
        """
        chosen = torch.from_numpy(rows)
        features = {name: views[:, chosen] for name, views in self.features.items()}
        return ImageSet(self.images[rows if images else slice(0)], features)


def direction(name: str) -> Direction:
    """Which way a score of `compare` or `copies` is better."""
    return SCORES[SLICED_WASSERSTEIN if name.startswith(SLICED_WASSERSTEIN) else name]


def extract_features(
    spaces: Sequence[FeatureSpace], images: Images, *, mirrored: bool = False, progress: str | None = None
) -> ImageSet:
    """Extract the features of images, uint8 [N, 3, S, S], in each space; if `mirrored`, of both views.

    `progress` is written beside a progress bar; without it there is none.
    """
    features = {}
    for space in spaces:
        views = [images, images[..., ::-1]] if mirrored else [images]
        told = [progress and f"{progress}, {space.name}{also}" for also in ("", " mirrored")]
        extracted = [extract(space, view, progress=text) for view, text in zip(views, told, strict=False)]
        features[space.name] = torch.stack(extracted)
    return ImageSet(images, features)


def set_size(pool: int, count: int, k: int) -> int:
    """How many images each side of a comparison has: `count`, or half of a pool too small for that.

    Raises:
        UserError: that is too few for k neighbours, or for any score.
    """
    found, needed = min(count, pool // 2), max(k + 1, FEWEST)
    if found < needed:
        raise UserError(
            f"k = {k} takes {needed} images on each side, and there are {found}: "
            f"{pool} real ones, of which half are the floor, and {count} asked for; give more images"
        )
    return found


def compare(real: ImageSet, judged: ImageSet, *, k: int = 5, seed: int = 0) -> dict[str, dict[str, float]]:
    """The scores of one set against another of as many real images.

    Returns:
        For each feature space, by its name: FID, KID, precision, recall, density, coverage; and under
        the empty name the scores that need no network: sliced Wasserstein for each level of the pyramid,
        `MS-SSIM` (mean similarity of two images of the judged set), `checkerboard` (energy of the highest
        frequencies over that of the real ones) and `nearest two` (the smallest distance of two images
        over a small one of real images). All but `MS-SSIM` are of the first `MAX_PIXEL_IMAGES` images.
    """
    scores = {}
    for name in real.features:
        real_features, features = real.features[name][0], judged.features[name][0]
        around = precision_recall_density_coverage(real_features, features, k)
        scores[name] = {
            "FID": fid(real_features, features),
            "KID": kid(real_features, features, seed=seed).mean,
            "precision": around.precision,
            "recall": around.recall,
            "density": around.density,
            "coverage": around.coverage,
        }
    few_real, few = real.images[:MAX_PIXEL_IMAGES], judged.images[:MAX_PIXEL_IMAGES]
    levels = sliced_wasserstein(few_real, few, seed=seed)
    scores[""] = {
        **{f"{SLICED_WASSERSTEIN} {side} px": distance for side, distance in levels.items()},
        "MS-SSIM": mean_ms_ssim(judged.images, seed=seed),
        "checkerboard": checkerboard_ratio(few, few_real),
        "nearest two": min_distance_ratio(few, few_real),
    }
    return scores


def memorization_scores(
    judged: ImageSet, train: ImageSet, held_out: ImageSet, *, seed: int = 0
) -> dict[str, dict[str, Proportion]]:
    """The shares of copies among generated images, for each feature space by its name.

    See `gan.metrics.memorization`. Of `judged`, mirror images count too where they have features.
    """
    return {
        name: _named(copying(views, train.features[name][0], held_out.features[name][0], seed=seed))
        for name, views in judged.features.items()
    }


def memorization_floor(
    train: ImageSet, held_out: ImageSet, *, seed: int = 0
) -> dict[str, dict[str, Proportion]]:
    """The same of the held-out images, each against all others of them."""
    return {
        name: _named(copying_of_held_out(views, train.features[name][0], views[0], seed=seed))
        for name, views in held_out.features.items()
    }


def _named(shares: Copying) -> dict[str, Proportion]:
    return {NEARER_TO_TRAINING: shares.nearer, CLOSE_TO_TRAINING: shares.close}
