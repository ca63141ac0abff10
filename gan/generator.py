"""Trained generators, loaded from checkpoints, and the batch-norm statistics that averaged weights need."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from engine.checkpoint import load_selected
from engine.device import choose_device, exact_float32
from engine.ema import estimate_batch_norm_statistics
from engine.errors import UserError
from engine.runs import best_path, find_run
from engine.settings import Device
from gan.config import Settings, read_info
from gan.networks import Generator, make_networks
from images.tiles import to_uint8

SAMPLING_BATCH = 16


@dataclass(frozen=True)
class LoadedGenerator:
    """A trained generator and where it comes from."""

    network: Generator
    run: Path
    checkpoint: Path
    step: int
    weights: str
    """`ema` for the averaged ones, `raw` for those of the last step."""
    settings: Settings

    @property
    def is_best(self) -> bool:
        """Whether these are the networks that the run keeps for their score."""
        return self.checkpoint == best_path(self.run)

    @property
    def seed(self) -> int:
        """The run's seed, from which its sample grids' latent vectors are drawn."""
        return self.settings.seed

    @property
    def latent_size(self) -> int:
        """Values in a latent vector."""
        return self.network.latent_size

    @property
    def image_size(self) -> int:
        """Side of the images in pixels."""
        return self.network.image_size

    @torch.no_grad()
    def images(self, z: ArrayLike) -> NDArray[np.uint8]:
        """Latent vectors [N, latent_size], usually in [-1, 1], to images uint8 [N, 3, S, S].

        In float32 and with the stored batch-norm statistics: each image depends on its own vector
        alone, whatever stands beside it.
        """
        vectors = torch.from_numpy(np.array(z, dtype=np.float32))
        device = next(self.network.parameters()).device
        with exact_float32():
            parts = [to_uint8(self.network(part.to(device)).cpu()) for part in vectors.split(SAMPLING_BATCH)]
        return np.concatenate([np.asarray(part) for part in parts])


def load_generator(
    run: str | Path | None = None,
    checkpoint: str | int | Path | None = None,
    *,
    raw: bool = False,
    device: Device = "cpu",
) -> LoadedGenerator:
    """The trained generator of a run, ready to draw with.

    Args:
        run: its folder; the newest in outputs/ if None.
        checkpoint: a step, a file, `best` or `newest`; if None the best or, where there is none that
            is whole, the newest whole one.
        raw: take the weights of the last step even where averaged ones are kept.
        device: where to compute.

    Raises:
        UserError: no such run or checkpoint, a damaged one, or a device that is not there.
    """
    folder = find_run(run)
    settings = read_info(folder).settings
    path, state = load_selected(folder, checkpoint)
    check_networks(folder, settings, path, state)
    weights = "raw" if raw or state.get("average") is None else "ema"
    network = Generator(settings.generator_widths, settings.latent_size, settings.image_size)
    network.load_state_dict(state["generator" if weights == "raw" else "average"])
    network = network.to(choose_device(device), memory_format=torch.channels_last)
    return LoadedGenerator(network.eval(), folder, path, state["step"], weights, settings)


def check_networks(run: Path, settings: Settings, path: Path, state: dict[str, Any]) -> None:
    """Raise `UserError` where a checkpoint, as `load` read it, holds other networks than the settings tell.

    So it is after config.json was edited, and with a checkpoint of another run.
    """
    with torch.device("meta"):  # shapes alone: those of an edited file may not fit into any memory
        generator, discriminator = (_shapes(network.state_dict()) for network in make_networks(settings))
    fitting = {"generator": generator, "discriminator": discriminator}
    if state.get("average") is not None:
        fitting["average"] = generator
    if any(_shapes(state.get(name)) != shapes for name, shapes in fitting.items()):
        raise UserError(
            f"{path} holds networks of another shape than {run}/config.json tells: either that file was "
            "changed, which has to be undone, or the checkpoint is of another run"
        )


def _shapes(weights: Any) -> dict[str, Any] | None:
    if not isinstance(weights, dict):
        return None
    return {name: getattr(weight, "shape", None) for name, weight in weights.items()}


STATISTICS_BATCHES = 5
STATISTICS_BATCH = 100


def estimate_batch_norm(generator: Generator, seed: int) -> None:
    """Give a generator's batch norms the statistics that its present weights produce, in place.

    Neither an average nor a copy of the raw network's statistics fits averaged weights: the colours
    come out wrong. The mean and variance are estimated on 500 latent vectors that depend on the seed
    alone, with the network in float32.
    """
    estimate_batch_norm_statistics(generator, _latents(generator, seed))


def _latents(generator: Generator, seed: int) -> Iterator[Tensor]:
    device = next(generator.parameters()).device
    draws = torch.Generator().manual_seed(seed)
    for _ in range(STATISTICS_BATCHES):
        z = torch.rand(STATISTICS_BATCH, generator.latent_size, generator=draws) * 2 - 1
        yield z.to(device)
