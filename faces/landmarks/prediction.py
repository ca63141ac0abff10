"""Landmarks of many photos: copies with the points on them, and a CSV. Nothing here imports torch."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from engine.errors import UserError
from engine.files import atomic_write, is_file
from engine.png import save_png
from engine.runs import report_write_errors
from faces.align import box_in_middle
from faces.detection.detection import Box, Detector
from faces.detection.opencv import searching
from faces.landmarks.annotations import write_table
from faces.landmarks.crops import ENLARGE, inside
from faces.landmarks.pictures import PREDICTED, draw_points
from faces.photos import Photos, check_output, mark_output
from faces.tables import open_csv
from images.decode import UnusableImageError, decode_full

if TYPE_CHECKING:
    from faces.landmarks.predictor import Predictor

COLUMNS = ("file", "left", "top", "right", "bottom")
SCRIPT, TABLE = "predict_landmarks.py", "landmarks.csv"

Find = Callable[[Path, NDArray[np.uint8]], Sequence[Box]]
"""Of a photo, its path and its pixels uint8 [3, H, W], to the boxes of the faces in it."""


@dataclass(frozen=True)
class Outcome:
    """What was found, and what was left out: (photo, reason).

    Attributes:
        photos: that could be read and searched.
        faces: found in them.
        outside: landmarks that lie outside their photo, and faces that have any. That is usual at its border.
        skipped: what could not.
    """

    photos: int
    faces: int
    outside: tuple[int, int]
    skipped: list[tuple[str, str]]


def whole_image(photo: Path, image: NDArray[np.uint8]) -> list[Box]:
    """For crops of one face: the box by which the network sees the image's centre square."""
    return [box_in_middle(image, min(image.shape[1:]) / ENLARGE)]


def searched(detector: Detector) -> Find:
    """What a detector finds."""
    return lambda _, image: [face.box for face in detector(image)]


def boxes_in(table: Path, photos: Photos) -> Find:
    """The boxes in a CSV with the columns `file, left, top, right, bottom` and any others.

    A row's file is a photo's path, from here, from the CSV's folder or else from one that was given; where
    that is none of the photos, it is the name alone. Photos that are in no row have no faces; a row of a
    photo that was not given is passed over.

    Raises:
        UserError: one line with file and row for what cannot be read, is no box, or is of a file that is not
            there; the header lacks a column; no row is of one of the photos.
    """
    given = [path if path.is_dir() else path.parent for path in photos.given]
    folders = [*dict.fromkeys([Path(), table.parent, *given])]
    names = {photo.name for photo in photos.files} | {Path(name).name for name, _ in photos.left_out}
    boxes: dict[str, list[Box]] = {}
    with open_csv(table) as file:
        reader = csv.DictReader(file, skipinitialspace=True)
        for name in COLUMNS:
            if name not in (reader.fieldnames or ()):
                raise UserError(f"{table}, header: no column {name}; it takes {', '.join(COLUMNS)}")
        for row in reader:
            place = f"{table}, row {reader.reader.line_num}"  # empty rows count too
            missing = [name for name in COLUMNS if row[name] is None]
            if missing or None in row:
                what = f"no column {missing[0]}" if missing else "more columns than the header"
                raise UserError(f"{place}: {what}; it takes {', '.join(COLUMNS)}")
            name = row["file"]
            if name not in names and not any(is_file(folder / name) for folder in folders):
                raise UserError(
                    f"{place}: there is no file {name!r}, neither among the photos nor in {table.parent}"
                )
            boxes.setdefault(name, []).append(_box(row, place))
    by_path: dict[str, list[Box]] = {}
    by_name: dict[str, list[Box]] = {}
    wanted = {_whole(photo) for photo in photos.files}
    for name, of_file in boxes.items():
        # Of one photo alone: others of that name show other faces.
        path = next((path for folder in folders if (path := _whole(folder / name)) in wanted), None)
        known = by_name.setdefault(name, []) if path is None else by_path.setdefault(path, [])
        known += of_file
    if not any(_whole(photo) in by_path or photo.name in by_name for photo in photos.files):
        first = f"; its first row is of {next(iter(boxes))}" if boxes else ""
        raise UserError(f"{table} names none of the photos, such as {photos.files[0].name}{first}")
    return lambda photo, image: by_path.get(_whole(photo), by_name.get(photo.name, []))


def predict(predictor: Predictor, photos: Photos, output: Path, *, find: Find, looks: int) -> Outcome:
    """Find the landmarks of all faces, draw them on copies, and write landmarks.csv.

    Args:
        predictor: that finds them.
        photos: which; one that cannot be read, or searched for faces, is left out.
        output: folder for the copies and the CSV, apart from the photos; made where it is missing.
        find: the faces.
        looks: how often the network looks at each.

    Raises:
        UserError: no photo can be read, or the folder contains the photos or other files of the user, or
            cannot be written to.
    """
    photos.check_apart(output)
    files: list[str] = []
    found: list[NDArray[np.float32]] = []
    outside: list[int] = []
    skipped = [*photos.left_out]
    names = photos.copies()
    with report_write_errors(output):
        check_output(output, SCRIPT)
        for photo in tqdm(photos.files, "finding landmarks", unit=" photos"):
            try:
                with searching():
                    image = decode_full(photo)
                    here = find(photo, image)
            except UnusableImageError as unusable:
                skipped.append((str(photo), str(unusable)))
                continue
            points = predictor.points(image, here, looks=looks)
            mark_output(output, SCRIPT)
            with atomic_write(output / names[photo]) as path:
                save_png(path, draw_points(image, [(face, PREDICTED) for face in points], here))
            files += [str(photo)] * len(points)
            found.append(points)
            outside += [int(count) for count in (~inside(points, image)).sum(-1)]
        if not found:
            raise UserError(f"no photo can be read; the first is {skipped[0][0]}: {skipped[0][1]}")
        write_table(output / TABLE, files, np.concatenate(found))
    return Outcome(len(found), len(files), (sum(outside), sum(map(bool, outside))), skipped)


def _whole(path: Path) -> str:
    """The path from the root, by which two ways to write it are known to be one; links stay."""
    return os.path.normpath(path.absolute())


def _box(row: Mapping[str, str], place: str) -> Box:
    try:
        box = tuple(float(row[name]) for name in COLUMNS[1:])
    except ValueError:
        raise UserError(f"{place}: {', '.join(COLUMNS[1:])} must be numbers") from None
    left, top, right, bottom = box
    if not (np.isfinite(box).all() and left < right and top < bottom):
        raise UserError(f"{place}: no box, as left must be less than right and top less than bottom")
    return box
