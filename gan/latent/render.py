"""Write grids, single images, interpolations and sums of a trained generator into the run's folder.

The latent vectors of each picture are saved beside it, as a .npy file of the same name. The picture's text
chunks contain the run, step, weights and origin of the faces. Nothing here imports torch.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engine.errors import UserError
from engine.png import save_png
from engine.progress import ProgressBar
from engine.runs import report_write_errors
from gan.latent import Interpolation, PathFormat
from gan.latent.arithmetic import Shift, Term, evaluate_expression
from gan.latent.directions import Directions
from gan.latent.figure import arithmetic_figure
from gan.latent.vectors import Latents, clamp_to_prior, interpolate, neighbours, save_latents
from images.tiles import GAP, MAX_PIXELS, number_tiles, scale_image, tile
from images.video import check_video, save_video

if TYPE_CHECKING:
    from gan.generator import LoadedGenerator

BATCH_SIZE = 64
"""Images in memory at a time where a folder or a film is written."""

NEIGHBOUR_RADIUS = 0.25
"""Radius of the noise around the result of a sum (Radford et al. 2015, figure 7)."""


@dataclass(frozen=True)
class LatentSet:
    """Latent vectors, to show or to choose from by number, and their origin."""

    z: Latents
    """float32 [N, latent_size]."""
    origin: dict[str, object]
    """Content of the text chunks: the seed, or the file that contains the vectors."""
    name: str
    """Part of the file names. If two sets share it, the smaller one is the beginning of the other."""


def shift_faces(faces: LatentSet, directions: Directions, strengths: Mapping[str, float]) -> LatentSet:
    """The faces moved along directions; without any, the same.

    Raises:
        UserError: see `Directions.move`.
    """
    words = [f"{name}={strength:g}" for name, strength in strengths.items()]
    if not words:
        return faces
    return LatentSet(
        directions.move(faces.z, strengths),
        {**faces.origin, "shift": " ".join(words)},
        "-".join([faces.name, *words, directions.stamp(strengths)]).replace("=", "_"),
    )


def save_grid(
    generator: LoadedGenerator,
    faces: LatentSet,
    columns: int,
    *,
    numbered: bool = False,
    scale: float = 1.0,
    file: Path | None = None,
) -> Path:
    """Write all faces as one grid, row by row, and return its path.

    Args:
        generator: makes the images.
        faces: their vectors.
        columns: images in a row.
        numbered: write each face's number below it.
        scale: factor on the images' sides.
        file: the PNG to write; by default one in the run's folder, named after its content.

    Raises:
        UserError: the picture would exceed `MAX_PIXELS`, or cannot be written.
    """
    count = len(faces.z)
    columns = min(columns, count)
    rows = -(-count // columns)
    _check_size(generator, rows * columns, scale, numbered=numbered)
    images = _scaled(generator.images(faces.z), scale)
    if numbered:
        images = number_tiles(images)
    # Grids of one shape may differ in the number of faces.
    shape = f"{rows}x{columns}" if count == rows * columns else f"{count}_in_{rows}x{columns}"
    path = file or _path(generator, "grids", faces.name, shape, *["numbered"] * numbered, scale=scale)
    return _save(path, tile(images, columns), faces.z, generator, faces.origin)


def save_images(generator: LoadedGenerator, faces: LatentSet, folder: Path, *, scale: float = 1.0) -> None:
    """Write each face as a PNG, 00000.png and so on, and latents.npy, with few images in memory at a time.

    Raises:
        UserError: the folder is not empty, or cannot be written to.
    """
    with report_write_errors(folder):
        # Files of an earlier call would be mixed up with those of this one.
        if folder.exists() and any(folder.iterdir()):
            raise UserError(f"{folder} is not empty; name a new folder, or empty it first")
        save_latents(folder / "latents.npy", faces.z)
        images = generate_images(generator, faces.z, scale)
        for index, image in enumerate(ProgressBar(images, "faces", total=len(faces.z))):
            text = _text(generator, faces.origin | {"face": index})
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
    scale: float = 1.0,
    file: Path | None = None,
) -> tuple[Path, Latents]:
    """Write an interpolation between some of the faces.

    Args:
        generator: makes the images.
        faces: the faces to choose from.
        tiles: numbers of two or more faces, in the order of the path.
        form: `grid` (a row for each pair of neighbours on the path), `strip` (one row), `gif` or `mp4`.
        method: see `gan.latent.vectors.interpolate`.
        steps: images from one face to the next, both included, at least 2.
        loop: whether the path returns to its first face.
        fps: frames per second of a GIF or an MP4.
        clamped: whether values are clamped to the range of the prior.
        scale: factor on the images' sides.
        file: the PNG, GIF or MP4 to write; by default one in the run's folder, named after its content.

    Returns:
        The path of the file, and the vectors of its images in order, float32 [M, latent_size].

    Raises:
        UserError: the picture would exceed `MAX_PIXELS`, or cannot be written or encoded.
        ValueError: fewer than 2 tiles or 2 steps.
    """
    points = faces.z[list(tiles)]
    if form == "grid":
        pairs = pairwise([*points, points[0]] if loop else points)
        z = np.concatenate([interpolate(np.stack(pair), steps, method) for pair in pairs])
    else:
        z = interpolate(points, steps, method, loop=loop)
    z = clamp_to_prior(z) if clamped else z
    numbers = [str(number) for number in tiles]
    name = [faces.name, "_".join(numbers), method, f"{steps}_steps", *["loop"] * loop, *["clamped"] * clamped]
    path = file or _path_of_form(generator, name, form, scale)
    if form in ("grid", "strip"):
        text = {**faces.origin, "tiles": ",".join(numbers), "method": method}
        _save_tiles(path, z, steps if form == "grid" else len(z), generator, text, scale)
    else:
        _save_film(path, z, generate_images(generator, z, scale), fps)
    return path, z


def save_along(
    generator: LoadedGenerator,
    faces: LatentSet,
    tiles: tuple[int, ...],
    name: str,
    directions: Directions,
    *,
    reach: float = 3.0,
    form: PathFormat = "grid",
    steps: int = 7,
    loop: bool = False,
    fps: float = 12.0,
    scale: float = 1.0,
    file: Path | None = None,
) -> tuple[Path, Latents]:
    """Write some of the faces as they move along a direction, from strength -`reach` to `reach`.

    Args:
        generator: makes the images.
        faces: the faces to choose from.
        tiles: numbers of one or more faces.
        name: of the direction.
        directions: contain it.
        reach: the largest strength, in standard deviations of the prior.
        form: `grid` (a row for each face), `strip` (all in one row), `gif` or `mp4` (the faces side by side).
        steps: images of each face, at least 2.
        loop: whether the strengths also go back to just before the first, so that a film repeats smoothly.
        fps: frames per second of a GIF or an MP4.
        scale: factor on the images' sides.
        file: the PNG, GIF or MP4 to write; by default one in the run's folder, named after its content.

    Returns:
        The path of the file, and the vectors, float32 [M, latent_size], face by face.

    Raises:
        UserError: there is no such direction; the picture would exceed `MAX_PIXELS`, or cannot be written or
            encoded.
    """
    strengths = [reach * (2 * step / (steps - 1) - 1) for step in range(steps)]
    strengths += strengths[-2:0:-1] if loop else []
    z = np.stack([directions.move(faces.z[list(tiles)], {name: strength}) for strength in strengths], axis=1)
    vectors = z.reshape(-1, z.shape[-1])
    numbers = [str(number) for number in tiles]
    direction = f"{name}_{directions.stamp([name])}"
    parts = [faces.name, "_".join(numbers), direction, f"{reach:g}", f"{steps}_steps", *["loop"] * loop]
    path = file or _path_of_form(generator, parts, form, scale)
    if form in ("grid", "strip"):
        text = {**faces.origin, "tiles": ",".join(numbers), "along": name, "reach": f"{reach:g}"}
        columns = len(strengths) if form == "grid" else len(vectors)
        _save_tiles(path, vectors, columns, generator, text, scale)
    else:
        _check_size(generator, len(tiles), scale)
        frames = (tile(_scaled(generator.images(frame), scale), len(tiles)) for frame in z.swapaxes(0, 1))
        _save_film(path, vectors, frames, fps)
    return path, vectors


def save_arithmetic(
    generator: LoadedGenerator,
    faces: LatentSet,
    expression: str,
    terms: tuple[Term | Shift, ...],
    *,
    directions: Directions | None = None,
    clamped: bool = False,
    scale: float = 1.0,
    file: Path | None = None,
) -> tuple[Path, Latents]:
    """Write the picture of a sum of faces: exemplars and mean of each term, and the result 3 x 3.

    Args:
        generator: makes the images.
        faces: the faces to choose from.
        expression: the user's text, for the text chunks and the file name.
        terms: the parsed expression (`gan.latent.arithmetic.parse_expression`).
        directions: those that are terms of it.
        clamped: whether the result and its neighbours are clamped to the range of the prior.
        scale: factor on the images' sides.
        file: the PNG to write; by default one in the run's folder, named after its content.

    Returns:
        The path of the file, and the 3 x 3 vectors, float32 [9, latent_size]; index 4 is the result.

    Raises:
        UserError: the picture would exceed `MAX_PIXELS`, or cannot be written.
    """
    result = evaluate_expression(terms, faces.z, directions)
    # Clamp the result too, so that the noise is added to the vector in the centre.
    z = neighbours(clamp_to_prior(result) if clamped else result, NEIGHBOUR_RADIUS, seed=0)
    z = clamp_to_prior(z) if clamped else z
    sets = [term for term in terms if isinstance(term, Term)]
    tiles = sorted({number for term in sets for number in term.tiles})
    _check_size(generator, sum(len(term.tiles) for term in sets) + len(sets) + len(z), scale)
    image_of = dict(zip(tiles, _scaled(generator.images(faces.z[tiles]), scale), strict=True))
    picture = arithmetic_figure(
        terms,
        [np.stack([image_of[number] for number in term.tiles]) for term in sets],
        _scaled(generator.images([term.mean(faces.z) for term in sets]), scale),
        _scaled(generator.images(z), scale),
    )
    name = "".join(expression.split()).replace("*", "x")
    shifts = [term.name for term in terms if isinstance(term, Shift)]
    parts = [faces.name, name, *([directions.stamp(shifts)] if shifts else []), *["clamped"] * clamped]
    path = file or _path(generator, "arithmetic", *parts, scale=scale)
    return _save(path, picture, z, generator, {**faces.origin, "arithmetic": expression}), z


def generate_images(
    generator: LoadedGenerator, z: Latents, scale: float = 1.0
) -> Iterator[NDArray[np.uint8]]:
    """Yield the images uint8 [3, S, S], S scaled, of vectors [N, latent_size], `BATCH_SIZE` at a time."""
    for start in range(0, len(z), BATCH_SIZE):
        yield from _scaled(generator.images(z[start : start + BATCH_SIZE]), scale)


def _scaled(images: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    return np.stack([scale_image(image, scale) for image in images])


def _save_tiles(
    path: Path, z: Latents, columns: int, generator: LoadedGenerator, text: dict[str, object], scale: float
) -> None:
    _check_size(generator, len(z), scale)
    _save(path, tile(_scaled(generator.images(z), scale), columns), z, generator, text)


def _save_film(path: Path, z: Latents, frames: Iterator[NDArray[np.uint8]], fps: float) -> None:
    check_video(path, fps)
    with report_write_errors(path):
        save_latents_beside(path, z)  # shared by the GIF and the MP4 of one path
        save_video(path, frames, fps)


def _save(
    path: Path, picture: NDArray[np.uint8], z: Latents, generator: LoadedGenerator, text: dict[str, object]
) -> Path:
    with report_write_errors(path):
        save_latents_beside(path, z)  # first, so that no picture lacks its vectors
        save_png(path, picture, _text(generator, text))
    return path


def save_latents_beside(picture: Path, z: Latents) -> None:
    """Write vectors to the .npy file beside a picture.

    Raises:
        UserError: there is a file of other vectors, but no picture yet that they could belong to.
        OSError: the file cannot be written.
    """
    path = picture.with_suffix(".npy")
    if path.exists() and not picture.exists() and not _contains(path, z):
        raise UserError(
            f"the vectors of {picture.name} belong beside it, but {path} exists: give another --file"
        )
    save_latents(path, z)


def _contains(path: Path, z: Latents) -> bool:
    try:
        return np.array_equal(np.load(path, allow_pickle=False), z)
    except (OSError, ValueError):
        return False


def _text(generator: LoadedGenerator, text: dict[str, object]) -> dict[str, object]:
    run = generator.run.resolve().name
    return {"run": run, "step": generator.step, "weights": generator.weights, **text}


def _path(generator: LoadedGenerator, folder: str, *parts: str, scale: float, suffix: str = ".png") -> Path:
    """A file in a folder of the run, named after the generator, the parts and the scale."""
    parts = (*parts, *[f"x{scale:g}"] * (scale != 1))
    name = "-".join([generator.stamp, *map(_to_file_name, parts)])
    return generator.run / folder / f"{name}{suffix}"


def _path_of_form(generator: LoadedGenerator, parts: list[str], form: PathFormat, scale: float) -> Path:
    """As `_path`, in paths/; all films of a path have the name of the same vectors."""
    if form in ("grid", "strip"):
        return _path(generator, "paths", *parts, form, scale=scale)
    return _path(generator, "paths", *parts, scale=scale, suffix=f".{form}")


def _to_file_name(part: str) -> str:
    """The part itself, or its digest if it is too long or has characters that some file systems refuse."""
    valid = re.fullmatch(r"[\w.,+()-]{1,60}", part, re.ASCII)
    return part if valid else hashlib.sha256(part.encode()).hexdigest()[:12]


def _check_size(generator: LoadedGenerator, tiles: int, scale: float, *, numbered: bool = False) -> None:
    side = round(generator.image_size * scale)
    tile_height = number_tiles(np.zeros((1, 3, side, side), np.uint8)).shape[2] if numbered else side
    max_tiles = MAX_PIXELS // ((side + GAP) * (tile_height + GAP))
    if tiles > max_tiles:
        raise UserError(
            f"{tiles:,} images of {side:,} pixels are too many for one picture; "
            f"{max_tiles:,} fit, and sample.py --separate FOLDER writes single images"
        )
