"""Faces drawn from parameters, with every label known: data to start with, and to check what is learnt.

    face = sample_face(seed=0, index=7)
    image, landmarks = draw_face(face)          # uint8 [112, 112, 3], float64 [29, 2]
    write_folder("data/drawn", count=5000)      # 00000.png ..., labels.csv

The parameters are in `drawn_traits`, the landmarks' names in `drawn_shape`; the other `drawn_` files paint.
"""

from __future__ import annotations

import concurrent.futures
import csv
import dataclasses
import functools
import json
import multiprocessing
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops
from tqdm import tqdm

from faces.drawn_canvas import Canvas
from faces.drawn_features import paint_brows, paint_ears, paint_eyes, paint_lines, paint_mouth, paint_nose
from faces.drawn_hair import Hair, natural_hair_colour, paint_beard
from faces.drawn_shape import AREAS, LANDMARKS, MIRROR, Head
from faces.drawn_skin import Light, background, skin_colour
from faces.drawn_traits import Face, Moment, Person, sample_face, sample_moment, sample_person
from faces.drawn_wear import Hat, paint_body, paint_glasses
from gan.errors import UserError
from gan.files import replacing

__all__ = [
    "AREAS", "LANDMARKS", "MIRROR", "Face", "Moment", "Person",
    "draw_face", "sample_face", "sample_moment", "sample_person", "write_folder",
]  # fmt: skip

DRAWING = 1
"""Raised whenever the same parameters come to look otherwise, so that no folder mixes two drawings."""


def draw_face(face: Face, size: int = 112) -> tuple[np.ndarray, np.ndarray]:
    """Draw `face` at `size` x `size` pixels.

    Returns the picture, RGB uint8 [size, size, 3], and the places of `LANDMARKS`, float64 [29, 2]: x and y
    as fractions of the side, (0, 0) the top left corner of the picture and (1, 1) the bottom right. A
    landmark lies where its feature is, be it hidden by a hat, a beard or hair. The same face always gives the
    same picture (with the same versions of NumPy and Pillow).

    Raises:
        UserError: the size is not within 32 to 1024.
    """
    _check_size(size)
    head = Head(face.person, face.moment)
    light = Light(head)
    hair, hat = Hair(head, light), Hat(head, light)
    canvas = Canvas(size)
    canvas.paint(background(head))
    hair.paint_behind(canvas)
    paint_body(canvas, head, light)
    if hat.kind != "headscarf":
        paint_ears(canvas, head, light)
    outline = canvas.mask(head.outline())
    canvas.paint(light.face(), outline)
    overhead = [*hair.outline(), *hat.outline()]
    if overhead:
        shadow = canvas.mask(*overhead, softness=0.022)
        shadow = ImageChops.offset(
            shadow, round(-0.024 * light.side * canvas.side), round(0.022 * canvas.side)
        )
        canvas.paint(skin_colour(head) * 0.38, ImageChops.multiply(shadow, outline.convert("L")), 0.42)
    paint_lines(canvas, head)
    paint_nose(canvas, head, light)
    paint_beard(canvas, head, light)
    paint_mouth(canvas, head, light)
    paint_eyes(canvas, head, light)
    paint_brows(canvas, head, natural_hair_colour(head) * 0.75)
    hair.paint_before(canvas, outline)
    paint_glasses(canvas, head)
    hat.paint(canvas)
    return canvas.finish(), head.landmarks()


