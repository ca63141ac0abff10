"""The adversarial losses on the two-logit head: softmax cross-entropy (Goodfellow et al. 2014).

Logits are float [B, 2]; class 1 is "from the data set", class 0 "generated". Losses are computed in
float32 whatever the precision of the networks, and are means over the batch, in nats.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

GENERATED, REAL = 0, 1


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor, negative_share: float = 0.0) -> Tensor:
    """CE(D(x), 1) + CE(D(G(z)), 0): 2 ln 2 = 1.386 where D knows nothing, 0 where it knows all.

    With a share s of negatives in [0, 1) the second counts for 1 - s, and `negative_loss` is added. A D that
    tells those, and cannot tell G's images from real ones, then believes in both by 1 / (2 - s).
    """
    of_real, of_fakes = _cross_entropy(real_logits, REAL), _cross_entropy(fake_logits, GENERATED)
    return of_real + (1 - negative_share) * of_fakes


def negative_loss(negative_logits: Tensor, negative_share: float) -> Tensor:
    """What negatives add to D's loss: their share of CE(., 0)."""
    return negative_share * _cross_entropy(negative_logits, GENERATED)


def generator_loss(fake_logits: Tensor) -> Tensor:
    """CE(D(G(z)), 1), the non-saturating form: ln 2 = 0.693 where D knows nothing."""
    return _cross_entropy(fake_logits, REAL)


def generator_over_discriminator(fake_logits: Tensor, negative_share: float = 0.0) -> Tensor:
    """The generator's gradient at each fake's logits as a multiple [B] of the discriminator's there.

    With p1 the softmax of logit 1 and p0 = 1 - p1, the gradient of CE(., 0) at the two logits is
    p1 * (-1, 1) and that of CE(., 1) is -p0 * (-1, 1): they differ by the factor -p0 / p1 alone. Where
    D treats each image by itself, every gradient further down differs by that factor too, so one
    backward pass through D serves both losses. With a share of negatives the discriminator's counts for
    the less.
    """
    # Beyond e**60 the discriminator's own gradient, about p1, comes near the smallest number of float32.
    return -_margin(fake_logits.detach(), GENERATED).clamp(max=60).exp() / (1 - negative_share)


def probability_real(logits: Tensor) -> Tensor:
    """The discriminator's belief [B] in [0, 1] that each image is from the data set."""
    return logits.detach().float().softmax(dim=1)[:, REAL]


def _cross_entropy(logits: Tensor, label: int) -> Tensor:
    # For two classes it is softplus of the other logit's lead. Through softmax the gradient at the
    # right logit, p - 1, would be lost to rounding once p is 1 but for 6e-8.
    return F.softplus(-_margin(logits, label)).mean()


def _margin(logits: Tensor, label: int) -> Tensor:
    """By how much [B] the logit of `label` leads."""
    logits = logits.float()
    return logits[:, label] - logits[:, 1 - label]
