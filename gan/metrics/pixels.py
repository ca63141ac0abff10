"""Measures on pixels: distances of images, and checkerboard artefacts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

HIGHEST_BAND = 7 / 16
"""Frequency in cycles per pixel; 1/2 is the highest, that of a checkerboard of single pixels."""
QUANTIZATION_STEP = 1 / 127.5
"""One of 256 levels in [-1, 1]: images that differ by less are equal except for rounding."""
ROUNDING_ENERGY = QUANTIZATION_STEP**2 / 36
"""Checkerboard energy of rounding: a twelfth of a squared level, averaged over three channels."""


def pairwise_distances(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Root mean square distance of every pair of images.

    Args:
        images: uint8 [N, 3, H, W], N of at least 2.

    Returns:
        float64 [N * (N - 1) / 2], values from 0 to 2, as black is -1 and white 1.
    """
    flat = images.reshape(len(images), -1) / 127.5
    squares = (flat**2).sum(1)
    squared = squares[:, None] + squares[None] - 2 * flat @ flat.T
    upper = squared[np.triu_indices(len(images), 1)]
    # Rounding makes the distance of equal images slightly negative.
    return np.sqrt(np.maximum(upper, 0) / flat.shape[1])


def checkerboard_energy(images: NDArray[np.uint8]) -> float:
    """Mean power of the highest frequencies, where transposed convolutions leave a grid (Odena et al. 2016).

    Averages the power spectrum of the grey image (the mean of the channels, in [-1, 1]) over all frequencies
    with a component of at least `HIGHEST_BAND`. White noise of variance v has power v.

    Args:
        images: uint8 [N, 3, H, W].
    """
    grey = images.mean(1) / 127.5 - 1
    power = np.abs(np.fft.fft2(grey, norm="ortho")) ** 2
    rows, columns = (np.abs(np.fft.fftfreq(side)) >= HIGHEST_BAND for side in grey.shape[1:])
    return float(power[:, rows[:, None] | columns[None]].mean())


def min_distance_ratio(images: NDArray[np.uint8], real: NDArray[np.uint8]) -> float:
    """Smallest distance of two images over the 1st percentile of distances among as many real ones.

    A value near 0 means that the generator repeats an image. The denominator is at least
    `QUANTIZATION_STEP`, for real images that are equal.

    Args:
        images: uint8 [N, 3, H, W], N of at least 2.
        real: uint8 [M, 3, H, W], M of at least N; the first N are used.
    """
    small = float(np.percentile(pairwise_distances(real[: len(images)]), 1))
    return float(pairwise_distances(images).min()) / max(small, QUANTIZATION_STEP)


def checkerboard_ratio(images: NDArray[np.uint8], real: NDArray[np.uint8]) -> float:
    """`checkerboard_energy` of generated images, uint8 [N, 3, H, W], over that of real ones.

    The denominator is at least `ROUNDING_ENERGY`, for real images that are flat.
    """
    return checkerboard_energy(images) / max(checkerboard_energy(real), ROUNDING_ENERGY)
