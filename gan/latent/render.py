"""What a trained generator shows: grids, single images, paths and sums, written into the run's folder.

Beside each picture lie its latent vectors, as a .npy file of the same name; the picture's text chunk
tells run, step, weights and where the faces come from. Nothing here imports torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from engine.errors import UserError
from engine.png import save_png
from gan.latent.arithmetic import Term, evaluate_expression
from gan.latent.figure import arithmetic_figure
from gan.latent.vectors import Interpolation, Latents, clamp_to_prior, interpolate, neighbours, save_latents
from images.tiles import GAP, number_tiles, tile
from images.video import check_video, save_video

if TYPE_CHECKING:
    from gan.generator import LoadedGenerator

BATCH = 64
"""Images that are made, and held, at a time."""

MAX_PIXELS = 89_000_000
"""In one picture; Pillow and others take a larger one for an attack, and warn or do not open it."""

NEIGHBOUR_RADIUS = 0.25
"""Of the noise around the result of a sum (Radford et al. 2015, figure 7)."""

PathFormat = Literal["grid", "strip", "gif", "mp4"]


@dataclass(frozen=True)
class LatentSet:
    """Latent vectors to show or to choose from by number, and where they come from."""

    z: Latents
    """float32 [N, latent_size]."""
    origin: dict[str, object]
    """For the text chunk: the seed, or the file they were read from."""
    name: str
    """For file names; of two sets that share one, the smaller is the beginning of the other."""


def save_grid(generator: LoadedGenerator, faces: LatentSet, columns: int, *, numbered: bool = False) -> Path:
    """Write all faces as one picture, row by row, and return its path.

    Raises:
        UserError: the picture would have more than `MAX_PIXELS`, or cannot be written.
    """
    columns = min(columns, len(faces.z))
    rows = -(-len(faces.z) // columns)
    _check_size(generator, rows * columns)
    images = np.stack(list(generate_images(generator, faces.z)))
    if numbered:
        images = number_tiles(images)
    # Two counts may make one grid, and share neither picture nor vectors.
    shown = f"{rows}x{columns}" if len(faces.z) == rows * columns else f"{len(faces.z)}_in_{rows}x{columns}"
    name = [faces.name, shown, *(["numbered"] if numbered else [])]
    return _save(_place(generator, "grids", *name), tile(images, columns), faces.z, generator, faces.origin)


def save_images(generator: LoadedGenerator, faces: LatentSet, folder: Path) -> None:
    """Write each face as a PNG of its own, 00000.png and so on, and latents.npy, holding few at a time.

    Raises:
        UserError: the folder holds something already, or cannot be written.
    """
    with writing(folder):
        # What an earlier call left would be taken for faces of this one.
        if folder.exists() and any(folder.iterdir()):
            raise UserError(f"{folder} is not empty; name a new folder, or empty it first")
        save_latents(folder / "latents.npy", faces.z)
        images = generate_images(generator, faces.z)
        for index, image in enumerate(tqdm(images, "faces", total=len(faces.z), disable=None)):
            text = _text(generator, faces.origin, face=index)
            save_png(folder / f"{index:05d}.png", image, text, durable=False)


def save_interpolation(
    generator: LoadedGenerator,
    faces: LatentSet,
    tiles: tuple[int, ...],
    *,
    form: PathFormat = "grid",
    method: Interpolation = "spherical",
    steps: int = 8,
    loop: bool = False,
    fps: float = 12.0,
    clamped: bool = False,
) -> tuple[Path, Latents]:
    """Write a path through some of the faces.

    Args:
        generator: makes the images.
        faces: to choose from.
        tiles: the numbers of two or more of them, in the order of the path.
        form: `strip`, one row; `grid`, a row for each pair of neighbours on the path; `gif` or `mp4`.
        method: see `gan.latent.vectors.path`.
        steps: images from one face to the next, both counted, at least 2.
        loop: the path also goes back to its first face.
        fps: images a second in a GIF or an MP4.
        clamped: whether values outside the prior's range are brought back.

    Returns:
        The file written, and the vectors of its images in their order, float32 [M, latent_size].

    Raises:
        UserError: the picture would have more than `MAX_PIXELS`, or cannot be written or encoded.
        ValueError: fewer than 2 tiles or 2 steps.
    """
    points = faces.z[list(tiles)]
    if form == "grid":
        pairs = pairwise([*points, points[0]] if loop else points)
        z = np.concatenate([interpolate(np.stack(pair), steps, method) for pair in pairs])
    else:
        z = interpolate(points, steps, method, loop=loop)
    z = clamp_to_prior(z) if clamped else z
    name = [faces.name, "_".join(map(str, tiles)), method, f"{steps}_steps"]
    name += [word for word, wanted in (("loop", loop), ("clamped", clamped)) if wanted]
    if form in ("grid", "strip"):
        _check_size(generator, len(z))
        images = np.stack(list(generate_images(generator, z)))
        text = {**faces.origin, "tiles": ",".join(map(str, tiles)), "method": method}
        picture = tile(images, steps if form == "grid" else len(z))
        return _save(_place(generator, "paths", *name, form), picture, z, generator, text), z
    place = _place(generator, "paths", *name, ending=f".{form}")
    check_video(place, fps)
    with writing(place):
        save_latents(place.with_suffix(".npy"), z)  # a GIF and an MP4 of one path have the same
        save_video(place, generate_images(generator, z), fps)
    return place, z


def save_arithmetic(
    generator: LoadedGenerator,
    faces: LatentSet,
    expression: str,
    groups: tuple[Term, ...],
    *,
    clamped: bool = False,
) -> tuple[Path, Latents]:
    """Write the picture of a sum of faces: the groups' exemplars and means, and around the result 3 x 3.

    Args:
        generator: makes the images.
        faces: to choose from.
        expression: as the user wrote it, for the text chunk and the file's name.
        groups: the expression parsed (`gan.latent.arithmetic.parse`).
        clamped: whether the result and its neighbours are brought back into the prior's range.

    Returns:
        The file written, and the 3 x 3 vectors, float32 [9, latent_size]; index 4 is the result.

    Raises:
        UserError: the picture would have more than `MAX_PIXELS`, or cannot be written.
    """
    result = evaluate_expression(groups, faces.z)
    # Clamped first as well as last, or the noise would be around a place that is not shown.
    around = neighbours(clamp_to_prior(result) if clamped else result, NEIGHBOUR_RADIUS, seed=0)
    around = clamp_to_prior(around) if clamped else around
    tiles = sorted({number for group in groups for number in group.tiles})
    _check_size(generator, sum(len(group.tiles) for group in groups) + len(groups) + len(around))
    image_of = dict(zip(tiles, generate_images(generator, faces.z[tiles]), strict=True))
    picture = arithmetic_figure(
        groups,
        [np.stack([image_of[number] for number in group.tiles]) for group in groups],
        np.stack(list(generate_images(generator, np.stack([group.mean(faces.z) for group in groups])))),
        np.stack(list(generate_images(generator, around))),
    )
    sum_name = "".join(expression.split()).replace("*", "x")
    name = [faces.name, sum_name, *(["clamped"] if clamped else [])]
    text = {**faces.origin, "arithmetic": expression}
    return _save(_place(generator, "arithmetic", *name), picture, around, generator, text), around


def generate_images(generator: LoadedGenerator, z: Latents) -> Iterator[NDArray[np.uint8]]:
    """The images of vectors [N, latent_size], one by one as uint8 [3, S, S], made `BATCH` at a time."""
    for start in range(0, len(z), BATCH):
        yield from np.asarray(generator.images(z[start : start + BATCH]))


@contextlib.contextmanager
def writing(place: Path) -> Iterator[None]:
    """Turn an `OSError` while `place` is written into a `UserError` that names it."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {place}: {error.strerror or error}") from error


