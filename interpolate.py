"""Walk between the faces of a trained generator, or do arithmetic with them.

The faces are chosen by their numbers in the grid of sample.py (its --labels shows them) for the same
seed. Results go into the run's folder, paths/ and arithmetic/, and beside them their latent vectors
(.npy), which sample.py --latents shows.

Which --method is right depends on the prior, from which training drew its latent vectors. For a
Gaussian prior, spherical: nearly all of its vectors have one length, and directions are all alike;
the arc keeps that length, while a straight line cuts through short vectors that were never seen in
training. The prior here is uniform in the cube [-1, 1]^100, for which neither is perfect. linear
stays inside the cube, which is convex, but half-way the vectors have shrunk by 30 percent (from a length
of 5.8 to 4.1, where that of a draw varies by 0.3), so the generator is given weaker input than any in
training. spherical keeps the length, and with it the mean and the spread of the weighted sums that
are all the generator's first layer sees; about 9 in 100 values then leave [-1, 1], mostly by less
than 0.3. So spherical is the default; --keep-in-range clamps what leaves the cube.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from engine.cli import parse
from engine.errors import UserError, run_script
from gan.latent import arithmetic
from gan.latent.render import LatentSet, PathFormat, save_arithmetic, save_interpolation
from gan.latent.vectors import Interpolation, Latents, values_outside_prior
from gan.options import FaceArguments, print_result
from images.video import FPS_RANGE, check_fps

if TYPE_CHECKING:
    from gan.generator import LoadedGenerator


@dataclass(frozen=True)
class InterpolationArguments(FaceArguments):
    """Which faces, and what to do with them."""

    tiles: tuple[int, ...] = (0, 1, 2, 3)
    """Numbers of the faces on the path, two or more (RUN goes before this flag)."""
    method: Interpolation = "spherical"
    """The straight line or the arc from one face to the next; see above."""
    form: PathFormat = "grid"
    """grid: a row for each pair of faces; strip: all in one row; gif and mp4: a film."""
    steps: int | None = None
    """Images from one face to the next, both counted; 8 in a grid or a strip, 25 in a film if not given."""
    loop: bool = False
    """Go back to the first face at the end."""
    fps: float = 12.0
    """Images a second in a film."""
    arithmetic: str | None = None
    """No path but a sum, such as "3,17,42 - 5,8,9 + 0.5*(11 + 12)": a number is a face, a comma list the
    mean of its faces. The picture shows each list and its mean, and the result among 8 close to it."""
    keep_in_range: bool = False
    """Bring values that left the prior's range, [-1, 1], back to its edge."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.arithmetic is not None:
            for field in fields(self):
                if field.name in PATHS_ONLY and getattr(self, field.name) != field.default:
                    raise UserError(
                        f"--{field.name} is about a path, and --arithmetic makes none: choose one"
                    )
        if len(self.tiles) < 2:
            raise UserError("--tiles needs the numbers of two or more faces")
        if self.steps is not None and not 2 <= self.steps <= 10_000:
            raise UserError(f"--steps must be 2 to 10,000, not {self.steps:,}")
        if self.form in FPS_RANGE:
            check_fps(self.form, self.fps)
        elif self.fps != type(self).fps:
            raise UserError(f"--fps is about a film, and --form {self.form} makes none: choose one")


PATHS_ONLY = ("tiles", "method", "form", "steps", "loop", "fps")
MOST_SHOWN = 80
"""Characters of an expression that are printed beside where its picture is."""


def main() -> None:
    """Parse the command line, make the picture or the film, say where it is."""
    choice = parse(InterpolationArguments, description=__doc__)
    generator = choice.generator()
    faces = choice.faces(generator, choice.count)
    if choice.arithmetic is not None:
        show_sum(choice, generator, faces)
    else:
        show_path(choice, generator, faces)


def show_path(choice: InterpolationArguments, generator: LoadedGenerator, faces: LatentSet) -> None:
    """Write the path and say where it is."""
    for number in choice.tiles:
        if not 0 <= number < len(faces.z):
            raise UserError(f"--tiles: there is no face {number}; they run from 0 to {len(faces.z) - 1}")
    place, z = save_interpolation(
        generator,
        faces,
        choice.tiles,
        form=choice.form,
        method=choice.method,
        steps=choice.steps or (8 if choice.form in ("grid", "strip") else 25),
        loop=choice.loop,
        fps=choice.fps,
        clamped=choice.keep_in_range,
    )
    say_range("of the path", z)
    print_result(generator, f"{len(z):,} images", place)


def show_sum(choice: InterpolationArguments, generator: LoadedGenerator, faces: LatentSet) -> None:
    """Write the picture of the sum and say where it is."""
    groups = arithmetic.parse_expression(choice.arithmetic, len(faces.z))
    place, around = save_arithmetic(generator, faces, choice.arithmetic, groups, clamped=choice.keep_in_range)
    say_range("of the result", around[4])
    shown = " ".join(choice.arithmetic.split())
    print_result(generator, shown if len(shown) <= MOST_SHOWN else f"{shown[:MOST_SHOWN]}...", place)


def say_range(which: str, z: Latents) -> None:
    """Say how far vectors left the prior's range, if they did."""
    outside, farthest = values_outside_prior(z)
    if outside:
        print(
            f"{outside:,} of the {z.size:,} values {which} lie outside the prior's range [-1, 1], "
            f"the farthest by {farthest:.2f}; --keep-in-range brings them back"
        )


if __name__ == "__main__":
    run_script(main)
