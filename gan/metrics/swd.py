"""The sliced Wasserstein distance at each scale of a Laplacian pyramid (Karras et al. 2018)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

MIN_SIDE = 16
"""Smallest side of a level of the pyramid, in pixels."""

PATCH = 7
"""Side of a patch in pixels."""

PATCHES = 128
"""Patches per image and level, at random positions."""

MAX_PATCHES = 2**17
"""Patches per set and level: 77 MB. With many images, each contributes fewer."""

PROJECTIONS = 512

BATCH = 100
"""Images whose pyramids are in memory at a time."""

SLICES = 32
"""Projections in memory at a time: 17 MB."""


def sliced_wasserstein(
    real: NDArray[np.uint8], fake: NDArray[np.uint8], *, seed: int = 0
) -> dict[int, float]:
    """Sliced Wasserstein distance between the patches of two sets at each level of a Laplacian pyramid.

    As in Karras et al. (2018), *Progressive Growing of GANs*: take 128 patches of 7x7 pixels per image and
    level (fewer for more than 1,024 images, 2^17 in all), normalise each colour channel of a set's patches to
    mean 0 and variance 1, and average the absolute difference of the sorted projections of both sets over 512
    random directions. The i-th images of both sets have patches at the same positions, so equal sets have
    distance 0. Uses less than 0.6 GB for any N.

    Args:
        real: uint8 [N, 3, S, S]. S is at least 16, and even at each level that is halved.
        fake: uint8 [N, 3, S, S].
        seed: seed of the positions and directions.

    Returns:
        The distance at each level by its side in pixels: S, S / 2 and so on, down to at least 16. The first
        level contains the finest detail, the last one the large shapes. A shift of all colours has no effect.
        (The paper prints distances times 1,000.)

    Raises:
        ValueError: the sets differ in shape, or S is not divisible.
    """
    if real.shape != fake.shape:
        raise ValueError(f"the sets must have one shape, not {list(real.shape)} and {list(fake.shape)}")
    sides = _sides(real.shape[-1])
    distances = {}
    for level, side in enumerate(sides):
        # Equal seeds give both sets the same positions.
        sets = [
            _patches(images, level, len(sides), np.random.default_rng([seed, level]))
            for images in (real, fake)
        ]
        distances[side] = _sliced_distance(*sets, np.random.default_rng([seed, level, PROJECTIONS]))
    return distances


def laplacian_pyramid(images: Tensor, levels: int) -> list[Tensor]:
    """Decompose images into details of increasing scale (Burt and Adelson 1983).

    Args:
        images: float32 [B, 3, S, S], S divisible by 2^(levels - 1).
        levels: at least 1.

    Returns:
        float32 [B, 3, S / 2^i, S / 2^i] for each level i: the detail lost by halving once more; the last
        level is the halved images themselves.
    """
    pyramid = []
    for _ in range(levels - 1):
        halved = _halve(images)
        pyramid.append(images - _double(halved))
        images = halved
    return [*pyramid, images]


def _sides(side: int) -> list[int]:
    sides = [side]
    while sides[-1] // 2 >= MIN_SIDE:
        if sides[-1] % 2:
            raise ValueError(f"images of {side} pixels cannot be halved down to {MIN_SIDE}")
        sides.append(sides[-1] // 2)
    return sides


_BINOMIAL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)


def _halve(images: Tensor) -> Tensor:
    """Blur, and keep every other row and column."""
    height, width = images.shape[2:]
    padded = F.pad(images, (2, 2, 2, 2), "reflect")
    # On a CPU, shifted sums take half the time of a depthwise convolution.
    down = sum(part * padded[:, :, at : at + height : 2] for at, part in enumerate(_BINOMIAL))
    return sum(part * down[:, :, :, at : at + width : 2] for at, part in enumerate(_BINOMIAL))


def _double(images: Tensor) -> Tensor:
    """Double the size: insert zeros between pixels, blur, and restore the brightness."""
    for axis in (2, 3):
        here = images.movedim(axis, 3)
        padded = F.pad(F.pad(here, (1, 0, 0, 0), "reflect"), (0, 1, 0, 0), "replicate")
        before, after = padded[..., :-2], padded[..., 2:]
        # At even positions three of the five blur weights fall on pixels, at odd positions two.
        doubled = torch.stack(((before + 6 * here + after) / 8, (here + after) / 2), dim=4).flatten(3)
        images = doubled.movedim(3, axis)
    return images


def _patches(
    images: NDArray[np.uint8], level: int, levels: int, random: np.random.Generator
) -> NDArray[np.float32]:
    """Normalised patches of one level: float32 [P, 3 * PATCH^2]."""
    each = max(1, min(PATCHES, MAX_PATCHES // len(images)))
    patches = np.empty((len(images), each, 3, PATCH**2), np.float32)
    for start in range(0, len(images), BATCH):
        batch = _level(images[start : start + BATCH], level, levels)
        patches[start : start + BATCH] = _random_patches(batch, each, random)
    # Sums of so many values need float64.
    patches -= patches.mean((0, 1, 3), dtype=np.float64, keepdims=True).astype(np.float32)
    squares = np.einsum("npcv,npcv->c", patches, patches, dtype=np.float64)
    deviation = np.sqrt(squares / (patches.size / 3)).astype(np.float32)
    # Constant patches stay 0.
    patches /= np.where(deviation > 0, deviation, 1)[:, None]
    return patches.reshape(-1, 3 * PATCH**2)


def _level(images: NDArray[np.uint8], level: int, levels: int) -> NDArray[np.float32]:
    floats = torch.from_numpy(images.astype(np.float32)) / 127.5 - 1
    # A level other than the last needs only the next one.
    return laplacian_pyramid(floats, min(level + 2, levels))[level].numpy()


def _random_patches(
    images: NDArray[np.float32], each: int, random: np.random.Generator
) -> NDArray[np.float32]:
    """Patches at random positions, float32 [B, each, 3, PATCH^2]."""
    windows = np.lib.stride_tricks.sliding_window_view(images, (PATCH, PATCH), axis=(2, 3))
    tops, lefts = (random.integers(0, side, (len(images), each)) for side in windows.shape[2:4])
    taken = windows[np.arange(len(images))[:, None], :, tops, lefts]
    return taken.reshape(len(images), each, 3, PATCH**2)


def _sliced_distance(
    real: NDArray[np.float32], fake: NDArray[np.float32], random: np.random.Generator
) -> float:
    """Mean absolute difference of sorted projections of two sets, each float32 [P, D]."""
    directions = random.standard_normal((PROJECTIONS, real.shape[1]), np.float32)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    total = 0.0
    for start in range(0, PROJECTIONS, SLICES):
        chunk = directions[start : start + SLICES]
        # NumPy sorts float32 ten times faster than torch does on one thread.
        real_sorted, fake_sorted = (np.sort(chunk @ patches.T, axis=1) for patches in (real, fake))
        total += float(np.abs(real_sorted - fake_sorted).mean(1, dtype=np.float64).sum())
    return total / PROJECTIONS
