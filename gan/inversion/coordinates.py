"""The Gaussian coordinate u of a latent vector: z = erf(u / sqrt(2)).

u has no bounds, and where z is uniform in [-1, 1], u is standard normal, so that its prior is |u|² / 2. The
inversion therefore optimises u: no step leaves the cube of the prior.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

EDGE = 1e-6
"""Distance from 1 to which |z| is clamped: float32 has no u for |z| = 1."""


def to_z(u: Tensor) -> Tensor:
    """Convert u, any values, to z in [-1, 1]."""
    return torch.erf(u / math.sqrt(2))


def to_u(z: Tensor) -> Tensor:
    """Convert z to u, after clamping |z| to 1 - `EDGE`, where |u| is 4.9."""
    return math.sqrt(2) * torch.erfinv(z.clamp(EDGE - 1, 1 - EDGE))
