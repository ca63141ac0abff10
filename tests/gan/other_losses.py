"""Adversarial losses other than the project's, as someone would write them in gan/losses.py."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from gan.losses import real_margin


class Hinge:
    """Lim and Ye 2017."""

    def real(self, logits: torch.Tensor) -> torch.Tensor:
        return F.relu(1 - real_margin(logits)).mean()

    def fake(self, logits: torch.Tensor) -> torch.Tensor:
        return F.relu(1 + real_margin(logits)).mean()

    def generator(self, logits: torch.Tensor) -> torch.Tensor:
        return -real_margin(logits).mean()


class LeastSquares:
    """Mao et al. 2017."""

    def real(self, logits: torch.Tensor) -> torch.Tensor:
        return (real_margin(logits) - 1).square().mean()

    def fake(self, logits: torch.Tensor) -> torch.Tensor:
        return real_margin(logits).square().mean()

    def generator(self, logits: torch.Tensor) -> torch.Tensor:
        return (real_margin(logits) - 1).square().mean()


def reference_losses(name: str, real: torch.Tensor, fakes: list[tuple[float, torch.Tensor]]) -> tuple:
    """D's and G's loss in float64, written out independently.

    Args:
        name: of the loss.
        real: D's logits for real images.
        fakes: weight and logits of the generated images and, perhaps, of the negatives.
    """
    lead = real[:, 1] - real[:, 0]
    leads = [(weight, logits[:, 1] - logits[:, 0]) for weight, logits in fakes]
    generated = leads[0][1]
    zero = torch.zeros(())
    if name == "cross-entropy":
        of_real = -real.log_softmax(1)[:, 1].mean()
        of_fakes = sum(-weight * logits.log_softmax(1)[:, 0].mean() for weight, logits in fakes)
        return of_real + of_fakes, -fakes[0][1].log_softmax(1)[:, 1].mean()
    if name == "hinge":
        of_fakes = sum(weight * torch.maximum(zero, 1 + one).mean() for weight, one in leads)
        return torch.maximum(zero, 1 - lead).mean() + of_fakes, -generated.mean()
    of_fakes = sum(weight * (one**2).mean() for weight, one in leads)
    return ((lead - 1) ** 2).mean() + of_fakes, ((generated - 1) ** 2).mean()


LOSSES = {"hinge": Hinge(), "least squares": LeastSquares()}
