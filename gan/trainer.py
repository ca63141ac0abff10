"""The state that a GAN run carries from step to step: networks, optimizers, average and seeds."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from functools import partial
from math import inf
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.cuda_graph import CaptureError, GraphedStep
from engine.distributed import World
from engine.ema import AveragedNetwork
from engine.finite import FiniteCheck
from engine.sync_batch_norm import convert_sync_batchnorm
from gan import fast_conv, losses, negatives
from gan.augment import Augmenter, flip
from gan.config import BETA1, Settings
from gan.curves import RANKED_BY
from gan.generator import estimate_batch_norm, generate
from gan.latent.vectors import draw
from gan.networks import Generator, make_discriminator, make_generator
from gan.rollback import Rollback, rollback_seed
from gan.training_step import STATISTICS, Batch, StepOptions, training_step
from images.sampler import batch_indices, step_seed
from images.tiles import to_float

SAMPLES = 64
DEVICE_SHARE = 0.5
"""Share of a GPU's free memory that the data set may take to be kept there."""


class Trainer:
    """Generator, discriminator, their optimizers, the averaged generator, and the step they share.

    All random draws (latent vectors, flips, augmentation, negatives) and the order of the images depend on
    the seed and the step's number alone. So there is no random state to store, and an interruption does not
    change a step. Each process draws for the whole batch and takes its own rows, so the number of processes
    makes no difference.

    Args:
        settings: with `precision` decided, not `auto`.
        images: the data set, uint8 [N, 3, S, S], in memory or mapped.
        device: where to compute.
        training_indices: int64 [T], the images that are trained on; all of them if None.
        world: the processes that train together, all with equal settings and images.
        cuda_graph: on a GPU, record a step once as a CUDA graph and replay it.
    """

    ranked_by = RANKED_BY
    weight_keys = ("generator", "discriminator", "average")

    def __init__(
        self,
        settings: Settings,
        images: NDArray[np.uint8],
        device: torch.device,
        training_indices: NDArray[np.int64] | None = None,
        world: World | None = None,
        *,
        cuda_graph: bool = True,
    ) -> None:
        self.settings = settings
        self.device = device
        self.world = world or World()
        self.cuda_graph = cuda_graph and device.type == "cuda"
        self._images = images
        self._indices = np.arange(len(images)) if training_indices is None else training_indices
        self._images_on_device = _copy_to_device(images, device)
        self._sample_latents = torch.from_numpy(draw(SAMPLES, settings.latent_size, settings.seed))
        self._random = torch.Generator(device)
        self._plan_shards()
        # A step reads its inputs from tensors with fixed addresses: see `GraphedStep`.
        count = self._needed.stop - self._needed.start
        if self._images_on_device is None:
            self._input = torch.empty((count, *images.shape[1:]), dtype=torch.uint8, device=device)
        else:
            self._input = torch.empty(count, dtype=torch.int64, device=device)
        self._number = torch.zeros((), dtype=torch.int64, device=device)
        self._ema_weight = torch.zeros((), device=device)
        self._source: dict[str, Any] | None = None
        self._start(settings.seed)

    def _plan_shards(self) -> None:
        """Decide which rows of a batch this process trains on, and which its negatives are made from."""
        settings = self.settings
        self._negatives = negatives.count_negatives(settings.negatives, settings.batch_size, settings.pack)
        self._rows = self._shard(settings.batch_size)
        self._negative_rows = self._shard(self._negatives)
        pairs = negatives.first_images(self._negatives, settings.batch_size)[self._negative_rows]
        positions = [self._rows.start, self._rows.stop - 1, *pairs.tolist(), *(pairs + 1).tolist()]
        self._needed = slice(min(positions), max(positions) + 1)
        self._pairs = (pairs - self._needed.start).to(self.device)

    def _shard(self, images: int) -> slice:
        """This process's rows of a batch, in whole packs."""
        pack = self.settings.pack
        packs = self.world.shard(images // pack)
        return slice(packs.start * pack, packs.stop * pack)

    def _start(self, seed: int) -> None:
        """Go to step 0, with networks initialised by `seed`."""
        settings, device = self.settings, self.device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            generator, discriminator = make_generator(settings), make_discriminator(settings)
        self.step_count = 0
        self._estimated_at: int | None = None
        self.generator = generator.to(device, memory_format=torch.channels_last)
        self.discriminator = discriminator.to(device, memory_format=torch.channels_last)
        half_life = settings.ema_half_life
        self.average = AveragedNetwork(self.generator, half_life) if half_life else None
        self._average_warm = False
        if self._source:
            self._copy_source(self._source)
        for network in self.networks().values():
            fast_conv.convert(network)
            if self.world.size > 1:
                convert_sync_batchnorm(network, self.world)
        self._generator_optimizer = self._adam(self.generator)
        self._discriminator_optimizer = self._adam(self.discriminator)
        self._augment = Augmenter(settings.augmentation, device)
        self._sums = torch.zeros(len(STATISTICS), device=device)
        self._summed = 0
        self.apply_rollback(Rollback())

    def step(self) -> None:
        """Update both networks once, on one batch of real and one of generated images."""
        self._prepare()
        try:
            self._run()
        except CaptureError as error:
            print(f"note: no CUDA graph, which costs speed: {error}", file=sys.stderr)
            self._run, self._random = self._step_on_device, torch.Generator(self.device)
            self._prepare()
            self._run()
        self.step_count += 1
        self._summed += 1

    def _prepare(self) -> None:
        """Set everything that differs from step to step."""
        settings, number = self.settings, self.step_count + 1
        self._random.manual_seed(step_seed(self._seed, self.step_count))
        self._number.fill_(number)
        if self.average:
            images_seen = inf if self._average_warm else number * settings.batch_size
            self._ema_weight.fill_(self.average.lerp_weight(settings.batch_size, images_seen))
        order = batch_indices(len(self._indices), settings.batch_size, self.step_count, self._seed)
        chosen = self._indices[order[self._needed]]
        host = torch.from_numpy(chosen if self._images_on_device is not None else self._images[chosen])
        if self.device.type == "cuda":
            host = host.pin_memory()  # or the copy would wait for the steps in flight
        self._input.copy_(host, non_blocking=True)

    def _step_on_device(self) -> None:
        """The step, from what `_prepare` has set: the same work on the device in every step."""
        values = self._training_step(self._batch())
        self._augment.adapt(values[STATISTICS.index("accuracy/real")], self.settings.batch_size)
        if self.average:
            self.average.update(self.generator, self._ema_weight)
        self._sums += values
        self._finite.watch(self._number, values)

    def _batch(self) -> Batch:
        """This process's share of the batch."""
        settings, numbers = self.settings, self._augment.numbers_per_image
        widths = [1, settings.latent_size, numbers, numbers]
        if self._negatives:
            widths += [numbers, negatives.NUMBERS_PER_IMAGE]
        uniform = torch.rand(settings.batch_size, sum(widths), generator=self._random, device=self.device)
        stored = self._input if self._images_on_device is None else self._images_on_device[self._input]
        images = to_float(stored)
        if settings.flip:
            images = flip(images, uniform[self._needed, 0])
        start = self._rows.start - self._needed.start
        real = images[start : start + self.local_batch_size]
        _, z, real_uniform, fake_uniform, *_ = uniform[self._rows].split(widths, dim=1)
        if not self._negatives:
            return Batch(real, z * 2 - 1, real_uniform, fake_uniform, real[:0], real_uniform[:0])
        *_, negative_uniform, patches = uniform[self._negative_rows].split(widths, dim=1)
        blended = negatives.blend(images[self._pairs], images[self._pairs + 1], patches)
        return Batch(real, z * 2 - 1, real_uniform, fake_uniform, blended, negative_uniform)

    def check_finite(self) -> None:
        """Raise `DivergedError`, naming the step, if a loss or gradient norm of any step was not finite."""
        self._finite.check()

    def statistics(self) -> dict[str, float]:
        """The means of `STATISTICS` over the steps since the last call.

        With adaptive augmentation also the share of images that is augmented now.
        """
        means = (self._sums / max(self._summed, 1)).tolist()
        self._sums.zero_()
        self._summed = 0
        share = {"augmentation/share": float(self._augment.share)} if self._augment.adaptive else {}
        return dict(zip(STATISTICS, means, strict=True)) | share

    def samples(self) -> NDArray[np.uint8]:
        """The run's 64 faces, always from the same latent vectors, uint8 [64, 3, S, S]."""
        return self.generate(self._sample_latents)

    def generate(self, latents: Tensor, *, raw: bool = False) -> NDArray[np.uint8]:
        """Latent vectors, float32 [N, latent_size], to images uint8 [N, 3, S, S], in float32.

        By the averaged generator where there is one, unless `raw`.
        """
        return generate((not raw and self._averaged()) or self.generator, latents)

    @torch.no_grad()
    def mean_probability_real(self, images: NDArray[np.uint8]) -> float:
        """The mean of D(x) in [0, 1] over unaugmented images, uint8 [N, 3, S, S].

        Images that are far apart form a pack: neighbours in a folder often show one person. With batch norm,
        D uses each batch's own statistics, as in training. All batches have one size, so that the means over
        two sets can be compared; a remainder is ignored.
        """
        discriminator = copy.deepcopy(self.discriminator)  # a forward pass changes running statistics
        pack = self.settings.pack
        size = min(self.settings.batch_size, len(images)) // pack * pack
        order = np.arange(size).reshape(pack, -1).T.ravel()
        means = []
        for first in range(0, len(images) - size + 1, size):
            batch = to_float(torch.from_numpy(images[first : first + size][order]).to(self.device))
            with self._autocast():
                means.append(losses.probability_real(discriminator(batch)).mean())
        return float(torch.stack(means).mean())

    @property
    def local_batch_size(self) -> int:
        """Real images in this process's share of a batch."""
        return self._rows.stop - self._rows.start

    def networks(self) -> dict[str, nn.Module]:
        """The trained networks by name."""
        return {"generator": self.generator, "discriminator": self.discriminator}

    def state(self) -> dict[str, Any]:
        """Everything that a checkpoint needs to resume from here."""
        average = self._averaged()
        return {
            "generator": self.generator.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "average": average.state_dict() if average else None,
            **{name: optimizer.state_dict() for name, optimizer in self._optimizers().items()},
            "average_given": self._average_warm,
            "sums": self._sums,
            "summed": self._summed,
            "augmented_share": self._augment.share,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Resume from what `state` returned after the step `state["step"]`.

        Learning rate and betas stay those of the settings. Call `apply_rollback` afterwards.
        """
        self.load_networks(state)
        self._average_warm = state.get("average_given", False)
        for name, optimizer in self._optimizers().items():
            optimizer.load_state_dict(state[name] | {"param_groups": optimizer.state_dict()["param_groups"]})
        self._sums.copy_(state["sums"])
        self._summed = state["summed"]
        self._augment.share.fill_(state.get("augmented_share", 1.0))
        self.step_count = state["step"]

    def roll_back(self, rollback: Rollback, state: dict[str, Any] | None) -> None:
        """Resume from an earlier step with other random numbers and a smaller learning rate.

        Args:
            rollback: how often the run has rolled back, including this time.
            state: what `state` returned at that step; None to start over, with new weights or those that
                `initialize_from` was given.
        """
        if state is None:
            self._start(rollback_seed(self.settings.seed, rollback.times))
        else:
            self.load_state(state)
        self.apply_rollback(rollback)

    def apply_rollback(self, rollback: Rollback) -> None:
        """Set the random seed and learning rate for this number of rollbacks, and prepare the step anew.

        Loading a state requires it too: a captured graph refers to the optimizers' old tensors.
        """
        self._seed = rollback_seed(self.settings.seed, rollback.times)
        self._finite = FiniteCheck(self.device)
        independent = getattr(self.discriminator, "independent", False)
        loss = losses.adversarial_loss
        options = StepOptions(
            loss=loss,
            augment=self._augment,
            batch_size=self.settings.batch_size,
            negatives=self._negatives,
            negative_share=self.settings.negatives if self._negatives else 0.0,
            autocast=self._autocast(),
            one_backward=independent and losses.has_valid_ratio(loss),
        )
        networks = (self.generator, self.discriminator)
        optimizers = (self._generator_optimizer, self._discriminator_optimizer)
        self._training_step = partial(
            training_step, *networks, *optimizers, options=options, world=self.world
        )
        self._run: Callable[[], None] = self._step_on_device
        if self.cuda_graph:
            self._run = GraphedStep(self._step_on_device, self._random)
        averaged = [self.average.network] if self.average else []
        # Equal seeds may give weights that differ in the last bit between processors.
        self.world.broadcast(
            [tensor for network in (*networks, *averaged) for tensor in network.state_dict().values()]
        )
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.settings.learning_rate * rollback.rate_factor

    def release(self) -> None:
        """Drop the CUDA graph: NCCL cannot shut down while a graph contains its collectives."""
        self._run = self._step_on_device

    def initialize_from(self, state: dict[str, Any]) -> None:
        """Copy the networks of another run's checkpoint, now and whenever this run starts over.

        An average among them continues at its full half-life, without warm-up.
        """
        self._source = {name: state[name] for name in self.weight_keys}
        self._copy_source(self._source)

    def _copy_source(self, source: dict[str, Any]) -> None:
        self.load_networks(source)
        self._average_warm = self.average is not None and source["average"] is not None

    def load_networks(self, state: dict[str, Any]) -> None:
        """Copy the networks of a checkpoint and nothing else; a missing average starts anew."""
        self.generator.load_state_dict(state["generator"])
        self.discriminator.load_state_dict(state["discriminator"])
        if self.average:
            self.average.network.load_state_dict(state["average"] or state["generator"])
            self._estimated_at = None

    def _averaged(self) -> Generator | None:
        """The averaged generator, if there is one, with the batch-norm statistics of its weights."""
        if self.average is None:
            return None
        if self._estimated_at != self.step_count:  # a step may be sampled, scored and saved
            estimate_batch_norm(self.average.network, self.settings.seed)
            self._estimated_at = self.step_count
        return self.average.network

    def _autocast(self) -> torch.autocast:
        enabled = self.settings.precision == "bfloat16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled)

    def _adam(self, network: nn.Module) -> torch.optim.Adam:
        betas = (BETA1, self.settings.beta2)
        capturable = self.device.type == "cuda"
        return torch.optim.Adam(
            network.parameters(), self.settings.learning_rate, betas, fused=True, capturable=capturable
        )

    def _optimizers(self) -> dict[str, torch.optim.Adam]:
        return {
            "generator_optimizer": self._generator_optimizer,
            "discriminator_optimizer": self._discriminator_optimizer,
        }


def _copy_to_device(images: NDArray[np.uint8], device: torch.device) -> Tensor | None:
    """The data set on a GPU with enough room, so that no step waits for a transfer; else None."""
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    return torch.tensor(images, device=device) if images.nbytes <= DEVICE_SHARE * free else None
