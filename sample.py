"""Generate faces with a trained generator, as one grid or as single images.

The grid is written to grids/ in the run's folder, or to --file, with its latent vectors (.npy) beside it,
from which --latents generates the same faces again. Face i of a seed is the same in grids of any size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from tyro.conf import arg

from engine.cli import parse
from engine.errors import UserError, run_script
from engine.output import counted
from engine.settings import Groups
from gan.latent.directions import Directions, parse_strengths
from gan.options import MAX_FACES, FaceArguments, PictureArguments, print_result


@dataclass(frozen=True)
class SampleArguments(FaceArguments, PictureArguments):
    """Which faces, and their layout."""

    GROUPS: ClassVar[Groups] = {
        "everyday": "run count seed rows columns labels shift scale file separate",
        "generator": "output checkpoint latents raw device",
    }

    rows: int | None = None
    """Rows of the grid; with --count or --latents, the most it may have. Otherwise the grid has --rows times
    --columns faces."""
    columns: int | None = None
    """Columns of the grid. By default it has 8 x 8 faces, or is nearly square with --count or --latents."""
    separate: Path | None = None
    """Write single images 00000.png, 00001.png ... and latents.npy into this new folder instead of a grid."""
    labels: bool = False
    """Write each face's number, by which interpolate.py selects faces, below it."""
    shift: Annotated[tuple[str, ...], arg(metavar="[NAME=STRENGTH ...]")] = ()
    """Move all faces along directions of directions.py, such as smile=2 glasses=-1; a strength is in standard
    deviations of the prior (put RUN before this flag)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.picture_file([".png"], self.latents)
        parse_strengths(self.shift)
        for name, value in (("--rows", self.rows), ("--columns", self.columns)):
            if value is not None and not 1 <= value <= MAX_FACES:
                raise UserError(f"{name} must be 1 to {MAX_FACES:,}, not {value:,}")
        if self.separate is not None and (self.rows or self.columns or self.labels or self.file):
            raise UserError("--separate writes no grid: omit --rows, --columns, --labels and --file")
        count = self.face_count()
        if count is not None and count > MAX_FACES:
            raise UserError(f"--rows times --columns must be at most {MAX_FACES:,}, not {count:,}")
        if self.count is not None:
            self.columns_for(self.count)

    def face_count(self) -> int | None:
        """The requested number of faces; None for the default: 64, or all in the --latents file."""
        if self.count is not None or self.latents is not None or not (self.rows or self.columns):
            return self.count
        return (self.rows or 8) * (self.columns or 8)

    def columns_for(self, count: int) -> int:
        """Columns of the grid of `count` faces. Raises `UserError` if they do not fit."""
        if self.rows and self.columns and count > self.rows * self.columns:
            raise UserError(
                f"{count:,} faces do not fit into {self.rows} rows of {self.columns}; "
                "--count N selects the first N"
            )
        if self.columns:
            return self.columns
        return math.ceil(count / self.rows) if self.rows else math.ceil(math.sqrt(count))


def main() -> None:
    """Parse the command line, generate the faces and print where they are."""
    arguments = parse(SampleArguments, description=__doc__)
    from gan.latent.render import save_grid, save_images, shift_faces

    generator = arguments.generator()
    faces = arguments.faces(generator, arguments.face_count())
    if arguments.shift:
        faces = shift_faces(faces, Directions.of(generator), parse_strengths(arguments.shift))
    count = len(faces.z)
    if arguments.separate is not None:
        path = arguments.separate
        save_images(generator, faces, path, scale=arguments.scale)
    else:
        path = save_grid(
            generator,
            faces,
            arguments.columns_for(count),
            numbered=arguments.labels,
            scale=arguments.scale,
            file=arguments.picture_file([".png"]),
        )
    print_result(generator, counted(count, "face"), path)


if __name__ == "__main__":
    run_script(main)
