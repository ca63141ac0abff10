"""What the users of the scripts that look at a run can choose alike.

Each class is a part of a command line: a field is a flag, and its docstring the flag's help. torch is
imported only when a generator is loaded, so that --help and most mistakes are answered at once.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from engine.errors import UserError
from engine.runs import find_checkpoint, find_run
from engine.settings import Device
from gan.latent.render import LatentSet
from gan.latent.vectors import draw, load_latents

if TYPE_CHECKING:
    from gan.generator import LoadedGenerator

MAX_FACES = 100_000
"""LatentSet in one go: as many as the five digits of a single image's name tell apart."""


@dataclass(frozen=True)
class RunArguments:
    """Which run."""

    run: Annotated[str | None, Positional, arg(metavar="[RUN]")] = None
    """Folder of the run, or its name or number inside --output; the newest run if none is named."""
    output: Path = Path("outputs")
    """Folder of runs, in which the run is sought."""

    def folder(self) -> Path:
        """The run's folder. Raises `UserError` where there is none."""
        return find_run(self.run, self.output)


@dataclass(frozen=True)
class FaceArguments(RunArguments):
    """Which generator of the run, and which faces."""

    checkpoint: str | None = None
    """Step or file of the checkpoint, `best` or `newest`; the best if none is named, or the newest where
    no step has a score yet."""
    raw: bool = False
    """Take the weights of the last training step instead of their moving average (EMA)."""
    device: Device = "auto"
    """Where to compute, always in float32; auto takes CUDA, then Apple's MPS, then the CPU."""
    seed: int | None = None
    """Seed of the faces; the run's own if none is given, whose faces are those of its sample grids."""
    latents: Path | None = None
    """A .npy file saved beside a picture: take exactly its faces instead of drawing some."""
    count: int | None = None
    """How many faces there are, numbered from 0 on; 64 if not given, with --latents all of the file."""

    def __post_init__(self) -> None:
        if self.count is not None and not 1 <= self.count <= MAX_FACES:
            raise UserError(f"--count must be 1 to {MAX_FACES:,}, not {self.count:,}")
        if self.seed is not None and self.seed < 0:
            raise UserError(f"--seed must be 0 or more, not {self.seed}")
        if self.seed is not None and self.latents is not None:
            raise UserError("--seed draws faces and --latents reads them from a file: give one of the two")

    def generator(self) -> LoadedGenerator:
        """Load the generator. Raises `UserError` for a run, checkpoint or device that is not there."""
        run = self.folder()
        find_checkpoint(run, self.checkpoint)
        from gan.generator import load_generator  # imports torch, which takes seconds

        return load_generator(run, self.checkpoint, raw=self.raw, device=self.device)

    def faces(self, generator: LoadedGenerator, count: int | None) -> LatentSet:
        """The first `count` of the faces chosen; if None 64, or all that the file of latents holds.

        Raises:
            UserError: the file of latents is not fit, or holds fewer.
        """
        if self.latents is None:
            seed = generator.seed if self.seed is None else self.seed
            return LatentSet(draw(count or 64, generator.latent_size, seed), {"seed": seed}, f"seed_{seed}")
        z = load_latents(self.latents, generator.latent_size)
        if count is not None and count > len(z):
            raise UserError(f"{count:,} faces are wanted, but {self.latents} holds {len(z):,}")
        z = z[:count]
        digest = hashlib.sha256(z.tobytes()).hexdigest()[:8]
        return LatentSet(z, {"latents": self.latents.name}, f"latents_{digest}")


def print_result(generator: LoadedGenerator, what: str, place: Path) -> None:
    """Print what was made by which weights and, on a line of its own, where it is."""
    step = f"step {generator.step:,}" + (", the run's best" if generator.is_best else "")
    print(f"{what} by the {generator.weights} weights of {generator.checkpoint} ({step})")
    print(place)
