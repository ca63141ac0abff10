"""All scores of one set of images against another, by pixels and in feature spaces.

A score has the same name here, in the JSON file of an evaluation and in its table. `SCORES` gives the
direction of each.
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
from gan.metrics.distribution import frechet_distance, kid, precision_recall_density_coverage
from gan.metrics.features import INCEPTION, FeatureSpace, extract
from gan.metrics.memorization import Proportion, close_to_training, nearer_to_training
from gan.metrics.ms_ssim import mean_ms_ssim
from gan.metrics.pixels import checkerboard_ratio, min_distance_ratio
from gan.metrics.swd import sliced_wasserstein
from gan.metrics.thumbnails import thumbnails

Images = NDArray[np.uint8]
Direction = Literal["lower", "higher", "floor"]

FID, FRECHET = "FID", "Fréchet distance"
"""The same distance in the features of Inception, where it is called FID, and in those of other networks."""
SLICED_WASSERSTEIN = "sliced Wasserstein"
NEARER_TO_TRAINING, CLOSE_TO_TRAINING = "nearer to training", "close to training"

SCORES: dict[str, Direction] = {
    FID: "lower",
    FRECHET: "lower",
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
"""Which direction is better; `floor` if a score is best where it equals that of real images."""

MIN_IMAGES = 4
"""Images needed in each set, whatever k is."""
MAX_PIXEL_IMAGES = 500
"""Images of each set used for sliced Wasserstein, checkerboard and nearest two; 5,000 would take most of the
time."""


@dataclass(frozen=True)
class ImageSet:
    """A set of images with its features.

    Attributes:
        images: uint8 [N, 3, S, S]; empty if only the features are needed.
        features: by name of the feature space, float32 [V, N, F]. V is 1, or 2 if the second view is the
            mirror image.
        thumbnails: float32 [V, N, 432]; see `gan.metrics.thumbnails`.
    """

    images: Images
    features: dict[str, Tensor]
    thumbnails: Tensor

    def subset(self, rows: NDArray[np.int64], *, images: bool = True) -> ImageSet:
        """Select rows; without `images` only their features, for a set that may not fit into memory."""
        chosen = torch.from_numpy(rows)
        features = {name: views[:, chosen] for name, views in self.features.items()}
        return ImageSet(self.images[rows if images else slice(0)], features, self.thumbnails[:, chosen])


def direction(name: str) -> Direction:
    """Which direction of a score is better, by its name."""
    return SCORES[SLICED_WASSERSTEIN if name.startswith(SLICED_WASSERSTEIN) else name]


def extract_features(
    spaces: Sequence[FeatureSpace], images: Images, *, views: bool = False, progress: str | None = None
) -> ImageSet:
    """Compute the features of images in each space, and their thumbnails.

    Args:
        spaces: feature spaces with different names.
        images: uint8 [N, 3, S, S].
        views: also compute the views in which `memorization_scores` searches for copies.
        progress: label of a progress bar; None for no bar.
    """
    features = {}
    for space in spaces:
        flips = {"": images, " mirrored": images[..., ::-1]} if views else {"": images}
        extracted = [
            extract(space, view, progress=progress and f"{progress}, {space.name}{suffix}")
            for suffix, view in flips.items()
        ]
        features[space.name] = torch.stack(extracted)
    return ImageSet(images, features, thumbnails(images, views=views))


def set_size(pool: int, count: int, k: int) -> int:
    """The number of images in each compared set: `count`, or half of a pool that is too small for it.

    Raises:
        UserError: too few images for k neighbours, or for any score.
    """
    available, required = min(count, pool // 2), max(k + 1, MIN_IMAGES)
    if available < required:
        raise UserError(
            f"k = {k} needs {required} images in each set, but there are {available}: half of {pool} real "
            f"images, the other half being the floor, and at most --count {count}; give more images"
        )
    return available


def compare(real: ImageSet, generated: ImageSet, *, k: int = 5, seed: int = 0) -> dict[str, dict[str, float]]:
    """Score a set of images against as many real images.

    Returns:
        Under the name of each feature space: FID or Fréchet distance, KID, precision, recall, density and
        coverage. Under the empty name the scores that need no network: sliced Wasserstein for each level of
        the pyramid, `MS-SSIM` (mean over pairs of generated images), `checkerboard` (energy of the highest
        frequencies relative to real images), `nearest two` (smallest distance of two images relative to that
        of real images).
    """
    scores = {}
    for name in real.features:
        real_features, features = real.features[name][0], generated.features[name][0]
        prdc = precision_recall_density_coverage(real_features, features, k)
        scores[name] = {
            FID if name == INCEPTION else FRECHET: frechet_distance(real_features, features),
            "KID": kid(real_features, features, seed=seed).mean,
            "precision": prdc.precision,
            "recall": prdc.recall,
            "density": prdc.density,
            "coverage": prdc.coverage,
        }
    real_images, images = real.images[:MAX_PIXEL_IMAGES], generated.images[:MAX_PIXEL_IMAGES]
    levels = sliced_wasserstein(real_images, images, seed=seed)
    scores[""] = {
        **{f"{SLICED_WASSERSTEIN} {side} px": distance for side, distance in levels.items()},
        "MS-SSIM": mean_ms_ssim(generated.images, seed=seed),
        "checkerboard": checkerboard_ratio(images, real_images),
        "nearest two": min_distance_ratio(images, real_images),
    }
    return scores


def memorization_scores(
    generated: ImageSet, train: ImageSet, held_out: ImageSet, *, leave_one_out: bool = False, seed: int = 0
) -> dict[str, dict[str, Proportion]]:
    """Estimate how much of a set is copied from training images; see `gan.metrics.memorization`.

    Args:
        generated: images with views.
        train: training images.
        held_out: images never trained on, each only once.
        leave_one_out: `generated` equals `held_out`; compare each image with the others only.
        seed: seed of all random choices.

    Returns:
        `nearer to training` under the name of each feature space, `close to training` under the empty name.
    """
    options = {"leave_one_out": leave_one_out, "seed": seed}
    scores = {
        name: {
            NEARER_TO_TRAINING: nearer_to_training(
                views, train.features[name][0], held_out.features[name][0], **options
            )
        }
        for name, views in generated.features.items()
    }
    close = close_to_training(generated.thumbnails, train.thumbnails[0], held_out.thumbnails[0], **options)
    return {**scores, "": {CLOSE_TO_TRAINING: close}}
