"""Annotated landmarks: a CSV beside the images, or the Cat data set's .cat files.

A CSV has a header and a row for each face: `file, x0, y0, x1, y1, ...`, in pixels of the image after its EXIF
rotation, separated by commas, semicolons or tabs. With the latter two, coordinates may have a decimal comma.
A column `person` may name the person; other columns are ignored. A .cat file has its image's name and
contains one line: the number of points, then x and y of each (Zhang et al. 2008). A point is not marked if
both its cells are empty or NaN, or if it is at -1, -1 or 0, 0. Nothing here imports torch.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from engine.errors import UserError
from engine.files import is_file
from engine.output import counted
from faces.tables import open_csv, write_csv
from images.exclude import ExcludePatterns

TABLE_NAMES = ("landmarks.csv", "labels.csv")
"""File names under which a CSV is found in the images' folder."""
UNMARKED = "-1"
"""x and y of a point that is not marked, as some tables contain them."""
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
FAR = 2.5
"""A point is not on the face if it is farther from the median point than this many median distances."""
MIN_SHARED = (3, 0.05)
"""Number and share of rows in which the same place, far from the others, is reported."""
PERSON_PATTERN = r"(.+)_\d+"
"""Default pattern of a CSV's file names: person and number. If there are several folders, the folder names
the person of a file that does not match."""


@dataclass(frozen=True)
class Annotations:
    """The annotated faces of a folder.

    Attributes:
        folder: of the images.
        files: image of each face, relative to the folder.
        points: float64 [N, K, 2], x and y in pixels of the image; both NaN if the point is not marked.
        people: person of each face.
        locations: where each face is annotated: a CSV and the row, or a .cat file.
        notes: lines to report about excluded images and points that are not marked.
    """

    folder: Path
    files: list[str]
    points: NDArray[np.float64]
    people: list[str]
    locations: list[str]
    notes: tuple[str, ...] = ()

    def select(self, rows: NDArray[np.int64]) -> Annotations:
        """Only these faces, in this order."""
        files, people, locations = (
            [values[row] for row in rows] for values in (self.files, self.people, self.locations)
        )
        return Annotations(self.folder, files, self.points[rows], people, locations, self.notes)


def read_annotations(
    folder: str | Path,
    table: str | Path | None = None,
    person: str | None = None,
    exclude: Collection[str] = (),
) -> Annotations:
    """Read the landmarks of a folder's images.

    Args:
        folder: of the images.
        table: the CSV; None for one of `TABLE_NAMES` in the folder or else all .cat files in it and its
            subfolders.
        person: regular expression for a file's whole name without suffix or, if it contains a /, its path in
            the folder; its first group names the person. A file that does not match is a separate person.
            If None, the column `person` applies or else, for a CSV, `PERSON_PATTERN` and the folders; each
            .cat file is a different cat.
        exclude: patterns of images and folders to leave out; see `images.exclude`.

    Raises:
        UserError: the folder or table is missing or unreadable, a file is missing, a row has the wrong number
            of columns, one coordinate of a point is not a finite number, or there are no landmarks.
    """
    folder = Path(folder)
    patterns = ExcludePatterns(exclude)
    try:
        if not folder.is_dir():
            found = f"{folder} is a file" if is_file(folder) else f"there is no folder {folder}"
            raise UserError(f"{found}; name a folder of images with landmarks")
        tables = [folder / name for name in TABLE_NAMES if (folder / name).is_file()]
        if table or tables:
            files, points, people, locations = _read_table(
                Path(table) if table else tables[0], folder, patterns
            )
            if people is None:
                people = _people_from_names(files)
        else:
            files, points = _read_cats(folder, patterns)
            people = [*files]
            locations = [f"{folder / file}.cat" for file in files]
    except OSError as error:
        raise UserError(f"{folder} cannot be read: {error.strerror}") from None
    if person is not None:
        people = _people_from_pattern(person, files)
    notes = (*patterns.excluded().lines(), *_mask_unmarked(points))
    return Annotations(folder, files, points, people, locations, notes)


