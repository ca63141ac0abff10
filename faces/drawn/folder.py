"""A folder of drawn faces with their labels, made by several processes and completed after a stop."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import zlib
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from engine.errors import UserError
from engine.files import atomic_write
from engine.worker_pool import parallel_map, worker_count
from faces.drawn.attributes import sample_face
from faces.drawn.portrait import DRAWING, check_size, draw_face
from faces.drawn.shape import Head
from faces.tables import write_csv

FACES, FACES_COUNT = Path("data/drawn-5000"), 5000
PEOPLE, PEOPLE_COUNT, FACES_OF_EACH = Path("data/drawn-people-2000"), 2000, 25
"""The folders of drawn faces that come with the project, which every machine draws alike."""


def default_folder(workers: int | None = None, *, many_per_person: bool = False) -> Path:
    """The folder to learn from where the user has none, written where it is not complete.

    Args:
        workers: processes that draw; see `write_folder`.
        many_per_person: 25 faces of each of 80 people, to learn who is who, instead of 5 of each of 1,000.

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
    check_size(size)
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
        draw = functools.partial(_make, folder, recipe)
        with contextlib.closing(parallel_map(draw, jobs, worker_count(workers))) as drawn:
            rows = list(tqdm(drawn, "drawing faces", count, unit=" faces"))
        write_csv(folder / "labels.csv", rows[0], (row.values() for row in rows))
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
        with atomic_write(kept) as path:
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
    pictures = {name for name in names if name.endswith(".png") and (folder / name).stat().st_size}
    beyond = pictures - {_name(index) for index in range(count)}
    if beyond:
        raise UserError(f"{folder} holds more than {count} faces, such as {min(beyond)}; name another folder")
    return pictures


def _make(folder: Path, recipe: _Recipe, job: tuple[int, bool]) -> dict[str, int | float | str]:
    """Draw one face if it is missing; its row of labels either way."""
    index, missing = job
    face = sample_face(recipe.seed, index, recipe.faces_per_person)
    if missing:
        image, landmarks = draw_face(face, recipe.size)
        # What is lost with the power is found empty and drawn again; no need to wait for the disk each time.
        with atomic_write(folder / _name(index), durable=False) as path:
            # Run lengths alone pack a drawing as well as a search for matches does, and sooner.
            Image.fromarray(image).save(path, compress_type=zlib.Z_RLE)
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
