"""Measures of sets of images that need no network: how different they are, and how checkered."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

HIGHEST_BAND = 7 / 16
"""In cycles a pixel; 1/2 is the highest there is, that of a checkerboard of single pixels."""
QUANTIZATION_STEP = 1 / 127.5
"""Of 256, in the range from -1 to 1: real images that differ by less are the same but for rounding."""
ROUNDING = QUANTIZATION_STEP**2 / 36
"""The checkerboard energy of rounding alone: a twelfth of a squared level, in the mean of three channels."""


def pairwise_distances(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The distance of every pair of images.

    Args:
        images: uint8 [N, 3, H, W], N of at least 2.

    Returns:
        float64 [N * (N - 1) / 2], in no order that matters: the root mean square of the difference of
        all values, where black is -1 and white 1; so from 0 to 2.
    """
    flat = images.reshape(len(images), -1) / 127.5
    squares = (flat**2).sum(1)
    squared = squares[:, None] + squares[None] - 2 * flat @ flat.T
    upper = squared[np.triu_indices(len(images), 1)]
    # Of equal images rounding leaves a little less than nothing.
    return np.sqrt(np.maximum(upper, 0) / flat.shape[1])


def checkerboard_energy(images: NDArray[np.uint8]) -> float:
    """The mean power of an image's highest frequencies, where transposed convolutions leave their grid.

    Of the Fourier transform of the grey image (the mean of the channels, in [-1, 1]), normalised so
    that white noise of variance v has power v everywhere, over all frequencies of which either part is
    at least `HIGHEST_BAND` (Odena et al. 2016 show the artefact; this measure of it is ours).

    Args:
        images: uint8 [N, 3, H, W].
    """
    grey = images.mean(1) / 127.5 - 1
    power = np.abs(np.fft.fft2(grey, norm="ortho")) ** 2
    rows, columns = (np.abs(np.fft.fftfreq(side)) >= HIGHEST_BAND for side in grey.shape[1:])
    return float(power[:, rows[:, None] | columns[None]].mean())


def min_distance_ratio(images: NDArray[np.uint8], real: NDArray[np.uint8]) -> float:
    """The smallest distance of two images over the 1st percentile of distances among as many real ones.

    Below 1 the set holds a pair more alike than all but one in a hundred pairs of real images: a sign
    that the generator repeats itself. Where more of the real ones are the same, it is over
    `QUANTIZATION_STEP`.

    Args:
        images: uint8 [N, 3, H, W], N of at least 2.
        real: uint8 [N or more, 3, H, W], of which the first N are taken.
    """
    small = float(np.percentile(pairwise_distances(real[: len(images)]), 1))
    return float(pairwise_distances(images).min()) / max(small, QUANTIZATION_STEP)


def checkerboard_ratio(images: NDArray[np.uint8], real: NDArray[np.uint8]) -> float:
    """`checkerboard_energy` of generated images, uint8 [N, 3, H, W], over that of real ones.

    Over `ROUNDING` where the real images have less, as flat ones do.
    """
    return checkerboard_energy(images) / max(checkerboard_energy(real), ROUNDING)
