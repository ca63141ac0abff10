"""Landmarks that somebody marked: a CSV beside images, or the Cat data set's .cat files.

A CSV has a header and a row for each face: `file, x0, y0, x1, y1, ...`, in pixels of the image as it is
shown upright; a column `person` may tell who it is, and other columns are passed over. A .cat file is
named after its image and holds one line: the number of points, then x and y of each (Zhang et al. 2008).
Nothing here imports torch.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from engine.errors import UserError
from engine.files import is_file
from faces.tables import open_csv, write_csv

NAMES = ("landmarks.csv", "labels.csv")
"""What a CSV in the images' folder may be called to be found there."""
PERSON = r"(.+)_\d+"
"""How a CSV's files are taken to be named where nothing else is said: a person and a number. Those that are
not, and lie in several folders, are taken to lie in a folder for each person."""


@dataclass(frozen=True)
class Annotations:
    """The faces of a folder and their landmarks.

    Attributes:
        folder: where the images are.
        files: of each face the image, relative to the folder.
        points: float64 [N, K, 2], x and y in pixels of the image.
        people: of each face a name of who it is.
        places: of each face where it is written: a CSV and the row, or a .cat file.
    """

    folder: Path
    files: list[str]
    points: NDArray[np.float64]
    people: list[str]
    places: list[str]

    def some(self, rows: NDArray[np.int64]) -> Annotations:
        """These faces alone, in this order."""
        files, people, places = (
            [every[row] for row in rows] for every in (self.files, self.people, self.places)
        )
        return Annotations(self.folder, files, self.points[rows], people, places)


def read_annotations(
    folder: str | Path, table: str | Path | None = None, person: str | None = None
) -> Annotations:
    """The landmarks of a folder's images.

    Args:
        folder: holds the images.
        table: the CSV; if None one of `NAMES` in the folder or, where there is none, all .cat files in it
            and in the folders in it.
        person: regular expression that the whole of a file's name without its ending fits or, with a / in
            the expression, its path in the folder; its first group names the person. What does not fit is a
            person of its own. If None the column `person` counts, or else, for a CSV, `PERSON` and the
            folders; the images of .cat files are then all of different cats.

    Raises:
        UserError: one line with the file, and the row where there is one, for: a folder or table that is
            not there or not readable, a file that is not there, a row with too many or too few columns,
            a coordinate that is missing or no finite number, or nothing at all.
    """
    folder = Path(folder)
    try:
        if not folder.is_dir():
            raise UserError(f"there is no folder {folder}; give one that holds images and their landmarks")
        tables = [Path(table)] if table else [folder / name for name in NAMES if (folder / name).is_file()]
        if tables:
            files, points, people, places = _read_table(tables[0], folder)
            if people is None:
                people = _people_named(files)
        else:
            files, points = _read_cats(folder)
            people = [*files]
            places = [f"{folder / file}.cat" for file in files]
    except OSError as error:
        raise UserError(f"{folder} cannot be read: {error.strerror}") from None
    if person is not None:
        people = _people_by(person, files)
    return Annotations(folder, files, points, people, places)


def write_table(path: str | Path, files: Sequence[str], points: NDArray[np.floating]) -> None:
    """Write landmarks as a CSV that `read_annotations` reads.

    Args:
        path: of the CSV.
        files: N names.
        points: [N, K, 2] in pixels; written with two digits behind the point.

    Raises:
        OSError: it cannot be written; an earlier one is untouched.
    """
    count = points.shape[1]
    header = ["file", *(f"{axis}{number}" for number in range(count) for axis in "xy")]
    rows = (
        [name, *(f"{value:.2f}" for value in face.ravel())] for name, face in zip(files, points, strict=True)
    )
    write_csv(path, header, rows)


