"""A folder of drawn faces and labels, drawn by several processes and completed after an interruption."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from engine.errors import UserError
from engine.files import atomic_write
from engine.progress import ProgressBar
from engine.worker_pool import parallel_map, worker_count
from faces.drawn.attributes import sample_face
from faces.drawn.portrait import DRAWING_VERSION, check_size, draw_face
from faces.drawn.shape import Head
from faces.tables import write_csv

FACES, FACES_COUNT = Path("data/drawn-5000"), 5000
PEOPLE, PEOPLE_COUNT, FACES_OF_EACH = Path("data/drawn-people-2000"), 2000, 25
"""The default folders of drawn faces, which are the same on every machine."""


def default_folder(workers: int | None = None, *, many_per_person: bool = False) -> Path:
    """The default training folder, drawn if it is incomplete.

    Args:
        workers: processes that draw; see `write_folder`.
        many_per_person: 25 faces of each of 80 people, for recognition, instead of 5 of each of 1,000.

    Raises:
        UserError: as `write_folder`.
    """
    if many_per_person:
        write_folder(PEOPLE, PEOPLE_COUNT, faces_per_person=FACES_OF_EACH, workers=workers)
        return PEOPLE
    write_folder(FACES, FACES_COUNT, workers=workers)
    return FACES


def write_folder(
    folder: str | Path,
    count: int,
    seed: int = 0,
    size: int = 112,
    faces_per_person: int = 5,
    workers: int | None = None,
) -> int:
    """Draw the first `count` faces of a seed that are missing in a folder, and return their number.

    The images are 00000.png and so on. labels.csv, written last, has a row for each: its file, the person's
    number, all values by name, and the landmarks in pixels as x0, y0, x1, ... in the order of `LANDMARKS`.
    drawn.json contains the settings. A complete folder is left unchanged, an interrupted one is completed,
    and a larger count adds to it.

    Args:
        folder: to write; may be missing.
        count: number of faces.
        seed: see `sample_face`.
        size: side of the images in pixels.
        faces_per_person: see `sample_face`.
        workers: processes that draw; None for one per core, 0 to draw in this process.

    Raises:
        UserError: a number is out of range, or the folder contains other files or cannot be written to.
    """
    check_size(size)
    limits = {"count": (count, 1), "seed": (seed, 0), "faces_per_person": (faces_per_person, 1)}
    for name, (value, low) in {**limits, "workers": (workers or 0, 0)}.items():
        if value < low:
            raise UserError(f"{name} is {value}; it must be {low} or more")
    settings, folder = _Settings(seed, size, faces_per_person), Path(folder)
    try:
        present = _existing_pictures(folder, settings, count)
        missing = count - len(present)
        if not missing and _count_rows(folder / "labels.csv") == count:
            return 0
        jobs = [(index, _name(index) not in present) for index in range(count)]
        draw = functools.partial(_draw_and_label, folder, settings)
        with contextlib.closing(parallel_map(draw, jobs, worker_count(workers))) as drawn:
            rows = list(ProgressBar(drawn, "drawing faces", count, unit=" faces"))
        write_csv(folder / "labels.csv", rows[0], (row.values() for row in rows))
    except OSError as error:
        raise UserError(f"cannot write drawn faces into {folder}: {error.strerror or error}") from error
    return missing


@dataclasses.dataclass(frozen=True)
class _Settings:
    """The settings in drawn.json, on which the images of a folder depend."""

    seed: int
    size: int
    faces_per_person: int
    drawing: int = DRAWING_VERSION


def _existing_pictures(folder: Path, settings: _Settings, count: int) -> set[str]:
    """Names of the images in `folder`; creates drawn.json in an empty folder and rejects any other."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; name a folder for the drawn faces")
    settings_file, expected = folder / "drawn.json", dataclasses.asdict(settings)
    names = (
        {path.name for path in folder.iterdir() if not path.name.startswith(".")}
        if folder.exists()
        else set()
    )
    if not names:
        with atomic_write(settings_file) as path:
            path.write_text(json.dumps(expected) + "\n", encoding="utf-8")
        return set()
    if settings_file.name not in names:
        raise UserError(f"{folder} contains files that are not drawn faces; name a new or empty folder")
    try:
        found = json.loads(settings_file.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if found != expected:
        raise UserError(
            f"{folder} contains faces drawn with {found}, not {expected}; name another folder or delete it"
        )
    pictures = {name for name in names if name.endswith(".png") and (folder / name).stat().st_size}
    extra = pictures - {_name(index) for index in range(count)}
    if extra:
        raise UserError(
            f"{folder} contains more than {count} faces, such as {min(extra)}; name another folder"
        )
    return pictures


def _draw_and_label(folder: Path, settings: _Settings, job: tuple[int, bool]) -> dict[str, int | float | str]:
    """Draw one face if it is missing, and return its row of labels."""
    index, missing = job
    face = sample_face(settings.seed, index, settings.faces_per_person)
    if missing:
        image, landmarks = draw_face(face, settings.size)
        # Not durable, which would wait for the disk: an image lost with the power is empty and drawn again.
        with atomic_write(folder / _name(index), durable=False) as path:
            # For drawings, run-length encoding compresses as well as the default and is faster.
            Image.fromarray(image).save(path, compress_type=zlib.Z_RLE)
    else:
        landmarks = Head(face.person, face.scene).landmarks()
    pixels = np.round(landmarks * settings.size, 3).tolist()
    positions = {
        f"{axis}{number}": position
        for number, pair in enumerate(pixels)
        for axis, position in zip("xy", pair, strict=True)
    }
    return {"file": _name(index), **face.labels(), **positions}


def _name(index: int) -> str:
    return f"{index:05d}.png"


def _count_rows(path: Path) -> int:
    """Number of rows of a labels file; 0 if it is missing."""
    return path.read_bytes().count(b"\n") - 1 if path.exists() else 0
