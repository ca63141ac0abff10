"""Make faces with a trained generator, as one grid or as single images.

The grid goes into the run's folder, under grids/, and beside it its latent vectors (.npy), by which
--latents calls any face back. Face number i of a seed is the same in a grid of any size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from engine.cli import parse
from engine.errors import UserError, run_script
from gan.latent.render import save_grid, save_images
from gan.options import MAX_FACES, FaceArguments, print_result


@dataclass(frozen=True)
class SampleArguments(FaceArguments):
    """Which faces, and in what form."""

    rows: int | None = None
    """Rows of the grid, at most with --count or --latents; else --rows times --columns faces are made."""
    columns: int | None = None
    """Columns of the grid. 8 rows of 8, or the squarest grid for --count, if nothing else is said."""
    separate: Path | None = None
    """Write single images 00000.png, 00001.png ... and latents.npy into this new folder, and no grid."""
    labels: bool = False
    """Draw each face's number on its tile: by it interpolate.py is told which faces to take."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in (("--rows", self.rows), ("--columns", self.columns)):
            if value is not None and not 1 <= value <= MAX_FACES:
                raise UserError(f"{name} must be 1 to {MAX_FACES:,}, not {value:,}")
        if self.separate is not None and (self.rows or self.columns or self.labels):
            raise UserError("--separate writes no grid: --rows, --columns and --labels go without it")
        wanted = self.wanted()
        if wanted is not None and wanted > MAX_FACES:
            raise UserError(f"--rows times --columns may be {MAX_FACES:,}, not {wanted:,}")
        if self.count is not None:
            self.columns_for(self.count)

    def wanted(self) -> int | None:
        """How many faces are asked for; None for 64, or for all of a file."""
        if self.count is not None or self.latents is not None or not (self.rows or self.columns):
            return self.count
        return (self.rows or 8) * (self.columns or 8)

    def columns_for(self, count: int) -> int:
        """Columns of the grid of `count` faces. Raises `UserError` if they do not fit into it."""
        if self.rows and self.columns and count > self.rows * self.columns:
            raise UserError(
                f"{count:,} faces do not fit into {self.rows} rows of {self.columns}; "
                "--count N takes the first N"
            )
        if self.columns:
            return self.columns
        return math.ceil(count / self.rows) if self.rows else math.ceil(math.sqrt(count))


def main() -> None:
    """Parse the command line, make the faces, say where they are."""
    choice = parse(SampleArguments, description=__doc__)
    generator = choice.generator()
    faces = choice.faces(generator, choice.wanted())
    what = f"{len(faces.z):,} face{'' if len(faces.z) == 1 else 's'}"
    if choice.separate is not None:
        save_images(generator, faces, choice.separate)
        print_result(generator, what, choice.separate)
    else:
        grid = save_grid(generator, faces, choice.columns_for(len(faces.z)), numbered=choice.labels)
        print_result(generator, what, grid)


if __name__ == "__main__":
    run_script(main)
