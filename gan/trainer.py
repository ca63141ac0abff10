"""One training step, and all the state that goes from step to step."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from math import inf
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.cuda_graph import CaptureError, GraphedStep
from engine.device import exact_float32
from engine.distributed import World
from engine.ema import AveragedNetwork
from engine.finite import FiniteCheck
from engine.sync_batch_norm import convert_sync_batchnorm
from gan.adaptive import AdaptiveAugmentation
from gan.augment import flip_half
from gan.config import Settings
from gan.generator import estimate_batch_norm
from gan.latent.vectors import draw
from gan.losses import probability_real
from gan.negatives import AMOUNTS, blend, count_negatives
from gan.networks import Generator, make_networks
from gan.rollback import Recovery, rollback_seed
from gan.training_step import STATISTICS, Batch, Updates
from images.sampler import batch_indices, step_seed
from images.tiles import to_float, to_uint8

SAMPLES = 64
SAMPLING_BATCH = 16
DEVICE_SHARE = 0.5
"""Of a GPU's free memory that the data set may take to be held there."""


class Trainer:
    """Generator, discriminator, their optimizers, the averaged generator, and the step they share.

    What a step draws (latent vectors, flips, augmentation, negatives) depends on the seed and the step's
    number alone, as does the order of the images; so there is no random state to keep, and a step comes
    out the same whether the run was interrupted before it or not. It is drawn for the whole batch, of which
    each process takes its rows: their number makes no difference but by batch norm of each by itself.

    Args:
        settings: with `precision` decided, not `auto`.
        images: the data set, uint8 [N, 3, S, S], in memory or mapped.
        device: where to compute.
        trained: int64 [T], the images that are trained on; all of them if None.
        world: the processes that train together, all with equal settings and images.
    """

    def __init__(
        self,
        settings: Settings,
        images: NDArray[np.uint8],
        device: torch.device,
        trained: NDArray[np.int64] | None = None,
        world: World | None = None,
    ) -> None:
        self.settings = settings
        self.device = device
        self.world = world or World()
        self._rows = self.world.shard(settings.batch_size)
        self._random = torch.Generator(device)
        self._images = images
        self._trained = np.arange(len(images)) if trained is None else trained
        self._images_on_device = _held_on(device, images)
        self._sample_latents = torch.from_numpy(draw(SAMPLES, settings.latent_size, settings.seed))
        negatives = count_negatives(settings)
        self._blended = self.world.shard(negatives)
        # Images of the batch: those that this process works on, and the two that each negative is made of.
        batch = np.arange(settings.batch_size)
        blended = batch[self._blended]
        self._parts = [len(batch[self._rows]), len(blended), len(blended)]
        used = np.concatenate([batch[self._rows], blended, blended + negatives])
        self._needed, places = np.unique(used, return_inverse=True)
        self._used, self._places = (torch.from_numpy(rows).to(device) for rows in (used, places))
        # What a step is given from outside stands in tensors that stay where they are: see `GraphedStep`.
        count = len(self._needed)
        if self._images_on_device is None:
            self._given = torch.empty((count, *images.shape[1:]), dtype=torch.uint8, device=device)
        else:
            self._given = torch.empty(count, dtype=torch.int64, device=device)
        self._number = torch.zeros((), dtype=torch.int64, device=device)
        self._average_share = torch.zeros((), device=device)
        self._source: dict[str, Any] | None = None
        self._begin(settings.seed)

    def _begin(self, seed: int) -> None:
        """Be at step 0, with networks whose weights `seed` decides."""
        settings, device = self.settings, self.device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            generator, discriminator = make_networks(settings)
        self.step_count = 0
        self._estimated_at: int | None = None
        self.generator = generator.to(device, memory_format=torch.channels_last)
        self.discriminator = discriminator.to(device, memory_format=torch.channels_last)
        self.average = (
            AveragedNetwork(self.generator, settings.ema_half_life) if settings.ema_half_life else None
        )
        self._average_given = False
        if self._source:
            self._take_over(self._source)
        if settings.sync_batch_norm and self.world.size > 1:
            for network in self.networks().values():
                convert_sync_batchnorm(network, self.world)
        self._augmentation = AdaptiveAugmentation(settings.augmentation, settings.augmentation_target, device)
        self._updates = Updates(self.generator, self.discriminator, settings, self._augmentation, self.world)
        self._sums = torch.zeros(len(STATISTICS), device=device)
        self._summed = 0
        self.adopt(Recovery())

    def step(self) -> None:
        """Update both networks once, on one batch of real and one of generated images."""
        self._prepare()
        try:
            self._run()
        except CaptureError as refusal:
            print(f"note: no CUDA graph, which costs speed: {refusal}", file=sys.stderr)
            self._run, self._random = self._body, torch.Generator(self.device)
            self._prepare()
            self._run()
        self.step_count += 1
        self._summed += 1

    def _prepare(self) -> None:
        """Set all that differs from step to step."""
        settings, number = self.settings, self.step_count + 1
        self._random.manual_seed(step_seed(self._seed, self.step_count))
        self._number.fill_(number)
        if self.average:
            seen = inf if self._average_given else number * settings.batch_size
            share = self.average.lerp_weight(settings.batch_size, seen)
            self._average_share.fill_(share)
        order = batch_indices(len(self._trained), settings.batch_size, self.step_count, self._seed)
        chosen = self._trained[order[self._needed]]
        given = torch.from_numpy(chosen if self._images_on_device is not None else self._images[chosen])
        if self.device.type == "cuda":
            given = given.pin_memory()  # or the copy would wait for the steps that are under way
        self._given.copy_(given, non_blocking=True)

    def _body(self) -> None:
        """The step, from what `_prepare` has set: the same work on the device whatever its number."""
        values = self._updates.make(self._batch())
        self._augmentation.update(values[STATISTICS.index("accuracy/real")], self.settings.batch_size)
        if self.average:
            self.average.update(self.generator, self._average_share)
        self._sums += values
        self._latch.watch(self._number, values)

    def _batch(self) -> Batch:
        settings, augmenting = self.settings, self._augmentation.amounts
        widths = [1, settings.latent_size, *3 * [augmenting]]
        # A run without negatives draws what it would if there were no such thing.
        widths += [augmenting, AMOUNTS] if count_negatives(settings) else [0, 0]
        drawn = torch.rand(settings.batch_size, sum(widths), generator=self._random, device=self.device)
        _, latents, *amounts = drawn[self._rows].split(widths, dim=1)
        *_, negative_amounts, blending = drawn[self._blended].split(widths, dim=1)
        images = self._real_images()[self._places]
        if settings.flip:
            images = flip_half(images, drawn[self._used, 0])
        real, some, others = images.split(self._parts)
        negatives = blend(some, others, blending) if len(some) else some
        return Batch(real, latents * 2 - 1, *amounts[:3], negatives, negative_amounts)

    def check_finite(self) -> None:
        """Raise `DivergedError`, naming the step, if a loss or gradient norm of any step was not finite."""
        self._latch.check()

    def statistics(self) -> dict[str, float]:
        """The means of `STATISTICS` over the steps since they were last asked for.

        And the share of the images that is augmented now, where that adapts.
        """
        means = (self._sums / max(self._summed, 1)).tolist()
        self._sums.zero_()
        self._summed = 0
        share = {"augmentation/share": float(self._augmentation.share)} if self._augmentation.adaptive else {}
        return dict(zip(STATISTICS, means, strict=True)) | share

    def samples(self) -> NDArray[np.uint8]:
        """The run's 64 faces as they are now, uint8 [64, 3, S, S], always from the same vectors."""
        return self.generate(self._sample_latents)

    @torch.no_grad()
    def generate(self, latents: Tensor) -> NDArray[np.uint8]:
        """Latent vectors, float32 [N, latent_size], to images uint8 [N, 3, S, S].

        By the averaged generator where there is one, in float32.
        """
        network = self._averaged() or self.generator
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

    @property
    def local_batch_size(self) -> int:
        """This process's share of a batch."""
        return self._rows.stop - self._rows.start

    def networks(self) -> dict[str, torch.nn.Module]:
        """The networks trained, by name."""
        return {"generator": self.generator, "discriminator": self.discriminator}

    def state(self) -> dict[str, Any]:
        """All that a checkpoint must hold to go on from here; the average's batch norms are made right."""
        average = self._averaged()
        return {
            "generator": self.generator.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "average": average.state_dict() if average else None,
            **{name: optimizer.state_dict() for name, optimizer in self._optimizers().items()},
            "average_given": self._average_given,
            "sums": self._sums,
            "summed": self._summed,
            "augmented_share": self._augmentation.share,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave, after the step that `state["step"]` tells.

        Learning rate, betas and weight decay stay those of the settings; see `adopt` for the first.
        """
        self.load_networks(state)
        self._average_given = state.get("average_given", False)  # before it told, all ramped up
        for name, optimizer in self._optimizers().items():
            optimizer.load_state_dict(state[name] | {"param_groups": optimizer.state_dict()["param_groups"]})
        self._sums.copy_(state["sums"])
        self._summed = state["summed"]
        self._augmentation.share.fill_(state.get("augmented_share", 1.0))  # before it adapted: all
        self.step_count = state["step"]

    def go_back(self, recovery: Recovery, state: dict[str, Any] | None) -> None:
        """Begin once more from an earlier step, in the gentler form of `recovery`.

        Args:
            recovery: how often the run has gone back, this time included.
            state: what `state` gave at that step; None for step 0, with other weights than the first time, or
                those that `initialize_from` gave.
        """
        if state is None:
            self._begin(rollback_seed(self.settings.seed, recovery.salt))
        else:
            self.load_state(state)
        self.adopt(recovery)

    def adopt(self, recovery: Recovery) -> None:
        """Draw what steps need, and choose the learning rate, as a run does after this recovery."""
        self._seed = rollback_seed(self.settings.seed, recovery.salt)
        self._latch = FiniteCheck(self.device)
        self._run: Callable[[], None] = self._body
        if self.device.type == "cuda" and self.settings.cuda_graph:
            self._run = GraphedStep(self._body, self._random)
        networks = [*self.networks().values(), *([self.average.network] if self.average else [])]
        # Equal seeds draw equal weights, but perhaps not to the last bit on unlike processors.
        self.world.broadcast([tensor for network in networks for tensor in network.state_dict().values()])
        for optimizer in self._optimizers().values():
            for group in optimizer.param_groups:
                group["lr"] = self.settings.learning_rate * recovery.rate_factor

    def release(self) -> None:
        """Let go of the CUDA graph: NCCL does not end before every graph that holds one of its sums has."""
        self._run = self._body

    def initialize_from(self, state: dict[str, Any]) -> None:
        """Take over the networks of another run's checkpoint, now and whenever this one starts again.

        An average that comes with them goes on at its full half-life, as it has no start to forget.
        """
        self._source = {name: state[name] for name in (*self.networks(), "average")}
        self._take_over(self._source)

    def _take_over(self, source: dict[str, Any]) -> None:
        self.load_networks(source)
        self._average_given = self.average is not None and source["average"] is not None

    def load_networks(self, state: dict[str, Any]) -> None:
        """Take over the networks of a checkpoint and nothing else; an average it lacks starts anew."""
        self.generator.load_state_dict(state["generator"])
        self.discriminator.load_state_dict(state["discriminator"])
        if self.average:
            self.average.network.load_state_dict(state["average"] or state["generator"])
            self._estimated_at = None

    def _real_images(self) -> Tensor:
        given, images = self._given, self._images_on_device
        return to_float(given if images is None else images[given])

    def _averaged(self) -> Generator | None:
        """The averaged generator, if there is one, with its batch norms made right for its weights."""
        if self.average is None:
            return None
        if self._estimated_at != self.step_count:  # else a step that is sampled, scored and saved pays thrice
            estimate_batch_norm(self.average.network, self.settings.seed)
            self._estimated_at = self.step_count
        return self.average.network

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.precision == "bfloat16")

    def _optimizers(self) -> dict[str, torch.optim.Adam]:
        return {
            "generator_optimizer": self._updates.generator_optimizer,
            "discriminator_optimizer": self._updates.discriminator_optimizer,
        }


def _held_on(device: torch.device, images: NDArray[np.uint8]) -> Tensor | None:
    """The data set on a GPU where there is room, so that no step waits for a transfer; else None."""
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    return torch.tensor(images, device=device) if images.nbytes <= DEVICE_SHARE * free else None
