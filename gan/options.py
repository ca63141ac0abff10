"""Command-line options shared by the scripts that read a run.

A field is a flag, and the string below it the flag's help. torch is imported only when a generator is
loaded, so --help and most errors are printed at once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from engine.errors import UserError
from engine.files import is_file, is_folder
from engine.newest import Check, find_usable_run, without_checkpoint
from engine.runs import find_checkpoint, is_run, runs_in
from engine.settings import Device
from gan import pretrained
from gan.config import is_generator_file

if TYPE_CHECKING:
    from gan.generator import LoadedGenerator
    from gan.latent.render import LatentSet

MAX_FACES = 100_000
"""Faces per call: the file names of single images have five digits."""
MIN_SCALE, MAX_SCALE = 0.1, 16.0


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
class PictureArguments:
    """Where a picture is written to, and how large it is."""

    file: Path | None = None
    """Write to this file instead of the run's folder. An existing file is replaced. The
    suffix gives the format."""
    scale: float = 1.0
    """Factor by which the images are enlarged, such as 4; below 1 they are reduced."""

    def picture_file(self, suffixes: Sequence[str], latents: Path | None = None) -> Path | None:
        """--file, with the first of the suffixes if it has none.

        Args:
            suffixes: of the formats.
            latents: a file that must not be replaced by the vectors beside the picture.

        Raises:
            UserError: --file has another suffix or cannot be a file, or --scale is out of range.
        """
        if self.scale is not None and not MIN_SCALE <= self.scale <= MAX_SCALE:
            raise UserError(f"--scale must be {MIN_SCALE:g} to {MAX_SCALE:g}, not {self.scale:g}")
        if self.file is None:
            return None
        if is_folder(self.file) or not self.file.name:
            raise UserError(f"--file {self.file} is a folder: give the name of a file")
        if latents is not None and self.file.with_suffix(".npy").resolve() == latents.resolve():
            raise UserError(
                f"the vectors beside --file {self.file} would replace {latents}: give another name"
            )
        if not self.file.suffix:
            return self.file.with_suffix(suffixes[0])
        if self.file.suffix.lower() not in suffixes:
            raise UserError(f"--file {self.file} must end in {' or '.join(suffixes)}")
        return self.file


@dataclass(frozen=True)
class GeneratorArguments(RunArguments):
    """Which generator, of a run or of a file."""

    run: Annotated[str | None, Positional, arg(metavar="[RUN]")] = None
    """Folder of the run, or its name or number in --output, or a .safetensors file of export.py, or `drawn`
    for the generator that comes with the project; by default the newest run, or `drawn` if there is none."""

    checkpoint: Annotated[str | None, arg(metavar="STEP")] = None
    """Step or file of the checkpoint, `best` or `newest`; by default the best, or the newest if there is no
    score yet."""
    raw: bool = False
    """Use the weights of the last training step instead of their moving average (EMA)."""

    def load_generator(self, device: Device = "cpu") -> LoadedGenerator:
        """Load the generator, of a run or from a file of export.py.

        Raises:
            UserError: the run, the checkpoint, the file or the device is missing or damaged.
        """
        self.check_generator()
        # Importing torch takes seconds, so mistakes on the command line are reported first.
        if (file := self.file_of_generator()) is not None:
            if self.run is None:
                print_origin(self.output)
            from gan.export.generator_file import load_generator_file

            return load_generator_file(file, self.output, device)
        from gan.generator import load_generator

        return load_generator(self.folder(), self.checkpoint, raw=self.raw, device=device)

    def check_generator(self) -> None:
        """Raise `UserError` if there is no such run, checkpoint or file."""
        file = self.file_of_generator()
        if file is None:
            find_checkpoint(self.folder(), self.checkpoint)
        elif self.checkpoint is not None or self.raw:
            raise UserError(f"{self.run or file} contains one generator: omit --checkpoint and --raw")
        elif not is_file(file):
            raise UserError(f"there is no file {file}, or it is a folder")

    def file_of_generator(self) -> Path | None:
        """The .safetensors file that contains the generator; None if it is a run's."""
        return generator_file(self.run, self.output)


def generator_file(run: str | None, output: Path) -> Path | None:
    """The file of the generator that a user names, or that is used if there is no run; None for a run.

    Args:
        run: as in `GeneratorArguments`.
        output: the folder of all runs.

    Raises:
        UserError: the folder cannot be read.
    """
    if run is None:
        return None if runs_in(output) else pretrained.FILE
    if run == pretrained.NAME and not is_run(Path(run)):
        return pretrained.FILE
    return Path(run) if is_generator_file(run) else None


def print_origin(output: Path) -> None:
    """Print that the generator that comes with the project is used, as there is no run in `output`."""
    print(
        f"There is no run in {output}. These faces are by the generator of drawn faces that comes with the "
        "project; `python train_gan.py FOLDER` trains your own."
    )


@dataclass(frozen=True)
class FaceArguments(GeneratorArguments):
    """Which generator, and which faces."""

    device: Device = "auto"
    """Device to compute on, always in float32; auto selects CUDA, else Apple's MPS, else the CPU."""
    seed: int | None = None
    """Seed of the faces; by default the run's own, which gives the faces of its sample grids."""
    latents: Path | None = None
    """Use the latent vectors of a .npy file that was saved beside a picture, instead of drawing new ones."""
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
        """Load the generator; see `load_generator`."""
        return self.load_generator(self.device)

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
    print(f"{result} by {describe(generator)}")
    print(path)


def describe(generator: LoadedGenerator) -> str:
    """The generator's weights, file and step."""
    best = ", the run's best by the mean of three KIDs" if generator.is_best else ""
    return f"the {generator.weights} weights of {generator.checkpoint} (step {generator.step:,}{best})"