def _read_table(
    path: Path, folder: Path
) -> tuple[list[str], NDArray[np.float64], list[str] | None, list[str]]:
    files: list[str] = []
    people: list[str] = []
    places: list[str] = []
    rows: list[list[float]] = []
    with open_csv(path) as file:
        table = csv.reader(file)
        header = [name.strip() for name in next(table, [])]
        columns = _coordinate_columns(path, header)
        for number, cells in enumerate(table, 2):
            place = f"{path}, row {number}"
            if not cells:
                continue
            if len(cells) != len(header):
                raise UserError(f"{place}: {len(cells)} columns, but the header has {len(header)}")
            files.append(cells[header.index("file")].strip())
            if not is_file(folder / files[-1]):
                raise UserError(f"{place}: there is no file {files[-1]!r} in {folder}")
            rows.append([_coordinate(cells[column], f"{place}, {header[column]}") for column in columns])
            places.append(place)
            if "person" in header:
                people.append(cells[header.index("person")].strip() or files[-1])
    if not rows:
        raise UserError(f"{path} has a header and no rows: there is no face in it")
    return files, np.array(rows).reshape(len(rows), -1, 2), people or None, places


def _coordinate_columns(path: Path, header: list[str]) -> list[int]:
    """The columns of x0, y0, x1, y1, ..., wherever they stand."""
    count = sum(bool(re.fullmatch(r"[xy]\d+", name)) for name in header)
    wanted = [f"{axis}{number}" for number in range(count // 2) for axis in "xy"]
    missing = [name for name in ["file", *wanted] if header.count(name) != 1]
    if missing or not count or count % 2:
        what = f"not just one column {missing[0]!r}" if missing else f"{count} columns of coordinates"
        raise UserError(f"{path}, row 1: the header must be file, x0, y0, x1, y1, ...; it has {what}")
    return [header.index(name) for name in wanted]


def _coordinate(text: str, place: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise UserError(f"{place}: {text!r} is no number") from None
    if not math.isfinite(value):
        raise UserError(f"{place}: {text.strip()} is no place in an image")
    return value


def _read_cats(folder: Path) -> tuple[list[str], NDArray[np.float64]]:
    paths = sorted(folder.rglob("*.cat"))
    if not paths:
        raise UserError(
            f"{folder} has no landmarks: neither {' nor '.join(NAMES)} nor .cat files; name a CSV with --csv"
        )
    faces = [_read_cat(path) for path in paths]
    for path, face in zip(paths, faces, strict=True):
        if len(face) != len(faces[0]):
            raise UserError(f"{path} has {len(face)} points, but {paths[0]} has {len(faces[0])}")
        if not path.with_suffix("").is_file():
            raise UserError(f"{path}: there is no image {path.stem} beside it")
    return [path.with_suffix("").relative_to(folder).as_posix() for path in paths], np.array(faces)


def _read_cat(path: Path) -> NDArray[np.float64]:
    try:
        words = path.read_text(encoding="ascii", errors="replace").split()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    numbers = [_coordinate(word, f"{path}, row 1") for word in words]
    if len(numbers) < 3 or len(numbers) != 1 + 2 * numbers[0]:
        raise UserError(
            f"{path}, row 1: {len(numbers)} numbers instead of the number of points, then x and y of each"
        )
    return np.array(numbers[1:]).reshape(-1, 2)


def _people_named(files: list[str]) -> list[str]:
    """Who a CSV's faces are, where only the files' names and folders tell."""
    folders = [PurePosixPath(file).parent.parts for file in files]
    # What all files share, such as images/, tells nobody from another. The next folder does, and no deeper
    # one: Ann/2023/01.jpg and Ann/2024/01.jpg may not part Ann.
    shared = sum(1 for _ in takewhile(lambda parts: len({*parts}) == 1, zip(*folders, strict=False)))
    return [
        match[1] if (match := re.fullmatch(PERSON, PurePosixPath(file).stem)) else (*parts, file)[shared]
        for file, parts in zip(files, folders, strict=True)
    ]


def _people_by(pattern: str, files: list[str]) -> list[str]:
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UserError(f"--person {pattern!r} is no regular expression: {error}") from None
    if not expression.groups:
        raise UserError(f"--person {pattern!r} has no group: put brackets around what names the person")
    names = [PurePosixPath(file).with_suffix("") for file in files]
    whole = "/" in pattern
    matches = [
        (file, expression.fullmatch(name.as_posix() if whole else name.name))
        for file, name in zip(files, names, strict=True)
    ]
    return [match[1] or file if match else file for file, match in matches]
