"""Multi-scale structural similarity (MS-SSIM) of the images of one set, a measure of diversity."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from engine.errors import UserError

PAIRS = 300
BATCH_SIZE = 50
"""Pairs compared in one pass."""

SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents from the finest to the coarsest scale (Wang et al. 2003)."""
WINDOW_SIZE = 11
WINDOW_SIGMA = 1.5
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
"""Constants that stabilise the luminance term and the contrast-structure term."""


def mean_ms_ssim(images: NDArray[np.uint8], *, pairs: int = PAIRS, seed: int = 0) -> float:
    """Average MS-SSIM over random pairs of different images of a set (Odena et al. 2017).

    See `ms_ssim` for the number of scales, which depends on the image size: compare only sets of one size.

    Args:
        images: uint8 [N, 3, S, S].
        pairs: number of pairs, or all pairs where there are fewer.
        seed: seed of the choice of pairs.

    Returns:
        A value in [0, 1]; 1 if all images are equal.

    Raises:
        UserError: fewer than 2 images, or images smaller than the window of 11 pixels.
    """
    if len(images) < 2:
        raise UserError(f"MS-SSIM needs at least 2 images, not {len(images)}: give more")
    if images.shape[-1] < WINDOW_SIZE:
        raise UserError(f"MS-SSIM needs images of at least {WINDOW_SIZE} pixels, not {images.shape[-1]}")
    left, right = _random_pairs(len(images), pairs, np.random.default_rng(seed))
    total = 0.0
    for start in range(0, len(left), BATCH_SIZE):
        batch = slice(start, start + BATCH_SIZE)
        x, y = (torch.from_numpy(np.array(images[rows[batch]], np.float32)) for rows in (left, right))
        total += float(ms_ssim(x, y).double().sum())
    return total / len(left)


def ms_ssim(x: Tensor, y: Tensor) -> Tensor:
    """MS-SSIM of pairs of images (Wang, Simoncelli and Bovik 2003), averaged over the channels.

    As published, every scale uses only windows that lie inside the image. It takes as many of the five
    scales as fit, with their weights rescaled to a sum of 1: 1 scale from 11 pixels, 2 from 22, 3 from 44,
    4 from 88 and 5 from 176. A negative mean at any scale counts as 0.

    Args:
        x: float32 [B, C, S, S], S at least 11, values from 0 to 255.
        y: float32 [B, C, S, S].

    Returns:
        float32 [B], values in [0, 1].
    """
    scales = max(n for n in range(1, len(SCALE_WEIGHTS) + 1) if x.shape[-1] >> (n - 1) >= WINDOW_SIZE)
    weights = torch.tensor(SCALE_WEIGHTS[:scales])
    terms = []
    for scale in range(scales):
        if scale:
            x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
        ssim, contrast_structure = _ssim(x, y)
        terms.append(ssim if scale == scales - 1 else contrast_structure)
    powers = weights / weights.sum()
    return (torch.stack(terms, dim=-1).relu() ** powers).prod(-1).mean(1)


def _ssim(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """SSIM and its contrast-structure term, averaged over the windows: each float32 [B, C]."""
    mean_x, mean_y, xx, yy, xy = map(_window_mean, (x, y, x * x, y * y, x * y))
    luminance = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
    covariance, variances = xy - mean_x * mean_y, xx - mean_x**2 + yy - mean_y**2
    contrast_structure = (2 * covariance + C2) / (variances + C2)
    return (luminance * contrast_structure).mean((2, 3)), contrast_structure.mean((2, 3))


def _window_mean(images: Tensor) -> Tensor:
    """Gaussian-weighted mean of each window inside the image: [B, C, S, S] to [B, C, S - 10, S - 10]."""
    offsets = torch.arange(WINDOW_SIZE) - WINDOW_SIZE // 2
    window = torch.exp(-(offsets**2) / (2 * WINDOW_SIGMA**2))
    window = (window / window.sum()).expand(images.shape[1], 1, 1, WINDOW_SIZE)
    rows = F.conv2d(images, window, groups=images.shape[1])
    return F.conv2d(rows, window.mT, groups=images.shape[1])


def _random_pairs(
    count: int, pairs: int, random: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Distinct pairs of distinct indices below `count`."""
    total = count * (count - 1) // 2
    chosen = np.sort(random.choice(total, min(pairs, total), replace=False, shuffle=False))
    # The pair (left, right) with left < right has the index right * (right - 1) / 2 + left.
    right = ((1 + np.sqrt(1 + 8 * chosen.astype(np.float64))) / 2).astype(np.int64)
    return chosen - right * (right - 1) // 2, right
