"""One training step: the gradients of both networks on one batch, and one update of each.

Everything runs on the device, and only the values of tensors change between steps, so a step can be captured
once as a CUDA graph and replayed (`engine.cuda_graph`).
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from engine.distributed import World
from gan.augment import Augmenter
from gan.losses import AdversarialLoss, probability_real

STATISTICS = (
    "loss/discriminator",
    "loss/generator",
    "probability/real",
    "probability/fake",
    "accuracy/real",
    "accuracy/fake",
    "gradient/discriminator",
    "gradient/generator",
)
"""What a step returns: both losses, the means of D(x) and D(G(z)), the shares of real and of generated packs
that D classifies correctly, and the norms of both gradients."""


class Batch(NamedTuple):
    """One process's inputs of a step: B real images, and the random numbers for as many fakes.

    Attributes:
        real: float [B, 3, S, S] in [-1, 1].
        z: latent vectors, float32 [B, latent_size] in [-1, 1].
        real_uniform: for the augmentation of the real images, float32 [B, K] in [0, 1).
        fake_uniform: the same for the fakes.
        negatives: float [M, 3, S, S] in [-1, 1]; M is 0 in a run without negatives.
        negative_uniform: float32 [M, K] in [0, 1).
    """

    real: Tensor
    z: Tensor
    real_uniform: Tensor
    fake_uniform: Tensor
    negatives: Tensor
    negative_uniform: Tensor


@dataclass(frozen=True)
class StepOptions:
    """How a step is carried out; the same in every step of a run.

    Attributes:
        loss: the adversarial loss.
        augment: applied to every image in front of D.
        batch_size: real images in the batch of all processes.
        negatives: negatives in the batch of all processes.
        negative_share: their weight in D's loss on fakes, in [0, 1).
        autocast: the context of both networks' forward passes.
        one_backward: take G's gradient from D's backward pass. This needs a D that treats each pack
            independently and a loss with `generator_gradient_ratio`.
    """

    loss: AdversarialLoss
    augment: Augmenter
    batch_size: int
    negatives: int
    negative_share: float
    autocast: AbstractContextManager[None]
    one_backward: bool


def training_step(
    generator: nn.Module,
    discriminator: nn.Module,
    generator_optimizer: torch.optim.Optimizer,
    discriminator_optimizer: torch.optim.Optimizer,
    batch: Batch,
    options: StepOptions,
    world: World,
) -> Tensor:
    """Update D and G once, simultaneously, from the same logits of D (Goodfellow et al. 2014 alternate).

    Every process computes the gradients of its share of the batch; their sum is the gradient of the whole
    batch.

    Returns:
        The values of `STATISTICS` over the whole batch, float32 [8], on the device.
    """
    loss, augment, autocast = options.loss, options.augment, options.autocast
    share = len(batch.real) / options.batch_size
    generator_optimizer.zero_grad(set_to_none=True)
    discriminator_optimizer.zero_grad(set_to_none=True)

    with autocast:
        fake = generator(batch.z)
    fake_input = fake.detach().float().requires_grad_() if options.one_backward else fake.float()
    inputs = [
        augment(batch.real, batch.real_uniform),
        augment(fake_input, batch.fake_uniform),
        augment(batch.negatives, batch.negative_uniform),
    ]
    with autocast:
        real_logits, fake_logits, negative_logits = _discriminate(discriminator, inputs)

    discriminator_loss = share * loss.real(real_logits)
    discriminator_loss = discriminator_loss + share * (1 - options.negative_share) * loss.fake(fake_logits)
    if len(batch.negatives):
        weight = options.negative_share * len(batch.negatives) / options.negatives
        discriminator_loss = discriminator_loss + weight * loss.fake(negative_logits)
    generator_loss = share * loss.generator(fake_logits)

    generator_weights = _weights(generator_optimizer)
    discriminator_weights = _weights(discriminator_optimizer)
    if options.one_backward:
        discriminator_loss.backward()
        ratio = loss.generator_gradient_ratio(fake_logits) / (1 - options.negative_share)
        ratio = ratio.repeat_interleave(len(fake) // len(ratio))  # of each image's pack
        fake.backward((fake_input.grad * ratio[:, None, None, None]).to(fake.dtype))
    else:
        discriminator_loss.backward(inputs=discriminator_weights, retain_graph=True)
        generator_loss.backward(inputs=generator_weights)

    statistics = torch.stack(
        [
            discriminator_loss.detach(),
            generator_loss.detach(),
            *_probabilities_and_accuracies(real_logits, fake_logits, share),
        ]
    )
    gradients = [weight.grad for weight in (*discriminator_weights, *generator_weights)]
    world.all_reduce_sum([*(gradient for gradient in gradients if gradient is not None), statistics])
    norms = torch.stack([_gradient_norm(discriminator_weights), _gradient_norm(generator_weights)])
    discriminator_optimizer.step()
    generator_optimizer.step()
    return torch.cat([statistics, norms])


def _discriminate(discriminator: nn.Module, inputs: list[Tensor]) -> list[Tensor]:
    """D's logits for each set of images, a row for each pack; an empty set has none.

    One pass suffices if D treats packs independently. With batch norm, each set has statistics of its own.
    """
    if getattr(discriminator, "independent", False):
        logits = discriminator(torch.cat(inputs))
        pack = sum(map(len, inputs)) // len(logits)
        return list(logits.split([len(images) // pack for images in inputs]))
    return [discriminator(images) if len(images) else images.new_empty(0, 2) for images in inputs]


@torch.no_grad()
def _probabilities_and_accuracies(real_logits: Tensor, fake_logits: Tensor, share: float) -> list[Tensor]:
    """This process's part of D(x), D(G(z)) and both accuracies."""
    real, fake = probability_real(real_logits), probability_real(fake_logits)
    means = (real.mean(), fake.mean(), (real > 0.5).float().mean(), (fake < 0.5).float().mean())
    return [share * mean for mean in means]


def _weights(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [weight for group in optimizer.param_groups for weight in group["params"]]


def _gradient_norm(weights: list[Tensor]) -> Tensor:
    return get_total_norm([weight.grad for weight in weights if weight.grad is not None]).float()