def write_landmarks(path: str | Path, files: Sequence[str], points: NDArray[np.floating]) -> None:
    """Write landmarks as a CSV that `read_annotations` can read.

    Args:
        path: of the CSV.
        files: N names.
        points: [N, K, 2] in pixels; rounded to two decimals.

    Raises:
        OSError: the file cannot be written; an existing one is unchanged.
    """
    count = points.shape[1]
    header = ["file", *(f"{axis}{number}" for number in range(count) for axis in "xy")]
    rows = (
        [name, *(f"{value:.2f}" for value in face.ravel())] for name, face in zip(files, points, strict=True)
    )
    write_csv(path, header, rows)


def _read_table(
    path: Path, folder: Path, patterns: ExcludePatterns
) -> tuple[list[str], NDArray[np.float64], list[str] | None, list[str]]:
    with open_csv(path) as file:
        separator = _separator(file)
        table = csv.reader(file, delimiter=separator)
        try:
            return _read_rows(path, folder, table, patterns, decimal_comma=separator != ",")
        except UserError as error:
            encoding = "UTF-8" if file.encoding == "utf-8-sig" else "UTF-16"
            raise UserError(
                f"{error} (the table was read as {encoding}, separated by {SEPARATORS[separator]})"
            ) from None


def _separator(file: TextIO) -> str:
    """The separator of a table; the file is at its start afterwards."""
    line = file.readline()
    file.seek(0)
    header = next(csv.reader(file), [])
    file.seek(0)
    return "," if "file" in map(str.strip, header) else max(SEPARATORS, key=line.count)


def _read_rows(
    path: Path, folder: Path, table: Iterator[list[str]], patterns: ExcludePatterns, *, decimal_comma: bool
) -> tuple[list[str], NDArray[np.float64], list[str] | None, list[str]]:
    files: list[str] = []
    people: list[str] = []
    locations: list[str] = []
    rows: list[list[float]] = []
    header = [name.strip() for name in next(table, [])]
    columns = _coordinate_columns(path, header)
    marks: set[str] = set()
    for number, cells in enumerate(table, 2):
        location = f"{path}, row {number}"
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(header):
            raise UserError(f"{location}: {len(cells)} columns, but the header has {len(header)}")
        file = _file_name(cells[header.index("file")].strip(), folder)
        if patterns.exclude_path(file):
            continue
        files.append(file)
        if not is_file(folder / files[-1]):
            raise UserError(f"{location}: there is no file {files[-1]!r} in {folder}")
        coordinates = [cells[column] for column in columns]
        if decimal_comma:
            # A comma beside decimal points separates thousands, which would be read as fractions.
            marks |= {mark for mark in ".," for text in coordinates if mark in text}
            if len(marks) > 1:
                raise UserError(f"{location}: the coordinates contain both decimal points and commas")
            coordinates = [text.replace(",", ".") for text in coordinates]
        names = [f"{location}, {header[column]}" for column in columns]
        rows.append([*map(_coordinate, _fill_unmarked(coordinates), names)])
        locations.append(location)
        if "person" in header:
            people.append(cells[header.index("person")].strip() or files[-1])
    if not rows:
        raise UserError(f"{path} has a header but no rows{_but_excluded(patterns)}")
    return files, np.array(rows).reshape(len(rows), -1, 2), people or None, locations


def _but_excluded(patterns: ExcludePatterns) -> str:
    return f" that remain: {patterns.excluded().lines()[0]}" if patterns.excluded().files else ""


def _file_name(name: str, folder: Path) -> str:
    """The name with slashes if no file has the name with backslashes, as Windows writes paths."""
    return name.replace("\\", "/") if "\\" in name and not is_file(folder / name) else name


