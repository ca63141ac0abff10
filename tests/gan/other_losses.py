"""Adversarial losses as someone would write them in gan/losses.py, and all losses in float64."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gan.losses import real_margin


class Hinge:
    """Lim and Ye 2017."""

    def real(self, logits: Tensor) -> Tensor:
        return F.relu(1 - real_margin(logits)).mean()

    def fake(self, logits: Tensor) -> Tensor:
        return F.relu(1 + real_margin(logits)).mean()

    def generator(self, logits: Tensor) -> Tensor:
        return -real_margin(logits).mean()


class LeastSquares:
    """Mao et al. 2017."""

    def real(self, logits: Tensor) -> Tensor:
        return (real_margin(logits) - 1).square().mean()

    def fake(self, logits: Tensor) -> Tensor:
        return real_margin(logits).square().mean()

    def generator(self, logits: Tensor) -> Tensor:
        return (real_margin(logits) - 1).square().mean()


LOSSES = {"hinge": Hinge(), "least squares": LeastSquares()}


def reference_losses(name: str, real: Tensor, fakes: list[tuple[float, Tensor]]) -> tuple[Tensor, Tensor]:
    """D's and G's loss in float64, written out independently.

    Args:
        name: of the loss.
        real: D's logits for real images.
        fakes: weight and logits of the generated images and, perhaps, of the negatives.
    """
    zero = torch.zeros(())
    real_loss, fake_loss, generator_loss = {
        "cross-entropy": (
            lambda logits: -logits.log_softmax(1)[:, 1],
            lambda logits: -logits.log_softmax(1)[:, 0],
            lambda logits: -logits.log_softmax(1)[:, 1],
        ),
        "hinge": (
            lambda logits: torch.maximum(zero, 1 - logits[:, 1] + logits[:, 0]),
            lambda logits: torch.maximum(zero, 1 + logits[:, 1] - logits[:, 0]),
            lambda logits: logits[:, 0] - logits[:, 1],
        ),
        "least squares": (
            lambda logits: (logits[:, 1] - logits[:, 0] - 1) ** 2,
            lambda logits: (logits[:, 1] - logits[:, 0]) ** 2,
            lambda logits: (logits[:, 1] - logits[:, 0] - 1) ** 2,
        ),
    }[name]
    of_fakes = sum(weight * fake_loss(logits).mean() for weight, logits in fakes)
    return real_loss(real).mean() + of_fakes, generator_loss(fakes[0][1]).mean()