def _save(
    place: Path, picture: NDArray[np.uint8], z: Latents, generator: LoadedGenerator, text: dict[str, object]
) -> Path:
    with writing(place):
        save_latents(place.with_suffix(".npy"), z)  # first: no picture is without its vectors
        save_png(place, picture, _text(generator, text))
    return place


def _text(generator: LoadedGenerator, origin: dict[str, object], **more: object) -> dict[str, object]:
    facts = {"run": generator.run.resolve().name, "step": generator.step, "weights": generator.weights}
    return {**facts, **origin, **more}


def _place(generator: LoadedGenerator, kind: str, *parts: str, ending: str = ".png") -> Path:
    """A file in the folder `kind` of the run, whose name tells the step and the parts."""
    weights = ["raw"] if generator.weights == "raw" else []
    name = "-".join([f"step_{generator.step:06d}", *weights, *map(_fit_for_file_name, parts)])
    return generator.run / kind / f"{name}{ending}"


def _fit_for_file_name(part: str) -> str:
    """The part itself, or its digest where some file system would refuse it: too long, or odd."""
    fit = re.fullmatch(r"[\w.,+()-]{1,60}", part, re.ASCII)
    return part if fit else hashlib.sha256(part.encode()).hexdigest()[:12]


def _check_size(generator: LoadedGenerator, tiles: int) -> None:
    most = MAX_PIXELS // (generator.image_size + GAP) ** 2
    if tiles > most:
        raise UserError(
            f"{tiles:,} images of {generator.image_size} pixels are too many for one picture, which takes "
            f"{most:,}; sample.py --separate FOLDER writes single images"
        )
