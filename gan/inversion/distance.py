"""The distance of generated images from given ones, without third-party weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from gan.inversion.features import FeatureMaps

LEVELS = 4
"""Levels of the pyramid: the image itself, and reduced to a half, a quarter and an eighth of its side."""
GRADIENT_LEVELS = 2
"""Levels whose gradients are compared."""


class Distance:
    """Compares images by pixels on a pyramid of resolutions, by gradients, and by feature maps.

    Each is a mean squared difference. Pixels and gradients count 1. The features of an extractor count
    `feature_weight`, in units of their variance over some images.

    Args:
        extractors: what makes the feature maps.
        examples: images by which the maps are scaled, float32 [M, 3, S, S] in [-1, 1], M of at least 2.
        feature_weight: of all maps of one extractor together.
    """

    def __init__(self, extractors: Sequence[FeatureMaps], examples: Tensor, feature_weight: float) -> None:
        self._extractors = extractors
        self._scales: list[float] = []
        for extract in extractors:
            with torch.no_grad():
                variances = [maps.var((0, 2, 3)).mean().item() for maps in extract(examples)]
            self._scales += [feature_weight / len(variances) / max(each, 1e-6) for each in variances]

    def feature_maps(self, images: Tensor) -> list[Tensor]:
        """The maps of all extractors, of images [B, 3, S, S]."""
        return [maps for extract in self._extractors for maps in extract(images)]

    def between_features(self, first: list[Tensor], second: list[Tensor]) -> Tensor:
        """The part of the distance by features, of the maps of B images each: [B]."""
        terms = [
            scale * (one - other).square().mean((1, 2, 3))
            for one, other, scale in zip(first, second, self._scales, strict=True)
        ]
        return torch.stack(terms).sum(0) if terms else torch.zeros(())


class TargetDistance:
    """The distance to given images.

    Args:
        distance: how images are compared.
        targets: float32 [N, 3, S, S] in [-1, 1].
        weights: of their pixels, float32 [N, 1, S, S] from 0 to 1, not all 0. Features are those of an image
            that the target replaces where its weight is low.
    """

    def __init__(self, distance: Distance, targets: Tensor, weights: Tensor) -> None:
        self._distance, self._targets, self._weights = distance, targets, weights
        with torch.no_grad():
            self._pixels, self._features = pixel_maps(targets), distance.feature_maps(targets)
        self._map_weights = [_reduced(weights, maps) for maps in self._pixels]

    def __call__(self, images: Tensor, rows: Tensor) -> Tensor:
        """The distance of each image, [B, 3, S, S] in [-1, 1], to the target of its row, int64 [B]: [B]."""
        terms = [
            ((made - given[rows]).square().mean(1, keepdim=True) * weights[rows]).mean((1, 2, 3))
            for made, given, weights in zip(pixel_maps(images), self._pixels, self._map_weights, strict=True)
        ]
        seen = torch.lerp(self._targets[rows], images, self._weights[rows])
        features = [maps[rows] for maps in self._features]
        return torch.stack(terms).sum(0) + self._distance.between_features(
            self._distance.feature_maps(seen), features
        )


def pixel_maps(images: Tensor) -> list[Tensor]:
    """The levels of the pyramid of images [B, 3, S, S], and the vertical and horizontal gradients of some."""
    levels = [images]
    for _ in range(LEVELS - 1):
        levels.append(F.avg_pool2d(levels[-1], 2))
    gradients = [level.diff(dim=dim) for level in levels[:GRADIENT_LEVELS] for dim in (2, 3)]
    return levels + gradients


def _reduced(weights: Tensor, maps: Tensor) -> Tensor:
    """Weights of pixels at the size of maps, with mean 1."""
    reduced = F.interpolate(weights, maps.shape[-2:], mode="bilinear", antialias=True)
    return reduced / reduced.mean((1, 2, 3), keepdim=True)