def write_folder(
    folder: str | Path,
    count: int,
    seed: int = 0,
    size: int = 112,
    faces_per_person: int = 5,
    workers: int | None = None,
) -> int:
    """Make `folder` hold the first `count` faces of `seed`; say how many of them were missing.

    The pictures are 00000.png and so on. labels.csv has a row for each: its file, the person's number, every
    trait by its name, and the landmarks in pixels as x0, y0, x1, ... in the order of `LANDMARKS`; it is
    written last. drawn.json keeps what the faces were drawn with. Whatever is there already is kept: a folder
    that is complete is left as it is (0 is returned), one that was interrupted is completed, a larger count
    adds to it.

    `workers` processes draw (default: one for each usable core); 0 draws in this process.

    Raises:
        UserError: a number is out of its range, or the folder holds something else or cannot be written.
    """
    _check_size(size)
    least = {"count": (count, 1), "seed": (seed, 0), "faces_per_person": (faces_per_person, 1)}
    for name, (value, low) in {**least, "workers": (workers or 0, 0)}.items():
        if value < low:
            raise UserError(f"{name} is {value}; it must be {low} or more")
    recipe, folder = _Recipe(seed, size, faces_per_person), Path(folder)
    try:
        present = _present(folder, recipe, count)
        missing = count - len(present)
        if not missing and _rows(folder / "labels.csv") == count:
            return 0
        jobs = [(index, _name(index) not in present) for index in range(count)]
        rows = list(tqdm(_work(folder, recipe, jobs, workers), "drawing faces", count, unit=" faces"))
        with replacing(folder / "labels.csv") as path, path.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, rows[0])
            table.writeheader()
            table.writerows(rows)
    except OSError as error:
        raise UserError(f"cannot write drawn faces into {folder}: {error.strerror or error}") from error
    return missing


@dataclasses.dataclass(frozen=True)
class _Recipe:
    """What, beside their number, decides how the faces of a folder look."""

    seed: int
    size: int
    faces_per_person: int
    drawing: int = DRAWING


def _present(folder: Path, recipe: _Recipe, count: int) -> set[str]:
    """Names of the faces that `folder` holds already; says so where it holds anything else."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; name a folder for the drawn faces")
    kept, wanted = folder / "drawn.json", dataclasses.asdict(recipe)
    names = (
        {path.name for path in folder.iterdir() if not path.name.startswith(".")}
        if folder.exists()
        else set()
    )
    if not names:
        with replacing(kept) as path:
            path.write_text(json.dumps(wanted) + "\n", encoding="utf-8")
        return set()
    if kept.name not in names:
        raise UserError(f"{folder} holds files that are not drawn faces; name a new or empty folder")
    try:
        found = json.loads(kept.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if found != wanted:
        raise UserError(
            f"{folder} holds faces drawn with {found}, not {wanted}; name another folder or delete it"
        )
    pictures = {name for name in names if name.endswith(".png")}
    beyond = pictures - {_name(index) for index in range(count)}
    if beyond:
        raise UserError(f"{folder} holds more than {count} faces, such as {min(beyond)}; name another folder")
    return pictures


def _work(
    folder: Path, recipe: _Recipe, jobs: list[tuple[int, bool]], workers: int | None
) -> Iterator[dict[str, int | float | str]]:
    task = functools.partial(_make, folder, recipe)
    if workers is None:
        workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if workers == 0:
        yield from map(task, jobs)
        return
    # Spawned, not forked: it works on every system, and beside threads.
    pool = concurrent.futures.ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), initializer=_leave_interrupts_to_the_parent
    )
    try:
        yield from pool.map(task, jobs, chunksize=16)
    finally:
        pool.shutdown(cancel_futures=True)


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _make(folder: Path, recipe: _Recipe, job: tuple[int, bool]) -> dict[str, int | float | str]:
    """Draw one face if it is missing; its row of labels either way."""
    index, missing = job
    face = sample_face(recipe.seed, index, recipe.faces_per_person)
    if missing:
        image, landmarks = draw_face(face, recipe.size)
        with replacing(folder / _name(index)) as path:
            Image.fromarray(image).save(path, compress_level=3)
    else:
        landmarks = Head(face.person, face.moment).landmarks()
    pixels = np.round(landmarks * recipe.size, 3).tolist()
    places = {
        f"{axis}{number}": place
        for number, pair in enumerate(pixels)
        for axis, place in zip("xy", pair, strict=True)
    }
    return {"file": _name(index), **face.labels(), **places}


def _name(index: int) -> str:
    return f"{index:05d}.png"


def _rows(path: Path) -> int:
    """How many faces a labels file has; 0 where there is none."""
    return path.read_bytes().count(b"\n") - 1 if path.exists() else 0


def _check_size(size: int) -> None:
    if not 32 <= size <= 1024:
        raise UserError(f"the size of drawn faces is {size} pixels; it runs from 32 to 1024")
