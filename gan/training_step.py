"""The gradients and updates of one step, in the three forms that the settings can choose.

All of it is done on the device and none of it depends on the step's number but through tensors, so that a
step can be recorded once and replayed: see `engine.cuda_graph`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from engine.distributed import World
from gan.adaptive import AdaptiveAugmentation
from gan.config import Settings
from gan.losses import (
    discriminator_loss,
    generator_loss,
    generator_over_discriminator,
    negative_loss,
    probability_real,
)
from gan.negatives import count_negatives
from gan.networks import Discriminator, Generator

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
"""What each step adds to the running means: losses [nats], the mean of D(x) and D(G(z)), the share of
real and of generated images that D judges rightly, and the norms of both gradients."""


@dataclass(frozen=True)
class Batch:
    """What a step, or a part of one, works on: B real images, and what is drawn for as many fakes.

    Attributes:
        real: float [B, 3, S, S] in [-1, 1].
        z: latent vectors, float32 [B, latent_size] in [-1, 1].
        real_amounts: for `AdaptiveAugmentation.apply`, float32 [B, K] in [0, 1).
        fake_amounts: the same for the fakes,
        second_amounts: and for the second look at them that separate updates take.
        negatives: float [M, 3, S, S] in [-1, 1]; fewer than B, or none.
        negative_amounts: float32 [M, K], as the others.
    """

    real: Tensor
    z: Tensor
    real_amounts: Tensor
    fake_amounts: Tensor
    second_amounts: Tensor
    negatives: Tensor
    negative_amounts: Tensor

    def parts(self, count: int) -> list[Batch]:
        """The same as `count` batches, as equal as can be."""
        split = [getattr(self, field.name).tensor_split(count) for field in fields(self)]
        return [Batch(*tensors) for tensors in zip(*split, strict=True)]


class Updates:
    """Makes the updates of two networks.

    The losses are means over the batch of all processes. What a part of it contributes, be it another
    process's share or a part that this one goes through after another (gradient accumulation), is
    weighted by its number of images and summed: the gradients are those of the whole batch, but that
    batch norm takes the statistics of each part by itself, and spectral norm improves its estimate at each.

    Args:
        generator: with all weights float32, as those of
        discriminator: on one device.
        settings: order of the updates, precision, accumulation, share of negatives and Adam's.
        augmentation: of what D sees.
        world: the processes that work together.
    """

    def __init__(
        self,
        generator: Generator,
        discriminator: Discriminator,
        settings: Settings,
        augmentation: AdaptiveAugmentation,
        world: World,
    ) -> None:
        self._generator, self._discriminator = generator, discriminator
        self._augmentation = augmentation
        self._settings, self._world = settings, world
        self._negative_count = count_negatives(settings)
        self._negative_share = settings.negatives if self._negative_count else 0.0
        self._generator_weights = list(generator.parameters())
        self._discriminator_weights = list(discriminator.parameters())
        self._device = self._generator_weights[0].device
        self.generator_optimizer = self._adam(self._generator_weights)
        self.discriminator_optimizer = self._adam(self._discriminator_weights)

    def make(self, batch: Batch) -> Tensor:
        """Update both networks once, by this process's share of the batch and all others' shares.

        Returns:
            The values of `STATISTICS` over the whole batch, float32 [8], on the device.
        """
        for optimizer in (self.generator_optimizer, self.discriminator_optimizer):
            optimizer.zero_grad(set_to_none=True)
        parts = batch.parts(self._settings.accumulate)
        if self._settings.updates == "separate":
            return self._in_turn(parts)
        backward = self._two_backwards if self._discriminator.has_batch_norm else self._one_backward
        values = torch.stack([backward(part) for part in parts]).sum(0)
        self._add_up([*self._discriminator_weights, *self._generator_weights], values)
        discriminator_norm = self._apply(self.discriminator_optimizer, self._discriminator_weights)
        generator_norm = self._apply(self.generator_optimizer, self._generator_weights)
        return torch.cat([values, discriminator_norm, generator_norm])

    def _in_turn(self, parts: Sequence[Batch]) -> Tensor:
        """D first, then G against the new D, which looks at the fakes again.

        All parts' fakes are kept meanwhile, with what their backward pass needs.
        """
        fakes = [self._fake(part) for part in parts]
        judged = []
        for part, fake in zip(parts, fakes, strict=True):
            real_logits, fake_logits, loss = self._judge(part, fake.detach())
            loss.backward()
            judged.append((loss.detach(), real_logits.detach(), fake_logits.detach()))
        self._add_up(self._discriminator_weights)
        discriminator_norm = self._apply(self.discriminator_optimizer, self._discriminator_weights)
        values = []
        for part, fake, (loss, real_logits, fake_logits) in zip(parts, fakes, judged, strict=True):
            seen = self._augmentation.apply(fake.float(), part.second_amounts)
            with self._autocast():
                loss_of_generator = generator_loss(self._discriminator(seen))
            # Gradients for G alone: D's weights would be filled with what nobody uses.
            self._weighted(loss_of_generator, part).backward(inputs=self._generator_weights)
            values.append(self._values(part, loss, loss_of_generator, real_logits, fake_logits))
        summed = torch.stack(values).sum(0)
        self._add_up(self._generator_weights, summed)
        generator_norm = self._apply(self.generator_optimizer, self._generator_weights)
        return torch.cat([summed, discriminator_norm, generator_norm])

    def _two_backwards(self, part: Batch) -> Tensor:
        """Both networks' gradients from one pass of D, with a backward pass for each loss."""
        real_logits, fake_logits, loss = self._judge(part, self._fake(part))
        loss_of_generator = generator_loss(fake_logits)
        loss.backward(inputs=self._discriminator_weights, retain_graph=True)
        self._weighted(loss_of_generator, part).backward(inputs=self._generator_weights)
        return self._values(part, loss, loss_of_generator, real_logits, fake_logits)

    def _one_backward(self, part: Batch) -> Tensor:
        """As `_two_backwards`, where D treats each image by itself: one backward pass for both losses."""
        fake = self._fake(part)
        seen = fake.detach().float().requires_grad_()
        real_logits, fake_logits, loss = self._judge(part, seen)
        loss.backward()
        assert seen.grad is not None
        factor = generator_over_discriminator(fake_logits, self._negative_share)[:, None, None, None]
        fake.backward((seen.grad * factor).to(fake.dtype))
        return self._values(part, loss, generator_loss(fake_logits.detach()), real_logits, fake_logits)

    def _fake(self, part: Batch) -> Tensor:
        with self._autocast():
            return self._generator(part.z)

    def _judge(self, part: Batch, fake: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """D's logits for real and generated images, and its loss as what the part adds to the batch's.

        With batch norm each kind of image has statistics of its own.
        """
        real = self._augmentation.apply(part.real, part.real_amounts)
        fake = self._augmentation.apply(fake.float(), part.fake_amounts)
        kinds = [real, fake]
        if len(part.negatives):  # of many parts some may have none
            kinds.append(self._augmentation.apply(part.negatives, part.negative_amounts))
        with self._autocast():
            if self._discriminator.has_batch_norm:
                logits = [self._discriminator(images) for images in kinds]
            else:
                logits = [*self._discriminator(torch.cat(kinds)).split([len(images) for images in kinds])]
        real_logits, fake_logits, *negative_logits = logits
        loss = self._weighted(discriminator_loss(real_logits, fake_logits, self._negative_share), part)
        if negative_logits:
            of_negatives = negative_loss(negative_logits[0], self._negative_share)
            loss = loss + of_negatives * (len(part.negatives) / self._negative_count)
        return real_logits, fake_logits, loss

    def _add_up(self, weights: list[Tensor], *more: Tensor) -> None:
        """Sum gradients, and more, over all processes."""
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        self._world.all_reduce_sum([*gradients, *more])

    @staticmethod
    def _apply(optimizer: torch.optim.Optimizer, weights: list[Tensor]) -> Tensor:
        """One update with the gradients there are; their norm, float32 [1]."""
        norm = get_total_norm([weight.grad for weight in weights if weight.grad is not None])
        optimizer.step()
        return norm.float()[None]

    def _weighted(self, loss: Tensor, part: Batch) -> Tensor:
        return loss * (len(part.real) / self._settings.batch_size)

    @torch.no_grad()
    def _values(
        self, part: Batch, loss: Tensor, loss_of_generator: Tensor, real_logits: Tensor, fake_logits: Tensor
    ) -> Tensor:
        """What a part adds to the first six of `STATISTICS`: float32 [6], on the device.

        `loss` is that already.
        """
        real, fake = probability_real(real_logits), probability_real(fake_logits)
        values = [
            loss_of_generator.float(),
            real.mean(),
            fake.mean(),
            (real > 0.5).float().mean(),
            (fake < 0.5).float().mean(),
        ]
        return torch.cat([loss.float()[None], self._weighted(torch.stack(values), part)])

    def _autocast(self) -> torch.autocast:
        return torch.autocast(
            self._device.type, torch.bfloat16, enabled=self._settings.precision == "bfloat16"
        )

    def _adam(self, weights: list[Tensor]) -> torch.optim.Adam:
        return torch.optim.Adam(
            weights,
            lr=self._settings.learning_rate,
            betas=(self._settings.beta1, self._settings.beta2),
            weight_decay=self._settings.weight_decay,
            fused=True,
            capturable=self._device.type == "cuda",
        )
