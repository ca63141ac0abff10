"""The last digits of the vectors of images that a generator made itself.

L-BFGS slows down near a perfect fit, where the objective curves ten thousand times more in some directions
than in others. There the image is nearly linear in z, and a few damped Gauss-Newton steps find the rest.
Each needs the derivative with respect to every value of z, so it costs as much as a few hundred images.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

STEPS = 8
"""Times that the derivatives are computed, at most."""
ROUNDING = 1 / 127.5 / 12**0.5
"""Root mean square error of the pixels, in [-1, 1], of an image that is rounded to levels."""
TANGENTS = 25
"""Derivatives that are computed at a time."""
DAMPING = 1e-3
"""Share of the mean squared derivative that is added to all at first (Levenberg 1944, Marquardt 1963);
a tenth of it after a step that succeeds, ten times as much after one that fails."""
TRIES = 5
"""Steps with the same derivatives that may fail."""


def polish(network: nn.Module, targets: Tensor, weights: Tensor, z: Tensor) -> Tensor:
    """Improve vectors whose images are nearly the given ones.

    Args:
        network: a generator in evaluation mode.
        targets: float32 [N, 3, S, S] in [-1, 1].
        weights: of their pixels, float32 [N, 1, S, S].
        z: float32 [N, latent_size] in [-1, 1].

    Returns:
        z in [-1, 1], whose images have at most the weighted error of the pixels that they had.
    """
    rows = zip(targets.split(1), weights.split(1), z.split(1), strict=True)
    return torch.cat([_polish_one(network, *row) for row in rows])


@torch.no_grad()
def _polish_one(network: nn.Module, target: Tensor, weights: Tensor, z: Tensor) -> Tensor:
    roots = weights.sqrt().expand_as(target).flatten()
    rounding = 1.02 * weights.mean().item() * ROUNDING**2

    def residual_of(z: Tensor) -> Tensor:
        return (target - network(z)).flatten() * roots

    residual, damping = residual_of(z), DAMPING
    error = residual.square().mean().item()
    for _ in range(STEPS):
        if error < rounding:
            break
        derivatives = _derivatives(network, z) * roots
        # In double precision, as the product squares the condition number; on the CPU, as MPS has none.
        products, slope = (
            part.cpu().double() for part in (derivatives @ derivatives.T, derivatives @ residual)
        )
        scale = products.diagonal().mean()
        for _ in range(TRIES):
            damped = products + damping * scale * torch.eye(len(products))
            moved = (z + torch.linalg.solve(damped, slope).to(z.dtype).to(z.device)).clamp(-1, 1)
            new_residual = residual_of(moved)
            if new_residual.square().mean().item() < error:
                break
            damping *= 10
        else:
            break
        z, residual, damping = moved, new_residual, damping / 10
        error = residual.square().mean().item()
    return z


def _derivatives(network: nn.Module, z: Tensor) -> Tensor:
    """The derivatives of an image with respect to each value of its vector [1, D]: [D, 3 S S]."""
    units = torch.eye(z.shape[1], device=z.device, dtype=z.dtype)
    parts = []
    for tangents in units.split(TANGENTS):
        points = z.expand_as(tangents).clone()
        parts.append(torch.func.jvp(network, (points,), (tangents,))[1].flatten(1))
    return torch.cat(parts)
