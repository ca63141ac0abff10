"""The last digits of the vectors of images that a generator made itself.

L-BFGS slows down near a perfect fit, where the objective curves ten thousand times more in some directions
than in others. There the image is nearly linear in z, and a few steps of Gauss and Newton find the rest. They
need the derivative by each value of z, so each costs as much as a few hundred images.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

STEPS = 4
ROUNDING = 1 / 127.5 / 12**0.5
"""Root mean square error of the pixels, in [-1, 1], of an image that is rounded to levels."""
TANGENTS = 25
"""Derivatives that are computed at a time."""
DAMPING = 1e-3
"""Of the mean squared derivative, added to all (Levenberg 1944)."""


def polish(network: nn.Module, targets: Tensor, weights: Tensor, z: Tensor) -> Tensor:
    """Improve vectors whose images are nearly the given ones.

    Args:
        network: a generator in evaluation mode.
        targets: float32 [N, 3, S, S] in [-1, 1].
        weights: of their pixels, float32 [N, 1, S, S].
        z: float32 [N, latent_size] in [-1, 1].

    Returns:
        z in [-1, 1]; of each image the one with the smallest weighted error of the pixels.
    """
    rows = zip(targets.split(1), weights.split(1), z.split(1), strict=True)
    return torch.cat([_polish_one(network, *row) for row in rows])


@torch.no_grad()
def _polish_one(network: nn.Module, target: Tensor, weights: Tensor, start: Tensor) -> Tensor:
    roots = weights.sqrt().expand_as(target).flatten()
    best, lowest, z = start, torch.inf, start
    for _ in range(STEPS + 1):
        residual = (target - network(z)).flatten() * roots
        error = residual.square().mean().item()
        if error >= lowest:
            break
        best, lowest = z, error
        if error < 1.02 * weights.mean().item() * ROUNDING**2:
            break
        derivatives = _derivatives(network, z) * roots
        # In double precision: the product squares the condition number.
        products = (derivatives @ derivatives.T).double()
        products.diagonal().add_(DAMPING * products.diagonal().mean() * min(1.0, error / ROUNDING**2))
        step = torch.linalg.solve(products, (derivatives @ residual).double())
        z = (z + step.to(z.dtype)).clamp(-1, 1)
    return best


def _derivatives(network: nn.Module, z: Tensor) -> Tensor:
    """The derivatives of an image by each value of its vector [1, D], [D, 3 S S]."""
    units = torch.eye(z.shape[1], device=z.device, dtype=z.dtype)
    parts = []
    for tangents in units.split(TANGENTS):
        points = z.expand_as(tangents).clone()
        parts.append(torch.func.jvp(network, (points,), (tangents,))[1].flatten(1))
    return torch.cat(parts)
