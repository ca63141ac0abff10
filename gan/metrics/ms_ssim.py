"""How much the images of one set are alike."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from engine.errors import UserError

PAIRS = 300

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Of the scales from the finest on (Wang et al. 2003)."""

WINDOW = 11
"""Pixels that the weighted window of a similarity is wide."""

BATCH = 50
"""Pairs that are compared at once."""


def mean_ms_ssim(images: NDArray[np.uint8], *, pairs: int = PAIRS, seed: int = 0) -> float:
    """The mean MS-SSIM of pairs of different images of a set (Odena et al. 2017), by torchmetrics.

    From 0, nothing in common, to 1, all the same; 1 minus it is a distance. It takes as many of the five
    scales of Wang et al. (2003) as torchmetrics allows at that side, the weights of those scaled to a sum
    of 1: 2 from 32 pixels, 3 from 44, 4 from 99 and 5 from 176. So sets of one size compare.

    Args:
        images: uint8 [N, 3, S, S].
        pairs: to compare; all there are, where that is less.
        seed: of the choice of pairs.

    Raises:
        UserError: fewer than 2 images, or smaller ones than the window of 11 pixels.
    """
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

    if len(images) < 2:
        raise UserError(f"similarity needs at least 2 images, not {len(images)}: give more")
    scales = _scales(images.shape[-1])
    weights = np.array(WEIGHTS[:scales]) / sum(WEIGHTS[:scales])
    left, right = _pairs(len(images), pairs, np.random.default_rng(seed))
    total = 0.0
    for start in range(0, len(left), BATCH):
        sides = (np.array(images[which[start : start + BATCH]], np.float32) for which in (left, right))
        similarities = multiscale_structural_similarity_index_measure(
            *(torch.from_numpy(side) for side in sides),
            data_range=255.0,
            betas=tuple(weights.tolist()),
            reduction="none",
        )
        total += float(similarities.double().sum())
    return total / len(left)


def _scales(side: int) -> int:
    """The scales that torchmetrics allows images of that side."""
    if side < WINDOW:
        raise UserError(f"similarity needs images of at least {WINDOW} pixels, not {side}")
    return max(n for n in range(1, len(WEIGHTS) + 1) if side // max(1, n - 1) ** 2 >= WINDOW)


def _pairs(
    count: int, wanted: int, random: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Different pairs of different numbers below `count`."""
    every = count * (count - 1) // 2
    chosen = np.sort(random.choice(every, min(wanted, every), replace=False, shuffle=False))
    # The pair (left, right) with left < right has the number right * (right - 1) / 2 + left.
    right = ((1 + np.sqrt(1 + 8 * chosen.astype(np.float64))) / 2).astype(np.int64)
    return chosen - right * (right - 1) // 2, right
