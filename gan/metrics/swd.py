"""The sliced Wasserstein distance at each scale of a Laplacian pyramid (Karras et al. 2018)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

MIN_SIDE = 16
"""Pixels; the pyramid ends before its images would be smaller."""

PATCH = 7
"""Side of a patch in pixels."""

PATCHES = 128
"""Of an image at each scale, at random places."""

MAX_PATCHES = 2**17
"""Of a set at each scale: 77 MB. Of more images each gives fewer, which costs little: patches of one image
are alike."""

PROJECTIONS = 512

BATCH = 100
"""Images whose pyramids are held at once."""

SLICES = 32
"""Projections that are held at once, 17 MB of them."""


def sliced_wasserstein(
    real: NDArray[np.uint8], fake: NDArray[np.uint8], *, seed: int = 0
) -> dict[int, float]:
    """How differently two sets of images are textured, at each scale.

    Karras et al. (2018), *Progressive Growing of GANs*: of every image 128 patches of 7x7 pixels from
    each level of its Laplacian pyramid (fewer of more than 1,024 images, 2^17 in all); the values of a
    set's patches are normalised to mean 0 and variance 1 in each colour channel; and the distance is the
    mean over 512 random directions of the mean absolute difference between the sorted projections of the
    two sets. The i-th images of both sets have their patches at the same places, so that a set has no
    distance from itself. Takes less than 0.6 GB, however many images there are.

    Args:
        real: uint8 [N, 3, S, S] with S of at least 16 and even as often as it is halved.
        fake: uint8 [N, 3, S, S], as many and as large.
        seed: of the places and directions.

    Returns:
        The distance at each level by the side of its images in pixels: S, S / 2 and so on, down to 16 or
        more. The last level holds what the others leave, the large shapes; the first the finest
        detail. A shift of all colours alone is not seen. (The paper prints distances times 1,000.)

    Raises:
        ValueError: the sets differ in shape, or the side does not fit.
    """
    if real.shape != fake.shape:
        raise ValueError(f"sets of one shape can be compared, not {list(real.shape)} and {list(fake.shape)}")
    sides = _sides(real.shape[-1])
    distances = {}
    for level, side in enumerate(sides):
        # Both sets draw from equal generators, which gives them the same places.
        sets = [
            _patches(images, level, len(sides), np.random.default_rng([seed, level]))
            for images in (real, fake)
        ]
        distances[side] = _sliced_distance(*sets, np.random.default_rng([seed, level, PROJECTIONS]))
    return distances


def laplacian_pyramid(images: Tensor, levels: int) -> list[Tensor]:
    """Images as a sum of details of ever larger scale (Burt and Adelson 1983).

    Args:
        images: float32 [B, 3, S, S], S divisible by 2^(levels - 1).
        levels: at least 1.

    Returns:
        float32 [B, 3, S / 2^i, S / 2^i] for each level i: what is lost when the images are halved i + 1 times
        after they were halved i times; in the last nothing is lost.
    """
    pyramid = []
    for _ in range(levels - 1):
        halved = _blur(images, stride=2)
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


def _blur(images: Tensor, stride: int = 1) -> Tensor:
    height, width = images.shape[2:]
    padded = F.pad(images, (2, 2, 2, 2), "reflect")
    # On a CPU shifted sums take half the time of a convolution with one filter a channel.
    down = sum(part * padded[:, :, at : at + height : stride] for at, part in enumerate(_BINOMIAL))
    return sum(part * down[:, :, :, at : at + width : stride] for at, part in enumerate(_BINOMIAL))


def _double(images: Tensor) -> Tensor:
    """Twice the side: as if zeros were set between the pixels, then blurred, and as bright as before."""
    for axis in (2, 3):
        here = images.movedim(axis, 3)
        padded = F.pad(F.pad(here, (1, 0, 0, 0), "reflect"), (0, 1, 0, 0), "replicate")
        before, after = padded[..., :-2], padded[..., 2:]
        # Of the five parts of the blur three fall on pixels at every second place, two between them.
        doubled = torch.stack(((before + 6 * here + after) / 8, (here + after) / 2), dim=4).flatten(3)
        images = doubled.movedim(3, axis)
    return images


def _patches(
    images: NDArray[np.uint8], level: int, levels: int, random: np.random.Generator
) -> NDArray[np.float32]:
    """Patches of one level, normalised: float32 [number, 3 * PATCH^2]."""
    each = max(1, min(PATCHES, MAX_PATCHES // len(images)))
    patches = np.empty((len(images), each, 3, PATCH**2), np.float32)
    for start in range(0, len(images), BATCH):
        some = _level(images[start : start + BATCH], level, levels)
        patches[start : start + BATCH] = _at_random_places(some, each, random)
    # float32 sums of so many values would be off.
    patches -= patches.mean((0, 1, 3), dtype=np.float64, keepdims=True).astype(np.float32)
    squares = np.einsum("npcv,npcv->c", patches, patches, dtype=np.float64)
    deviation = np.sqrt(squares / (patches.size / 3)).astype(np.float32)
    # Where nothing varies, nothing is left to scale.
    patches /= np.where(deviation > 0, deviation, 1)[:, None]
    return patches.reshape(-1, 3 * PATCH**2)


def _level(images: NDArray[np.uint8], level: int, levels: int) -> NDArray[np.float32]:
    floats = torch.from_numpy(images.astype(np.float32)) / 127.5 - 1
    # A level needs only the one below it, and is the last only in the whole pyramid.
    return laplacian_pyramid(floats, min(level + 2, levels))[level].numpy()


def _at_random_places(
    images: NDArray[np.float32], each: int, random: np.random.Generator
) -> NDArray[np.float32]:
    """Patches of each image, float32 [B, each, 3, PATCH^2]."""
    windows = np.lib.stride_tricks.sliding_window_view(images, (PATCH, PATCH), axis=(2, 3))
    tops, lefts = (random.integers(0, side, (len(images), each)) for side in windows.shape[2:4])
    taken = windows[np.arange(len(images))[:, None], :, tops, lefts]
    return taken.reshape(len(images), each, 3, PATCH**2)


def _sliced_distance(
    real: NDArray[np.float32], fake: NDArray[np.float32], random: np.random.Generator
) -> float:
    """The mean absolute difference of sorted projections of two sets, each float32 [number, D]."""
    directions = random.standard_normal((PROJECTIONS, real.shape[1]), np.float32)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    total = 0.0
    for start in range(0, PROJECTIONS, SLICES):
        some = directions[start : start + SLICES]
        # NumPy sorts float32 ten times faster than torch does on one thread.
        real_sorted, fake_sorted = (np.sort(some @ patches.T, axis=1) for patches in (real, fake))
        total += float(np.abs(real_sorted - fake_sorted).mean(1, dtype=np.float64).sum())
    return total / PROJECTIONS
