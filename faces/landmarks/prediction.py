"""Landmarks of many photos: a CSV, and copies with the points drawn on them. Nothing here imports torch."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engine.errors import UserError
from engine.files import is_file
from engine.png import save_png
from engine.progress import ProgressBar
from engine.runs import report_write_errors
from faces.align import Box, central_box
from faces.detection import Detector
from faces.detection.opencv import report_detection_errors
from faces.landmarks.annotations import write_landmarks
from faces.landmarks.geometry import INPUT_SCALE, inside_image
from faces.landmarks.pictures import PREDICTED_COLOUR, draw_points
from faces.photos import Photos, check_output, mark_output
from faces.tables import open_csv
from images.decode import UnusableImageError, decode_full

if TYPE_CHECKING:
    from faces.landmarks.predictor import Predictor

COLUMNS = ("file", "left", "top", "right", "bottom")
SCRIPT, TABLE = "predict_landmarks.py", "landmarks.csv"

FindBoxes = Callable[[Path, NDArray[np.uint8]], Sequence[Box]]
"""Path and pixels of a photo, uint8 [3, H, W], to the boxes of its faces."""


@dataclass(frozen=True)
class PredictionResult:
    """Summary of a prediction.

    Attributes:
        photos: number of photos read.
        faces: number of faces in them.
        outside: number of landmarks outside their photo, and of faces that have any. Faces at the border of a
            photo have some.
        skipped: (photo, reason) of photos that were left out.
    """

    photos: int
    faces: int
    outside: tuple[int, int]
    skipped: list[tuple[str, str]]


def whole_image_box(photo: Path, image: NDArray[np.uint8]) -> list[Box]:
    """The box for which the network sees the image's central square, for crops of one face."""
    return [central_box(image, min(image.shape[1:]) / INPUT_SCALE)]


def detected_boxes(detector: Detector) -> FindBoxes:
    """The boxes that a detector returns."""
    return lambda _, image: [detection.box for detection in detector(image)]


def read_boxes(table: Path, photos: Photos) -> FindBoxes:
    """Read boxes from a CSV with the columns `file, left, top, right, bottom`; others are ignored.

    A row's file is the path of a photo relative to the working directory, the CSV's folder or an input; if
    none of the photos has that path, it is a photo's name. Photos without a row have no faces, and rows of
    photos that are not among the inputs are ignored.

    Raises:
        UserError: the file cannot be read, the header lacks a column, a row is not a box or names a missing
            file, or no row belongs to any of the photos.
    """
    inputs = [path if path.is_dir() else path.parent for path in photos.inputs]
    folders = [*dict.fromkeys([Path(), table.parent, *inputs])]
    names = {photo.name for photo in photos.files} | {Path(name).name for name, _ in photos.skipped}
    boxes: dict[str, list[Box]] = {}
    with open_csv(table) as file:
        reader = csv.DictReader(file, skipinitialspace=True)
        for name in COLUMNS:
            if name not in (reader.fieldnames or ()):
                raise UserError(f"{table}, header: no column {name}; the columns are {', '.join(COLUMNS)}")
        for row in reader:
            location = f"{table}, row {reader.reader.line_num}"  # empty rows count too
            missing = [name for name in COLUMNS if row[name] is None]
            if missing or None in row:
                problem = f"no column {missing[0]}" if missing else "more columns than the header"
                raise UserError(f"{location}: {problem}; the columns are {', '.join(COLUMNS)}")
            name = row["file"]
            if name not in names and not any(is_file(folder / name) for folder in folders):
                raise UserError(
                    f"{location}: there is no file {name!r}, neither among the photos nor in {table.parent}"
                )
            boxes.setdefault(name, []).append(_box(row, location))
    by_path: dict[str, list[Box]] = {}
    by_name: dict[str, list[Box]] = {}
    photo_paths = {_absolute(photo) for photo in photos.files}
    for name, file_boxes in boxes.items():
        # A path that matches a photo does not apply to other photos of the same name.
        paths = (_absolute(folder / name) for folder in folders)
        path = next((path for path in paths if path in photo_paths), None)
        target = by_name.setdefault(name, []) if path is None else by_path.setdefault(path, [])
        target += file_boxes
    if not any(_absolute(photo) in by_path or photo.name in by_name for photo in photos.files):
        first = f"; its first row is of {next(iter(boxes))}" if boxes else ""
        raise UserError(f"{table} names none of the photos, such as {photos.files[0].name}{first}")
    return lambda photo, image: by_path.get(_absolute(photo), by_name.get(photo.name, []))


def predict(
    predictor: Predictor, photos: Photos, output: Path, *, find_boxes: FindBoxes, looks: int
) -> PredictionResult:
    """Predict the landmarks of all faces, draw them on copies, and write landmarks.csv.

    Args:
        predictor: the trained network.
        photos: those that cannot be read, or whose detection fails, are left out.
        output: folder for the copies and the CSV; created if missing.
        find_boxes: finds the faces of a photo.
        looks: number of passes of the network; see `Predictor.points`.

    Raises:
        UserError: no photo can be read, or the output folder contains the photos, or files that
            predict_landmarks.py did not write, or cannot be written to.
    """
    photos.check_output(output)
    files: list[str] = []
    landmarks: list[NDArray[np.float32]] = []
    outside: list[int] = []
    skipped = [*photos.skipped]
    names = photos.copy_names()
    with report_write_errors(output):
        check_output(output, SCRIPT)
        for photo in ProgressBar(photos.files, "predicting landmarks", unit=" photos"):
            try:
                with report_detection_errors():
                    image = decode_full(photo)
                    boxes = find_boxes(photo, image)
            except UnusableImageError as unusable:
                skipped.append((str(photo), str(unusable)))
                continue
            points = predictor.points(image, boxes, looks=looks)
            mark_output(output, SCRIPT)
            marked = draw_points(image, [(face, PREDICTED_COLOUR) for face in points], boxes)
            save_png(output / names[photo], marked)
            files += [str(photo)] * len(points)
            landmarks.append(points)
            outside += [int(count) for count in (~inside_image(points, image)).sum(-1)]
        if not landmarks:
            raise UserError(f"no photo can be read; the first is {skipped[0][0]}: {skipped[0][1]}")
        write_landmarks(output / TABLE, files, np.concatenate(landmarks))
    return PredictionResult(len(landmarks), len(files), (sum(outside), sum(map(bool, outside))), skipped)


def _absolute(path: Path) -> str:
    """The absolute path without `..`, with symbolic links kept."""
    return os.path.normpath(path.absolute())


def _box(row: Mapping[str, str], location: str) -> Box:
    try:
        box = tuple(float(row[name]) for name in COLUMNS[1:])
    except ValueError:
        raise UserError(f"{location}: {', '.join(COLUMNS[1:])} must be numbers") from None
    left, top, right, bottom = box
    if not (np.isfinite(box).all() and left < right and top < bottom):
        raise UserError(f"{location}: not a box; left must be less than right and top less than bottom")
    return box
