"""The adversarial loss on the discriminator's two logits.

To train with another loss, write a class with the methods `real`, `fake` and `generator` and assign an
instance to `adversarial_loss` at the end of this file. Nothing else has to change: `training_step` takes both
networks' gradients from these methods. Logits are float [B, 2], a row for each pack of images that D judges
as one (`gan.networks.Discriminator`); class 1 means real, class 0 generated. Losses are means over the batch,
computed in float32 whatever the networks' precision.

The statistics and the adaptive augmentation assume that D's decision boundary is a margin of 0 between the
two logits. A method gets the logits of one set of packs; losses that compare sets (relativistic ones) or
need images (gradient penalties) belong in `training_step`.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

MIN_MARGIN = -60.0
"""The margin at which D's gradient on fakes, sigmoid(margin), stops shrinking. exp(-60) is far below what
Adam notices, and far above the smallest float32, so that `generator_gradient_ratio` can still scale it up."""


class AdversarialLoss(Protocol):
    """What `training_step` needs of a loss. All methods return a scalar, float32 []."""

    def real(self, logits: Tensor) -> Tensor:
        """D's loss on real images."""

    def fake(self, logits: Tensor) -> Tensor:
        """D's loss on generated images."""

    def generator(self, logits: Tensor) -> Tensor:
        """G's loss on generated images."""


class CrossEntropy:
    """Softmax cross-entropy with the non-saturating generator loss (Goodfellow et al. 2014), in nats.

    Where D cannot distinguish real from fake, each of the three losses is ln 2 = 0.693.
    """

    def real(self, logits: Tensor) -> Tensor:
        """CE(D(x), real)."""
        return F.softplus(-real_margin(logits)).mean()

    def fake(self, logits: Tensor) -> Tensor:
        """CE(D(G(z)), fake), with a gradient that never underflows."""
        margin = real_margin(logits)
        # Below the bound the value is constant, and the gradient is that at the bound.
        bounded = torch.where(margin > MIN_MARGIN, margin, margin - margin.detach() + MIN_MARGIN)
        return F.softplus(bounded).mean()

    def generator(self, logits: Tensor) -> Tensor:
        """CE(D(G(z)), real)."""
        return F.softplus(-real_margin(logits)).mean()

    def generator_gradient_ratio(self, logits: Tensor) -> Tensor:
        """The gradient of `generator` as a multiple [B] of the gradient of `fake`, for each pack.

        With p = sigmoid(margin) the two gradients with respect to the margin are p - 1 and p: they differ by
        the factor -(1 - p) / p = -exp(-margin) alone. Where D treats each pack independently, every gradient
        further down differs by the same factor, so one backward pass through D serves both networks.
        """
        return -torch.exp(-real_margin(logits).detach().clamp(min=MIN_MARGIN))


def real_margin(logits: Tensor) -> Tensor:
    """The logit for real minus the logit for fake, float32 [B].

    Losses written in terms of the margin are exact where softmax would round: 1 - p is lost once p is 1 to
    within 6e-8.
    """
    logits = logits.float()
    return logits[:, 1] - logits[:, 0]


def has_valid_ratio(loss: AdversarialLoss) -> bool:
    """Whether a loss has a `generator_gradient_ratio`, and it is right for a few logits.

    A loss that is derived from another, or edited, must not keep a ratio that no longer applies.
    """
    if not hasattr(loss, "generator_gradient_ratio"):
        return False
    with torch.enable_grad():
        logits = torch.tensor([[0.0, 0.3], [2.0, -1.0], [-3.0, 4.0], [9.0, -9.0]], requires_grad=True)
        (of_fake,) = torch.autograd.grad(loss.fake(logits), logits)
        (of_generator,) = torch.autograd.grad(loss.generator(logits), logits)
    ratio = loss.generator_gradient_ratio(logits)[:, None]
    return torch.allclose(of_fake * ratio, of_generator, rtol=1e-3, atol=1e-7)


def probability_real(logits: Tensor) -> Tensor:
    """D(x): the probability [B] in [0, 1] that D assigns to each pack being real. No gradient."""
    return real_margin(logits.detach()).sigmoid()


adversarial_loss: AdversarialLoss = CrossEntropy()
