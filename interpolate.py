"""Interpolate between faces of a trained generator, move them along a direction, or do arithmetic with them.

Faces are selected by their numbers in the grid of sample.py (its --labels writes them) with the same seed.
Results are written to paths/ and arithmetic/ in the run's folder, or to --file, each with its latent vectors
(.npy) beside it, which sample.py --latents shows. directions.py finds the directions.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from tyro.conf import arg

from engine.cli import parse
from engine.errors import UserError, run_script
from engine.settings import Groups, flag
from gan.latent import Interpolation, PathFormat
from gan.options import FaceArguments, PictureArguments, print_result

if TYPE_CHECKING:
    from gan.generator import LoadedGenerator
    from gan.latent.render import LatentSet
    from gan.latent.vectors import Latents

THEORY = """
The right --method depends on the prior of the latent vectors. For a Gaussian prior, spherical: nearly all
of its vectors have the same length, which the arc preserves, while a straight line passes through much
shorter vectors than those of training. The prior here is uniform in the cube [-1, 1]^100, for which neither
is perfect. linear stays inside the cube, but half-way the vectors are 30 percent shorter (5.8 becomes 4.1;
the standard deviation of a draw's length is 0.3). spherical keeps the length, and with it the mean and
variance of the weighted sums in the generator's first layer; about 9 percent of the values leave [-1, 1],
mostly by less than 0.3. So spherical is the default; --keep-in-range clamps such values.
"""
"""Printed by --help below the flags."""

PATH_ONLY = ("tiles", "along", "method", "form", "steps", "loop", "fps")
MAX_REACH = 100.0
MAX_PRINTED = 80
"""Characters of an expression that are printed."""


@dataclass(frozen=True)
class InterpolationArguments(FaceArguments, PictureArguments):
    """Which faces, and what to do with them."""

    GROUPS: ClassVar[Groups] = {
        "everyday": "run tiles along arithmetic form loop steps scale file",
        "face": "seed count latents",
        "path": "method reach fps keep_in_range",
        "generator": "output checkpoint raw device",
    }

    tiles: Annotated[tuple[int, ...], arg(metavar="N N ...")] = (0, 1, 2, 3)
    """Numbers of the faces on the path, two or more, or one or more with --along (RUN goes before this
    flag)."""
    along: str | None = None
    """Move each face along this direction instead, from minus --reach to plus --reach."""
    reach: float = 3.0
    """Largest strength of --along, in standard deviations of the prior."""
    method: Interpolation = "spherical"
    """Straight line or arc from one face to the next; see below."""
    form: PathFormat | None = None
    """grid: a row for each pair of faces, or for each face with --along; strip: all in one row; gif and mp4:
    a film. By default the suffix of --file decides; without one, it is a grid."""
    steps: int | None = None
    """Images from one face to the next, both included; by default 8 in a grid or strip, 7 with --along, and
    25 in a film."""
    loop: bool = False
    """Return to the first face at the end; with --along, go back from the largest strength to the smallest,
    in a grid or strip too."""
    fps: float = 12.0
    """Frames per second of a film."""
    arithmetic: Annotated[str | None, arg(metavar="SUM")] = None
    """Evaluate a sum instead of a path, such as "3,17,42 - 5,8,9 + 0.5*(11 + 12)" or "17 + 1.5*smile -
    glasses": a number is a face, a comma-separated list the mean of its faces, a name a direction along which
    the sum is moved. The picture shows each list and its mean, and the result among 8 neighbours."""
    keep_in_range: bool = False
    """Clamp values to the range of the prior, [-1, 1]."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.arithmetic is not None:
            for name in PATH_ONLY:
                if getattr(self, name) != getattr(InterpolationArguments, name):
                    raise UserError(f"--{name} is an option of a path: omit it or --arithmetic")
        if self.along is None and len(self.tiles) < 2:
            raise UserError("--tiles needs the numbers of two or more faces, or of one with --along")
        if not self.tiles:
            raise UserError("--tiles needs the number of a face")
        if self.along is not None:
            for name in ("method", "keep_in_range"):
                if getattr(self, name) != getattr(InterpolationArguments, name):
                    raise UserError(
                        f"{flag(name)} is not an option of --along: it moves no value out of range"
                    )
        elif self.reach != InterpolationArguments.reach:
            raise UserError("--reach requires --along")
        if not 0 < self.reach <= MAX_REACH:
            raise UserError(f"--reach must be more than 0 and at most {MAX_REACH:g}, not {self.reach:g}")
        if self.steps is not None and not 2 <= self.steps <= 10_000:
            raise UserError(f"--steps must be 2 to 10,000, not {self.steps:,}")
        self.picture_file(self.suffixes(), self.latents)
        if (form := self.path_format()) in ("gif", "mp4"):
            from images.video import check_fps

            check_fps(form, self.fps)
        elif self.fps != InterpolationArguments.fps:
            raise UserError("--fps is an option of a film: add --form gif or --form mp4")

    def path_format(self) -> PathFormat:
        """--form, or by default what fits the suffix of --file."""
        by_suffix: dict[str, PathFormat] = {".gif": "gif", ".mp4": "mp4"}
        suffix = "" if self.file is None else self.file.suffix.lower()
        return self.form or by_suffix.get(suffix, "grid")

    def suffixes(self) -> list[str]:
        """Suffixes that --file may have, the first one by default."""
        if self.arithmetic is not None:
            return [".png"]
        by_form = {"gif": [".gif"], "mp4": [".mp4"], "grid": [".png"], "strip": [".png"]}
        return by_form[self.form] if self.form else [".png", ".gif", ".mp4"]


def main() -> None:
    """Parse the command line, write the picture or the film and print where it is."""
    arguments = parse(InterpolationArguments, description=__doc__, epilog=THEORY)
    generator = arguments.generator()
    faces = arguments.faces(generator, arguments.count)
    make = make_path if arguments.arithmetic is None else make_sum
    print_result(generator, *make(arguments, generator, faces))


def make_path(
    arguments: InterpolationArguments, generator: LoadedGenerator, faces: LatentSet
) -> tuple[str, Path]:
    """Write the path; return its description and its file."""
    from gan.latent.directions import Directions
    from gan.latent.render import save_along, save_interpolation

    for number in arguments.tiles:
        if not 0 <= number < len(faces.z):
            more = "" if arguments.latents else ", or --count N for more faces"
            raise UserError(
                f"--tiles: there is no face {number}; give numbers from 0 to {len(faces.z) - 1}{more}"
            )
    form = arguments.path_format()
    if arguments.along is not None:
        path, z = save_along(
            generator,
            faces,
            arguments.tiles,
            arguments.along,
            Directions.of(generator),
            reach=arguments.reach,
            form=form,
            steps=arguments.steps or (7 if form in ("grid", "strip") else 25),
            loop=arguments.loop,
            fps=arguments.fps,
            scale=arguments.scale,
            file=arguments.picture_file(arguments.suffixes()),
        )
        return f"{len(z):,} images along {arguments.along}", path
    path, z = save_interpolation(
        generator,
        faces,
        arguments.tiles,
        form=form,
        method=arguments.method,
        steps=arguments.steps or (8 if form in ("grid", "strip") else 25),
        loop=arguments.loop,
        fps=arguments.fps,
        clamped=arguments.keep_in_range,
        scale=arguments.scale,
        file=arguments.picture_file(arguments.suffixes()),
    )
    return f"{len(z):,} images", path


def make_sum(
    arguments: InterpolationArguments, generator: LoadedGenerator, faces: LatentSet
) -> tuple[str, Path]:
    """Write the picture of the sum; return its description and its file."""
    from gan.latent.arithmetic import parse_expression
    from gan.latent.directions import Directions
    from gan.latent.render import save_arithmetic

    names_direction = any(char.isalpha() for char in arguments.arithmetic)
    directions = Directions.of(generator) if names_direction else None
    terms = parse_expression(arguments.arithmetic, len(faces.z), directions)
    path, z = save_arithmetic(
        generator,
        faces,
        arguments.arithmetic,
        terms,
        directions=directions,
        clamped=arguments.keep_in_range,
        scale=arguments.scale,
        file=arguments.picture_file(arguments.suffixes()),
    )
    print_outside_prior(z[4])
    expression = " ".join(arguments.arithmetic.split())
    return expression if len(expression) <= MAX_PRINTED else f"{expression[:MAX_PRINTED]}...", path


def print_outside_prior(z: Latents) -> None:
    """Print how many values of a sum are outside the range of the prior, and by how much, if any."""
    from gan.latent.vectors import values_outside_prior

    outside, farthest = values_outside_prior(z)
    if outside:
        print(
            f"{outside:,} of the {z.size:,} values of the result lie outside the prior's range [-1, 1], "
            f"by up to {farthest:.2f}; --keep-in-range clamps them"
        )


if __name__ == "__main__":
    run_script(main)
