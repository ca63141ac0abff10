"""One training step, and all the state that goes from step to step."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils import get_total_norm

from gan.augment import augment, flip_half
from gan.batches import batch_indices, step_seed
from gan.config import Settings
from gan.ema import AveragedNetwork, estimate_batch_norm
from gan.hardware import exact_float32
from gan.health import FiniteLatch
from gan.images import to_float, to_uint8
from gan.latent import draw
from gan.losses import (
    discriminator_loss,
    generator_loss,
    generator_over_discriminator,
    probability_real,
)
from gan.networks import Discriminator, Generator
from gan.recovery import Recovery, salted

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

SAMPLES = 64
SAMPLING_BATCH = 16
DEVICE_SHARE = 0.5
"""Of a GPU's free memory that the data set may take to be held there."""


class Trainer:
    """Generator, discriminator, their optimizers, the averaged generator, and the step they share.

    What a step draws (latent vectors, flips, augmentation) depends on the seed and the step's number
    alone, as does the order of the images; so there is no random state to keep, and a step comes out
    the same whether the run was interrupted before it or not.

    Args:
        settings: with `precision` decided, not `auto`.
        images: the data set, uint8 [N, 3, S, S], in memory or mapped.
        device: where to compute.
        trained: int64 [T], the images that are trained on; all of them if None.
    """

    def __init__(
        self,
        settings: Settings,
        images: NDArray[np.uint8],
        device: torch.device,
        trained: NDArray[np.int64] | None = None,
    ) -> None:
        self.settings = settings
        self.device = device
        self._random = torch.Generator(device)
        self._images = images
        self._trained = np.arange(len(images)) if trained is None else trained
        self._images_on_device = _held_on(device, images)
        self._sample_latents = torch.from_numpy(draw(SAMPLES, settings.latent_size, settings.seed))
        self._begin(settings.seed)

    def _begin(self, seed: int) -> None:
        """Be at step 0, with networks whose weights `seed` decides."""
        settings, device = self.settings, self.device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            generator = Generator(settings.generator_widths, settings.latent_size, settings.image_size)
            discriminator = Discriminator(
                settings.discriminator_widths,
                settings.image_size,
                settings.normalisation,
                settings.head_scale,
            )
        self.step_count = 0
        self.generator = generator.to(device, memory_format=torch.channels_last)
        self.discriminator = discriminator.to(device, memory_format=torch.channels_last)
        self.average = (
            AveragedNetwork(self.generator, settings.ema_half_life) if settings.ema_half_life else None
        )
        self._generator_weights = list(self.generator.parameters())
        self._discriminator_weights = list(self.discriminator.parameters())
        self._generator_optimizer = self._adam(self._generator_weights)
        self._discriminator_optimizer = self._adam(self._discriminator_weights)
        self._sums = torch.zeros(len(STATISTICS), device=device)
        self._summed = 0
        self.adopt(Recovery())

    def step(self) -> None:
        """Update both networks once, on one batch of real and one of generated images."""
        settings = self.settings
        self._random.manual_seed(step_seed(self._seed, self.step_count))
        real = self._real_images()
        z = torch.rand(len(real), settings.latent_size, generator=self._random, device=self.device) * 2 - 1
        with self._autocast():
            fake = self.generator(z)
        if settings.updates == "separate":
            losses = self._update_in_turn(real, fake)
        elif self.discriminator.couples_images:
            losses = self._update_together(real, fake)
        else:
            losses = self._update_by_one_backward(real, fake)
        self.step_count += 1
        if self.average:
            self.average.update(self.generator, len(real), self.step_count * len(real))
        self._sums += losses
        self._summed += 1
        self._latch.watch(self.step_count, losses)

    def check_finite(self) -> None:
        """Raise `DivergedError`, naming the step, if a loss or gradient norm of any step was not finite."""
        self._latch.check()

    def statistics(self) -> dict[str, float]:
        """The means of `STATISTICS` over the steps since they were last asked for."""
        means = (self._sums / max(self._summed, 1)).tolist()
        self._sums.zero_()
        self._summed = 0
        return dict(zip(STATISTICS, means, strict=True))

    def samples(self) -> NDArray[np.uint8]:
        """The run's 64 faces as they are now, uint8 [64, 3, S, S], always from the same vectors."""
        return self.generate(self._sample_latents)

    @torch.no_grad()
    def generate(self, latents: Tensor) -> NDArray[np.uint8]:
        """Latent vectors, float32 [N, latent_size], to images uint8 [N, 3, S, S].

        By the averaged generator where there is one, in float32.
        """
        network = self._sampling_generator()
        was_training = network.training
        network.eval()
        with exact_float32():
            images = [to_uint8(network(z.to(self.device)).cpu()) for z in latents.split(SAMPLING_BATCH)]
        network.train(was_training)
        return torch.cat(images).numpy()

    @torch.no_grad()
    def belief(self, images: NDArray[np.uint8]) -> float:
        """The mean of D(x) in [0, 1] over real images, uint8 [N, 3, S, S], as they are.

        With batch norm D judges a batch by its own statistics, as in training; batches are of one
        size, so that the means over two sets can be compared. What is left over is not looked at.
        """
        judge = copy.deepcopy(self.discriminator)  # a look must leave no trace in running statistics
        size = min(self.settings.batch_size, len(images))
        beliefs = []
        for first in range(0, len(images) - size + 1, size):
            batch = to_float(torch.from_numpy(images[first : first + size]).to(self.device))
            with self._autocast():
                beliefs.append(probability_real(judge(batch)).mean())
        return float(torch.stack(beliefs).mean())

    def networks(self) -> dict[str, torch.nn.Module]:
        """The networks trained, by name."""
        return {"generator": self.generator, "discriminator": self.discriminator}

    def state(self) -> dict[str, Any]:
        """All that a checkpoint must hold to go on from here; the average's batch norms are made right."""
        if self.average:
            estimate_batch_norm(self.average.network, self.settings.seed)
        return {
            "generator": self.generator.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "average": self.average.network.state_dict() if self.average else None,
            **{name: optimizer.state_dict() for name, optimizer in self._optimizers().items()},
            "sums": self._sums,
            "summed": self._summed,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave, after the step that `state["step"]` tells.

        Learning rate, betas and weight decay stay those of the settings; see `adopt` for the first.
        """
        self.load_networks(state)
        for name, optimizer in self._optimizers().items():
            optimizer.load_state_dict(state[name] | {"param_groups": optimizer.state_dict()["param_groups"]})
        self._sums.copy_(state["sums"])
        self._summed = state["summed"]
        self.step_count = state["step"]

    def go_back(self, recovery: Recovery, state: dict[str, Any] | None) -> None:
        """Begin once more from an earlier step, in the gentler form of `recovery`.

        Args:
            recovery: how often the run has gone back, this time included.
            state: what `state` gave at that step; None for step 0, with other weights than the first time.
        """
        if state is None:
            self._begin(salted(self.settings.seed, recovery.salt))
        else:
            self.load_state(state)
        self.adopt(recovery)

    def adopt(self, recovery: Recovery) -> None:
        """Draw what steps need, and choose the learning rate, as a run does after this recovery."""
        self._seed = salted(self.settings.seed, recovery.salt)
        self._latch = FiniteLatch(self.device)
        for optimizer in self._optimizers().values():
            for group in optimizer.param_groups:
                group["lr"] = self.settings.learning_rate * recovery.rate_factor

    def load_networks(self, state: dict[str, Any]) -> None:
        """Take over the networks of a checkpoint and nothing else; an average it lacks starts anew."""
        self.generator.load_state_dict(state["generator"])
        self.discriminator.load_state_dict(state["discriminator"])
        if self.average:
            self.average.network.load_state_dict(state["average"] or state["generator"])

    def _update_in_turn(self, real: Tensor, fake: Tensor) -> Tensor:
        """D first, then G against the new D, which looks at the fakes again."""
        with self._autocast():
            real_logits, fake_logits = self._judge(real, fake.detach())
        loss = discriminator_loss(real_logits, fake_logits)
        loss.backward()
        discriminator_norm = self._apply(self._discriminator_optimizer, self._discriminator_weights)
        with self._autocast():
            loss_of_generator = generator_loss(self.discriminator(self._augmented(fake.float())))
        # Gradients for G alone: D's weights would be filled with what nobody uses.
        loss_of_generator.backward(inputs=self._generator_weights)
        generator_norm = self._apply(self._generator_optimizer, self._generator_weights)
        return _summary(
            loss, loss_of_generator, real_logits, fake_logits, discriminator_norm, generator_norm
        )

    def _update_together(self, real: Tensor, fake: Tensor) -> Tensor:
        """Both from one pass of D, with a backward pass for each loss, and only then both updates."""
        with self._autocast():
            real_logits, fake_logits = self._judge(real, fake)
        loss = discriminator_loss(real_logits, fake_logits)
        loss_of_generator = generator_loss(fake_logits)
        loss.backward(inputs=self._discriminator_weights, retain_graph=True)
        loss_of_generator.backward(inputs=self._generator_weights)
        return self._apply_both(loss, loss_of_generator, real_logits, fake_logits)

    def _update_by_one_backward(self, real: Tensor, fake: Tensor) -> Tensor:
        """As `_update_together`, where D treats each image by itself: one backward pass for both losses."""
        seen = fake.detach().float().requires_grad_()
        with self._autocast():
            real_logits, fake_logits = self._judge(real, seen)
        loss = discriminator_loss(real_logits, fake_logits)
        loss.backward()
        assert seen.grad is not None
        factor = generator_over_discriminator(fake_logits)[:, None, None, None]
        fake.backward((seen.grad * factor).to(fake.dtype))
        return self._apply_both(loss, generator_loss(fake_logits.detach()), real_logits, fake_logits)

    def _judge(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        """D's logits for real and generated images; with batch norm each batch has statistics of its own."""
        if self.discriminator.couples_images:
            real_logits = self.discriminator(self._augmented(real))
            return real_logits, self.discriminator(self._augmented(fake.float()))
        both = self._augmented(torch.cat([real, fake.float()]))
        real_logits, fake_logits = self.discriminator(both).chunk(2)
        return real_logits, fake_logits

    def _augmented(self, images: Tensor) -> Tensor:
        return augment(images, self.settings.augmentation, self._random)

    def _apply_both(
        self, loss: Tensor, loss_of_generator: Tensor, real_logits: Tensor, fake_logits: Tensor
    ) -> Tensor:
        discriminator_norm = self._apply(self._discriminator_optimizer, self._discriminator_weights)
        generator_norm = self._apply(self._generator_optimizer, self._generator_weights)
        return _summary(
            loss, loss_of_generator, real_logits, fake_logits, discriminator_norm, generator_norm
        )

    @staticmethod
    def _apply(optimizer: torch.optim.Optimizer, weights: list[Tensor]) -> Tensor:
        """One update with the gradients there are, which are then dropped; their norm."""
        norm = get_total_norm([weight.grad for weight in weights if weight.grad is not None])
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return norm

    def _real_images(self) -> Tensor:
        chosen = batch_indices(
            len(self._trained), self.settings.batch_size, self.step_count, self._seed
        )
        indices = self._trained[chosen]
        if self._images_on_device is not None:
            batch = self._images_on_device[torch.from_numpy(indices).to(self.device, non_blocking=True)]
        else:
            batch = torch.from_numpy(self._images[indices]).to(self.device, non_blocking=True)
        images = to_float(batch)
        return flip_half(images, self._random) if self.settings.flip else images

    def _sampling_generator(self) -> Generator:
        if self.average is None:
            return self.generator
        estimate_batch_norm(self.average.network, self.settings.seed)
        return self.average.network

    def _autocast(self) -> torch.autocast:
        return torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.settings.precision == "bfloat16"
        )

    def _optimizers(self) -> dict[str, torch.optim.Adam]:
        return {
            "generator_optimizer": self._generator_optimizer,
            "discriminator_optimizer": self._discriminator_optimizer,
        }

    def _adam(self, weights: list[Tensor]) -> torch.optim.Adam:
        return torch.optim.Adam(
            weights,
            lr=self.settings.learning_rate,
            betas=(self.settings.beta1, self.settings.beta2),
            weight_decay=self.settings.weight_decay,
            fused=True,
        )


def _held_on(device: torch.device, images: NDArray[np.uint8]) -> Tensor | None:
    """The data set on a GPU where there is room, so that no step waits for a transfer; else None."""
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    return torch.tensor(images, device=device) if images.nbytes <= DEVICE_SHARE * free else None


@torch.no_grad()
def _summary(
    loss: Tensor,
    loss_of_generator: Tensor,
    real_logits: Tensor,
    fake_logits: Tensor,
    discriminator_norm: Tensor,
    generator_norm: Tensor,
) -> Tensor:
    """A step's values in the order of `STATISTICS`: float32 [8], on the device."""
    real, fake = probability_real(real_logits), probability_real(fake_logits)
    return torch.stack(
        [
            loss.float(),
            loss_of_generator.float(),
            real.mean(),
            fake.mean(),
            (real > 0.5).float().mean(),
            (fake < 0.5).float().mean(),
            discriminator_norm.float(),
            generator_norm.float(),
        ]
    )
