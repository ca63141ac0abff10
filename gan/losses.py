"""The adversarial loss on the discriminator's two logits.

To train with another loss, write a class with the methods `real`, `fake` and `generator` and assign an
instance to `adversarial_loss` at the end of this file. Nothing else has to change: `training_step` takes both
networks' gradients from these methods. Logits are float [B, 2]; class 1 means real, class 0 generated. Losses
are means over the batch, computed in float32 whatever the networks' precision.
"""

from __future__ import annotations

from typing import Protocol

import torch.nn.functional as F
from torch import Tensor

MIN_LEAD = -60.0
"""The lead at which D's gradient on fakes, sigmoid(lead), stops shrinking. exp(-60) is far below what Adam
notices, and far above the smallest float32, so that `generator_gradient_ratio` can still scale it up."""


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

    A discriminator that cannot tell real from fake has losses of ln 2 = 0.693 each; so does the generator.
    """

    def real(self, logits: Tensor) -> Tensor:
        """CE(D(x), real)."""
        return F.softplus(-lead_of_real(logits)).mean()

    def fake(self, logits: Tensor) -> Tensor:
        """CE(D(G(z)), fake), with a gradient that never underflows."""
        lead = lead_of_real(logits)
        bounded = (
            lead + (lead.clamp(min=MIN_LEAD) - lead).detach()
        )  # the value is clamped, the gradient passes
        return F.softplus(bounded).mean()

    def generator(self, logits: Tensor) -> Tensor:
        """CE(D(G(z)), real)."""
        return F.softplus(-lead_of_real(logits)).mean()

    def generator_gradient_ratio(self, logits: Tensor) -> Tensor:
        """The gradient of `generator` as a multiple [B] of the gradient of `fake`, for each image.

        With p = sigmoid(lead) the two gradients with respect to the lead are p - 1 and p: they differ by the
        factor -(1 - p) / p = -exp(-lead) alone. Where D treats each image independently, every gradient
        further down differs by the same factor, so one backward pass through D serves both networks.
        """
        return -lead_of_real(logits).detach().clamp(min=MIN_LEAD).neg().exp()


def lead_of_real(logits: Tensor) -> Tensor:
    """By how much [B] the logit for real exceeds the logit for fake, float32.

    Losses written in terms of the lead are exact where softmax would round: 1 - p is lost once p is 1 to
    within 6e-8.
    """
    logits = logits.float()
    return logits[:, 1] - logits[:, 0]


def probability_real(logits: Tensor) -> Tensor:
    """D(x): the probability [B] in [0, 1] that D assigns to each image being real. No gradient."""
    return lead_of_real(logits.detach()).sigmoid()


adversarial_loss: AdversarialLoss = CrossEntropy()
