"""Trained generators, and batch-norm statistics for averaged weights."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from engine.checkpoint import load_selected
from engine.device import choose_device, exact_float32
from engine.ema import estimate_batch_norm_statistics
from engine.errors import UserError
from engine.newest import find_usable_run, without_checkpoint
from engine.png import to_pillow
from engine.runs import best_path
from engine.settings import Device
from gan.config import Settings, is_generator_file, read_info
from gan.latent.vectors import draw
from gan.networks import Generator, make_discriminator, make_generator
from images.tiles import tile, to_uint8

SAMPLING_BATCH = 16
STATISTICS_BATCHES = 5
STATISTICS_BATCH = 100
SHOWN = 8
"""Faces that a notebook shows."""


@dataclass(frozen=True, repr=False)
class LoadedGenerator:
    """A trained generator and where it comes from."""

    network: Generator
    run: Path
    checkpoint: Path
    step: int
    weights: str
    """`ema` for the averaged weights, `raw` for those of the last step."""
    settings: Settings

    def __repr__(self) -> str:
        return (
            f"LoadedGenerator({self.latent_size} latent values to {self.image_size} px, "
            f"{self.weights} weights of {self.checkpoint}, step {self.step:,})"
        )

    def _repr_png_(self) -> bytes:
        """What a notebook shows: the run's first eight faces."""
        buffer = io.BytesIO()
        faces = self.images(draw(SHOWN, self.latent_size, self.seed))
        to_pillow(tile(faces, SHOWN)).save(buffer, "PNG")
        return buffer.getvalue()

    @property
    def is_file(self) -> bool:
        """Whether this is a file of export.py instead of a checkpoint of a run."""
        return is_generator_file(self.checkpoint)

    @property
    def is_best(self) -> bool:
        """Whether this is the checkpoint with the run's best score."""
        return self.checkpoint == best_path(self.run)

    @property
    def stamp(self) -> str:
        """What the names of result files begin with: the step, `raw` for such weights, and a file's digest.

        The digest, because all generator files of one name share a folder for their results.
        """
        parts = [f"step_{self.step:06d}", *["raw"] * (self.weights == "raw")]
        return "-".join([*parts, *([self.digest[:8]] if self.is_file else [])])

    @property
    def seed(self) -> int:
        """The run's seed, from which the latent vectors of its sample grids are drawn."""
        return self.settings.seed

    @property
    def latent_size(self) -> int:
        """Values in a latent vector."""
        return self.network.latent_size

    @property
    def image_size(self) -> int:
        """Side of the images in pixels."""
        return self.network.image_size

    @cached_property
    def digest(self) -> str:
        """16 hex digits that change with the weights, by which directions are bound to a generator.

        Weights count as rounded to half precision, so that a copy of export.py --half has the same digest.
        """
        digest = hashlib.sha256()
        for name, weight in sorted(self.network.state_dict().items()):
            if weight.is_floating_point():
                digest.update(f"{name} {tuple(weight.shape)}".encode())
                digest.update(weight.detach().cpu().contiguous().half().numpy().tobytes())
        return digest.hexdigest()[:16]

    def images(self, z: ArrayLike) -> NDArray[np.uint8]:
        """Latent vectors [N, latent_size], usually in [-1, 1], to images uint8 [N, 3, S, S]."""
        return generate(self.network, torch.from_numpy(np.array(z, dtype=np.float32)))


@torch.no_grad()
def generate(network: nn.Module, latents: Tensor) -> NDArray[np.uint8]:
    """Latent vectors, float32 [N, latent_size], to images uint8 [N, 3, S, S].

    In float32 and with the stored batch-norm statistics, so an image depends on its own vector alone. The
    network is left in the mode it was in.
    """
    device = next(network.parameters()).device
    was_training = network.training
    network.eval()
    with exact_float32():
        images = [to_uint8(network(z.to(device)).cpu()) for z in latents.split(SAMPLING_BATCH)]
    network.train(was_training)
    return torch.cat(images).numpy()