def _coordinate_columns(path: Path, header: list[str]) -> list[int]:
    """Indices of the columns x0, y0, x1, y1, ..., in any order."""
    count = sum(bool(re.fullmatch(r"[xy]\d+", name)) for name in header)
    required = [f"{axis}{number}" for number in range(count // 2) for axis in "xy"]
    wrong = [name for name in ["file", *required] if header.count(name) != 1]
    if wrong or not count or count % 2:
        problem = f"{wrong[0]!r} is missing or repeated" if wrong else f"it has {count} coordinate columns"
        raise UserError(f"{path}, row 1: the header must be file, x0, y0, x1, y1, ...; {problem}")
    return [header.index(name) for name in required]


def _fill_unmarked(coordinates: list[str]) -> list[str]:
    """Replace x and y by `UNMARKED` where both are empty or NaN."""
    empty = [text.strip().lower() in ("", "nan") for text in coordinates]
    return [UNMARKED if empty[index] and empty[index ^ 1] else text for index, text in enumerate(coordinates)]


def _mask_unmarked(points: NDArray[np.float64]) -> tuple[str, ...]:
    """Set the points that are not marked to NaN, in place, and return what to report about them."""
    zero = (points == 0).all(-1)
    points[zero | (points == -1).all(-1)] = np.nan
    unmarked = np.isnan(points).any(-1)
    notes = []
    if unmarked.any():
        points_and_faces = f"{counted(unmarked.sum(), 'point')} of {counted(unmarked.any(1).sum(), 'face')}"
        notes.append(f"not marked: {points_and_faces}; loss and scores omit them")
    if zero.any():
        notes.append(
            f"{zero.any(1).sum():,} of {len(points):,} faces have points at 0, 0, which counts as not marked"
        )
    return (*notes, *_shared_place(points[~unmarked.all(1)]))


def _shared_place(points: NDArray[np.float64]) -> list[str]:
    """Report a place that many faces share, but that is not on them, such as -10, -10."""
    if not len(points):
        return []
    distances = np.linalg.norm(points - np.nanmedian(points, axis=1, keepdims=True), axis=-1)
    rows, columns = np.nonzero(distances > FAR * np.nanmedian(distances, axis=1, keepdims=True))
    places = np.unique(np.column_stack([rows, points[rows, columns]]), axis=0)[:, 1:]
    places, counts = np.unique(places, axis=0, return_counts=True)
    number, share = MIN_SHARED
    if counts.max(initial=0) < max(number, share * len(points)):
        return []
    x, y = places[counts.argmax()]
    return [
        f"{counts.max():,} of {len(points):,} faces have a point at {x:g}, {y:g}, far from their others; "
        "if it means not marked, leave the cells empty"
    ]


def _coordinate(text: str, location: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise UserError(f"{location}: {text!r} is not a number") from None
    if not math.isfinite(value):
        raise UserError(f"{location}: {text.strip()} is not a finite number")
    return value


def _read_cats(folder: Path, patterns: ExcludePatterns) -> tuple[list[str], NDArray[np.float64]]:
    paths = [
        path
        for path in sorted(folder.rglob("*.cat"))
        if not patterns.exclude_path(path.with_suffix("").relative_to(folder).as_posix())
    ]
    if not paths and patterns.excluded().files:
        raise UserError(f"{folder} has no .cat files{_but_excluded(patterns)}")
    if not paths:
        raise UserError(
            f"{folder} has no landmarks: neither {' nor '.join(TABLE_NAMES)} nor .cat files; name a CSV with "
            "--csv"
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
        fields = path.read_text(encoding="ascii", errors="replace").split()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    numbers = [_coordinate(field, f"{path}, row 1") for field in fields]
    if len(numbers) < 3 or len(numbers) != 1 + 2 * numbers[0]:
        raise UserError(
            f"{path}, row 1: {len(numbers)} numbers instead of the number of points, then x and y of each"
        )
    return np.array(numbers[1:]).reshape(-1, 2)


def _people_from_names(files: list[str]) -> list[str]:
    """The people of a CSV without a column `person`, from the names of files and folders."""
    folders = [PurePosixPath(file).parent.parts for file in files]
    # Folders that all files share, such as images/, distinguish nobody. The next level does. Deeper levels do
    # not count: Ann/2023/01.jpg and Ann/2024/01.jpg are one person.
    shared = sum(1 for _ in takewhile(lambda parts: len({*parts}) == 1, zip(*folders, strict=False)))
    return [
        match[1]
        if (match := re.fullmatch(PERSON_PATTERN, PurePosixPath(file).stem))
        else (*parts, file)[shared]
        for file, parts in zip(files, folders, strict=True)
    ]


def _people_from_pattern(pattern: str, files: list[str]) -> list[str]:
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UserError(f"--person {pattern!r} is not a regular expression: {error}") from None
    if not expression.groups:
        raise UserError(f"--person {pattern!r} has no group: put parentheses around the person's name")
    names = [PurePosixPath(file).with_suffix("") for file in files]
    matches = [expression.fullmatch(name.as_posix() if "/" in pattern else name.name) for name in names]
    return [match[1] or file if match else file for file, match in zip(files, matches, strict=True)]
