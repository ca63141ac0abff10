"""Write a trained generator to one file, to keep it, to share it, or to run it elsewhere.

The extension of FILE decides the format. A .safetensors file contains the weights, settings and directions;
sample.py, interpolate.py, edit.py, explore.py, evaluate.py, directions.py and export.py take it in place of a
run. An .onnx file runs in onnxruntime, without torch and without this project. An .html file is a page to
explore the generator with, which a browser opens from disk, without a server or a network. They
contain no training images, no discriminator, and no paths of this machine.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, Suppress, arg

from engine.cli import parse
from engine.errors import UserError, run_script
from engine.files import is_file
from gan.config import is_generator_file
from gan.options import GeneratorArguments, describe

if TYPE_CHECKING:
    from gan.generator import LoadedGenerator
    from gan.latent.directions import Directions

FORMATS = (".safetensors", ".onnx", ".html")
EXAMPLES = 64
"""Faces on which the error of half precision is measured."""


@dataclass(frozen=True)
class ExportArguments(GeneratorArguments):
    """Which generator, and the file."""

    run: Suppress[str | None] = None
    paths: Annotated[tuple[str, ...], Positional, arg(metavar="[RUN] FILE")] = ()
    """RUN is the run's folder, or its name or number in --output, or a .safetensors file of export.py, or
    `drawn` for the generator that comes with the project; by default the newest run, or `drawn` if there is
    none. FILE is the file to write, and ends in .safetensors, .onnx or .html. It is replaced if it exists,
    unless RUN is left out and it contains another generator, as it may then be meant as RUN."""
    half: bool = False
    """Store the weights in half precision, which halves the size of a .safetensors file. An .html file always
    does."""

    def __post_init__(self) -> None:
        if not 1 <= len(self.paths) <= 2:
            raise UserError("give FILE, or RUN FILE" + f", not {len(self.paths)} paths" * bool(self.paths))
        suffix = self.file.suffix.lower()
        if suffix not in FORMATS:
            raise UserError(
                f"FILE must end in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}, not {suffix or self.file}"
            )
        if self.half and suffix == ".onnx":
            raise UserError("--half is for .safetensors: an .onnx file contains single precision")

    @property
    def file(self) -> Path:
        """The file to write."""
        return Path(self.paths[-1])


def main() -> None:
    """Parse the command line, write the file, and print its size and error."""
    arguments = parse(ExportArguments, description=__doc__)
    path = arguments.file
    run = arguments.paths[0] if len(arguments.paths) == 2 else None
    generator = replace(arguments, run=run).load_generator()
    if run is None:
        _check_replaced(path, generator)
    if path.suffix.lower() == ".onnx":
        from gan.export.onnx_file import save_onnx

        error = f", images differ by at most {save_onnx(generator, path):.1g} from torch's"
    elif path.suffix.lower() == ".html":
        error = save_explorer(generator, path)
    else:
        from gan.export.generator_file import save_generator

        directions = _directions(generator)
        save_generator(generator, path, half=arguments.half, directions=directions)
        error = _rounding_error(generator, path) if arguments.half else ""
    size = path.stat().st_size / 1e6
    print(f"{describe(generator)}: {size:.1f} MB{error}")
    print(path)


def save_explorer(generator: LoadedGenerator, path: Path) -> str:
    """Write the explorer page; return a description of what is in it."""
    from gan.export.page_weights import UNNAMED, page_weights
    from web.page_file import save_page

    directions = _directions(generator)
    save_page(page_weights(generator, directions), f"Faces of {generator.run.resolve().name}", path)
    names = [] if directions is None else directions.names
    count = sum(not UNNAMED.fullmatch(name) for name in names)
    return f", with {count or 'no'} named direction{'s' * (count != 1)}"


def _check_replaced(path: Path, generator: LoadedGenerator) -> None:
    """Raise `UserError` if a .safetensors file would be replaced that is not of the generator's run."""
    from engine.tensor_file import read_tensors

    if not is_generator_file(path) or not is_file(path):
        return
    run = generator.run.resolve().name
    if read_tensors(path, "np", names=())[0].get("run") != run:
        raise UserError(
            f"{path} exists, and contains another generator than that of {run}: to replace it, give "
            "RUN before it; to export from it, give another FILE after it"
        )


def _directions(generator: LoadedGenerator) -> Directions | None:
    """The generator's directions; None, with a line that says why, if they cannot be exported with it."""
    from gan.latent.directions import Directions

    try:
        return Directions.of(generator)
    except UserError as error:
        print(f"exported without directions: {error}")
        return None


def _rounding_error(generator: LoadedGenerator, path: Path) -> str:
    """How much the images of a file in half precision differ from the generator's."""
    import numpy as np

    from gan.export.generator_file import load_generator_file
    from gan.latent.vectors import draw

    z = draw(EXAMPLES, generator.latent_size, generator.seed)
    exact, rounded = (each.images(z).astype(int) for each in (generator, load_generator_file(path)))
    errors = np.abs(exact - rounded)
    return f", pixels differ by {errors.mean():.2f} of 255 on average, {errors.max()} at most"


if __name__ == "__main__":
    run_script(main)