def load_generator(
    run: str | Path | None = None,
    checkpoint: str | int | Path | None = None,
    *,
    raw: bool = False,
    device: Device = "cpu",
) -> LoadedGenerator:
    """Load the trained generator of a run.

    Args:
        run: folder, name or number of the run; None for the newest in outputs/.
        checkpoint: a step, a file, `best` or `newest`; None for the best or, if that is missing or damaged,
            the newest.
        raw: load the weights of the last step even if the run has averaged ones.
        device: where to compute.

    Raises:
        UserError: the run, the checkpoint or the device does not exist, or the checkpoint is damaged.
    """
    folder = find_usable_run(run, Path("outputs"), "train_gan.py FOLDER", without_checkpoint)
    settings = read_info(folder).settings
    path, state = load_selected(folder, checkpoint)
    weights = "raw" if raw or state.get("average") is None else "ema"
    check_networks(folder, settings, path, state)
    network = make_generator(settings)
    network.load_state_dict(state["generator" if weights == "raw" else "average"])
    network = network.to(choose_device(device), memory_format=torch.channels_last)
    return LoadedGenerator(network.eval(), folder, path, state["step"], weights, settings)


def check_networks(run: Path, settings: Settings, path: Path, state: dict[str, Any]) -> None:
    """Raise `UserError` if a checkpoint's networks do not have the shapes that the settings describe.

    This happens with an edited config.json, and with a checkpoint of another run.
    """
    with torch.device("meta"):  # the networks of an edited file may not fit in memory
        generator = _shapes(make_generator(settings).state_dict())
        discriminator = _shapes(make_discriminator(settings).state_dict())
    expected = {"generator": generator, "discriminator": discriminator}
    if state.get("average") is not None:
        expected["average"] = generator
    if any(_shapes(state.get(name)) != shapes for name, shapes in expected.items()):
        raise UserError(
            f"{path} contains networks whose shapes differ from those in {run}/config.json: undo the change "
            "of that file, or use a checkpoint of this run"
        )


def estimate_batch_norm(generator: Generator, seed: int) -> None:
    """Set a generator's batch-norm statistics to those that its current weights produce, in place.

    Neither averaged statistics nor a copy of the raw network's fit averaged weights: colours come out wrong.
    Mean and variance are estimated in float32 from some latent vectors that depend on the seed alone.
    """
    latents = balanced_latents(generator.latent_size, seed).to(next(generator.parameters()).device)
    estimate_batch_norm_statistics(generator, latents.split(STATISTICS_BATCH))


def balanced_latents(size: int, seed: int) -> Tensor:
    """Latent vectors whose sample moments are those of the uniform distribution on [-1, 1].

    Each batch of 100 has 50 vectors and their negatives, so that the mean is 0 (antithetic variates,
    Hammersley and Morton 1956), and a linear map makes the covariance of all vectors exactly 1/3 of the
    identity (quadratic resampling, Barraquand 1995). The statistics of a generator's first layer are then
    exact. With 500 independent vectors, pixels differ by 2 or 3 of 255 from one seed to another.

    Args:
        size: length of a latent vector.
        seed: of the draws.

    Returns:
        float32 [N, size], mostly in [-1, 1]: 500 vectors, or more if there are more than 125 values in each.
    """
    batches = max(STATISTICS_BATCHES, ceil(4 * size / STATISTICS_BATCH))
    random = torch.Generator().manual_seed(seed)
    z = torch.rand(batches, STATISTICS_BATCH // 2, size, generator=random, dtype=torch.float64) * 2 - 1
    z = torch.cat([z, -z], dim=1).flatten(0, 1)
    factor = torch.linalg.cholesky(z.T @ z / len(z))
    return (torch.linalg.solve_triangular(factor, z.T, upper=False).T / 3**0.5).float().contiguous()


def _shapes(weights: Any) -> dict[str, Any] | None:
    if not isinstance(weights, dict):
        return None
    return {name: getattr(weight, "shape", None) for name, weight in weights.items()}
