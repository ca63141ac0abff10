"""The Gaussian coordinate of a latent vector.

Each value of z is uniform in [-1, 1], so u = sqrt(2) erfinv(z) is standard normal. The prior of u is the same
in all directions, so a distance along any of them has a unit: the standard deviation of the prior. And no
step in u leaves the cube of z. Nothing here imports torch.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

NEAREST_TO_ONE = 1 - 2.0**-24
"""Values nearer to 1 or -1 count as this, because u is infinite there. It corresponds to u = 5.42."""

_inverse_cdf = np.frompyfunc(NormalDist().inv_cdf, 1, 1)
_erf = np.frompyfunc(math.erf, 1, 1)


def to_gaussian(z: ArrayLike) -> NDArray[np.float64]:
    """Return u = sqrt(2) erfinv(z), float64 of any shape, for z in [-1, 1]; values outside count as -1 or 1.

    The inverse of the normal distribution is that of the standard library (Wichura 1988, algorithm AS 241),
    which is accurate to about 1e-15.
    """
    inside = np.clip(np.asarray(z, np.float64), -NEAREST_TO_ONE, NEAREST_TO_ONE)
    return np.asarray(_inverse_cdf(0.5 + inside / 2), np.float64)


def from_gaussian(u: ArrayLike) -> NDArray[np.float64]:
    """Return z = erf(u / sqrt(2)), float64 of any shape, in [-1, 1]."""
    return np.asarray(_erf(np.asarray(u, np.float64) / math.sqrt(2)), np.float64)
