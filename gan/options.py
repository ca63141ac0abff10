"""Command-line options shared by the scripts that read a run.

A field is a flag, and the string below it the flag's help. NumPy is imported only when faces are drawn, and
torch when a generator is loaded, so --help and most errors are printed at once.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from engine.errors import UserError
from engine.newest import Check, find_usable_run, without_checkpoint
from engine.runs import find_checkpoint
from engine.settings import Device

if TYPE_CHECKING:
    from gan.generator import LoadedGenerator
    from gan.latent.render import LatentSet

MAX_FACES = 100_000
"""Faces per call: the file names of single images have five digits."""


@dataclass(frozen=True)
class RunArguments:
    """Which run."""

    run: Annotated[str | None, Positional, arg(metavar="[RUN]")] = None
    """Folder of the run, or its name or number in --output; by default the newest run."""
    output: Path = Path("outputs")
    """Folder of all runs."""

    def folder(self, check: Check = without_checkpoint) -> Path:
        """The run's folder. Raises `UserError` if there is none, or the newest run fails the check."""
        return find_usable_run(self.run, self.output, "train_gan.py FOLDER", check)


@dataclass(frozen=True)
class FaceArguments(RunArguments):
    """Which generator of the run, and which faces."""

    checkpoint: str | None = None
    """Step or file of the checkpoint, `best` or `newest`; by default the best, or the newest if there is no
    score yet."""
    raw: bool = False
    """Use the weights of the last training step instead of their moving average (EMA)."""
    device: Device = "auto"
    """Device to compute on, always in float32; auto selects CUDA, else Apple's MPS, else the CPU."""
    seed: int | None = None
    """Seed of the faces; by default the run's own, which gives the faces of its sample grids."""
    latents: Path | None = None
    """Use the latent vectors of a .npy file that was saved beside a picture instead of drawing some."""
    count: int | None = None
    """Number of faces, which are numbered from 0; by default 64, or all in the file of --latents."""

    def __post_init__(self) -> None:
        if self.count is not None and not 1 <= self.count <= MAX_FACES:
            raise UserError(f"--count must be 1 to {MAX_FACES:,}, not {self.count:,}")
        if self.seed is not None and self.seed < 0:
            raise UserError(f"--seed must be 0 or more, not {self.seed}")
        if self.seed is not None and self.latents is not None:
            raise UserError("give either --seed, which draws faces, or --latents, which reads them")

    def generator(self) -> LoadedGenerator:
        """Load the generator. Raises `UserError` if the run, the checkpoint or the device is missing."""
        run = self.folder()
        find_checkpoint(run, self.checkpoint)
        from gan.generator import load_generator  # imports torch, which takes seconds

        return load_generator(run, self.checkpoint, raw=self.raw, device=self.device)

    def faces(self, generator: LoadedGenerator, count: int | None) -> LatentSet:
        """Draw `count` faces (64 if None), or load the first `count` (all if None) of the --latents file.

        Raises:
            UserError: the file does not fit the generator, or contains fewer faces.
        """
        from gan.latent.render import LatentSet
        from gan.latent.vectors import draw, load_latents

        if self.latents is None:
            seed = generator.seed if self.seed is None else self.seed
            return LatentSet(draw(count or 64, generator.latent_size, seed), {"seed": seed}, f"seed_{seed}")
        z = load_latents(self.latents, generator.latent_size)
        if count is not None and count > len(z):
            raise UserError(f"{self.latents} contains {len(z):,} faces, fewer than {count:,}")
        z = z[:count]
        digest = hashlib.sha256(z.tobytes()).hexdigest()[:8]
        return LatentSet(z, {"latents": self.latents.name}, f"latents_{digest}")


def print_result(generator: LoadedGenerator, result: str, path: Path) -> None:
    """Print a result and the weights that made it and, on a second line, its path."""
    step = f"step {generator.step:,}" + (
        ", the run's best by the mean of three KIDs" if generator.is_best else ""
    )
    print(f"{result} by the {generator.weights} weights of {generator.checkpoint} ({step})")
    print(path)
