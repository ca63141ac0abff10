"""manifest.csv: a row for each face, and for each photo or video segment without one."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Iterator
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path, PurePosixPath
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from engine.errors import UserError
from engine.files import atomic_write, remove_partial_files
from faces.preparation.cropper import Crop
from faces.preparation.sources import Job

FACES, LEFT_OUT = "faces", "left_out"
"""Folders of crops beside the manifest."""

ROTATED = "rotated"
"""Begins the note on a face that was detected in a rotated photo."""

KEPT, REJECTED, NO_FACE, UNREADABLE = "kept", "rejected", "no face", "unreadable"
"""Verdicts (`rejected` by the user), besides the reasons in `faces.preparation.quality.RejectionReason`."""


@dataclass(frozen=True)
class Row:
    """A row of the manifest; all values are strings as in the file, empty if there is none.

    Attributes:
        source: name of the photo or video, relative to its folder.
        part: number of the video's segment; 0 for a photo.
        frame: number of the video's frame; see `faces.preparation.video.VideoSegment`.
        verdict: `kept`, a rejection reason, `rejected`, `no face`, or `unreadable`.
        file: of the crop, relative to the manifest's folder.
        left: of the face's box, in pixels of the upright photo.
        top: of the box.
        right: of the box.
        bottom: of the box.
        score: of the detection.
        roll: clockwise tilt of the face in degrees.
        turn: see `faces.pose.Pose`.
        side: of the cropped square, in pixels of the photo.
        sharpness: see `faces.preparation.quality.sharpness`.
        hash: the perceptual hash, hex.
        landmarks: x and y of each, in pixels of the upright photo, separated by spaces: those of the landmark
            network or, without it, the five keypoints of the `Detection`.
        note: why a photo or video could not be processed; or `rotated 90 degrees clockwise`, if the face was
            detected in the photo rotated so, to which all coordinates then refer.
        version: size and time of the photo or video when it was read; empty in rows of earlier versions.
        number: of the crop, as on the contact sheets; no other crop of the folder has or had it.
        support: of the detection; see `faces.detection.support`.
    """

    source: str
    part: str
    frame: str = ""
    verdict: str = NO_FACE
    file: str = ""
    left: str = ""
    top: str = ""
    right: str = ""
    bottom: str = ""
    score: str = ""
    roll: str = ""
    turn: str = ""
    side: str = ""
    sharpness: str = ""
    hash: str = ""
    landmarks: str = ""
    note: str = ""
    version: str = ""
    number: str = ""
    support: str = ""

    @property
    def job(self) -> tuple[str, int]:
        """Source and part, the key of the row's job."""
        return self.source, int(self.part)

    @property
    def perceptual_hash(self) -> int:
        """The perceptual hash of a face. Raises `UserError` if it was edited into something else."""
        try:
            return int(self.hash, 16)
        except ValueError:
            raise self._invalid("hash") from None

    @property
    def crop_side(self) -> float:
        """The side of a face's square. Raises `UserError` if it was edited into something else."""
        try:
            return float(self.side)
        except ValueError:
            raise self._invalid("side") from None

    @property
    def crop_name(self) -> str | None:
        """The crop's path in its folder of crops, `FACES` or `LEFT_OUT`; None if it is in neither."""
        folder, *rest = PurePosixPath(self.file).parts or ("",)
        is_crop = folder in (FACES, LEFT_OUT) and bool(rest) and ".." not in rest
        return "/".join(rest) if is_crop else None

    def _invalid(self, column: str) -> UserError:
        return UserError(
            f"manifest.csv, {self.source}: the {column} {getattr(self, column)} is invalid; restore it, or "
            "choose another output folder"
        )


COLUMNS = [field.name for field in fields(Row)]


def crop_row(job: Job, crop: Crop, verdict: str, file: str, number: str) -> Row:
    """The row of a face; an empty number is filled in by `Manifest.add`."""
    left, top, right, bottom = (f"{edge:.1f}" for edge in crop.detection.box)
    points = crop.detection.keypoints if crop.landmarks is None else crop.landmarks
    return Row(
        source=job.source,
        part=str(job.part),
        frame="" if crop.frame is None else str(crop.frame),
        verdict=verdict,
        file=file,
        left=left,
        top=top,
        right=right,
        bottom=bottom,
        score=f"{crop.detection.score:g}",
        roll=f"{crop.pose.roll:.1f}",
        turn="" if crop.pose.turn is None else f"{crop.pose.turn:.3f}",
        side=f"{crop.square.side:.1f}",
        sharpness=f"{crop.sharpness:.4f}",
        hash=format_hash(crop.perceptual_hash),
        landmarks="" if points is None else _format_points(points),
        note=f"{ROTATED} {crop.rotation} degrees clockwise" if crop.rotation else "",
        number=number,
        support="" if crop.support is None else str(crop.support),
    )


def format_hash(perceptual_hash: int) -> str:
    """A perceptual hash as in the manifest: 36 hexadecimal digits."""
    return f"{perceptual_hash:036x}"


def empty_row(job: Job, problem: str | None) -> Row:
    """The row of a job without a face, or with a problem."""
    verdict = NO_FACE if problem is None else UNREADABLE
    return Row(job.source, str(job.part), verdict=verdict, note=problem or "")


class Manifest:
    """The manifest of a folder, an append-only file.

    Args:
        path: of the file; it may be missing, and is then created with the first rows.
        next_number: lowest number for a new crop; crops that were removed may have had lower ones.

    Raises:
        OSError: the file cannot be read.
        UserError: the file is not a manifest.
    """

    def __init__(self, path: Path, next_number: int = 1) -> None:
        self._path = path
        rows = list(_read(path)) if path.exists() else []
        used = (int(row.number) for row in rows if row.number)
        self.next_number = max(next_number, 1 + max(used, default=0))
        """The number of the next new crop."""
        self.rows = self._numbered(rows)
        """All rows, in the order of the file."""
        self.converted = self.rows != rows
        """Whether the file is of an earlier version and its crops have been numbered just now."""

    def remove_last_job(self, repeatable: Collection[tuple[str, int]]) -> None:
        """Remove the rows and crops of the last job, if it can be repeated.

        In an unfinished folder, its rows may be incomplete, and the repetition may give different ones.

        Args:
            repeatable: keys of the jobs that can be repeated.
        """
        self.remove({row.job for row in self.rows[-1:]} & {*repeatable})

    def done(self) -> set[tuple[str, int]]:
        """Keys of the jobs that have rows."""
        return {row.job for row in self.rows}

    def remove(self, keys: Collection[tuple[str, int]]) -> None:
        """Remove the rows of these jobs, and their crops."""
        # The crops first, so that a kill leaves none without a row.
        crops = [self._path.parent / row.file for row in self.rows if row.job in keys and row.crop_name]
        for crop in crops:
            crop.unlink(missing_ok=True)
        remove_partial_files(crops)
        self.rows = [row for row in self.rows if row.job not in keys]
        self.write()

    def write(self) -> None:
        """Write all rows, replacing the file."""
        with atomic_write(self._path) as temporary, _open(temporary, "w") as file:
            csv.writer(file).writerows([COLUMNS, *map(astuple, self.rows)])

    def add(self, rows: Iterable[Row]) -> None:
        """Number the crops of one job's rows, and append the rows to the file."""
        rows = self._numbered(rows)
        if not self._path.exists():
            self.write()  # the header
        with _open(self._path, "a") as file:
            csv.writer(file).writerows(map(astuple, rows))
        self.rows += rows

    def _numbered(self, rows: Iterable[Row]) -> list[Row]:
        """The rows, with new numbers for crops without one."""
        numbered = []
        for row in rows:
            if row.file and not row.number:
                row = replace(row, number=str(self.next_number))
                self.next_number += 1
            numbered.append(row)
        return numbered


def _read(path: Path) -> Iterator[Row]:
    """The rows, except an incomplete one at the end."""
    with _open(path, "r") as file:
        lines = csv.reader(file)
        header = next(lines, COLUMNS)
        if header not in (COLUMNS, COLUMNS[:-2], COLUMNS[:-3]):
            raise UserError(f"{path} does not have the columns of a manifest; choose another output folder")
        for line in lines:
            if len(line) == len(header) and line[1].isdecimal():
                row = Row(*line)
                yield row if row.number.isdecimal() else replace(row, number="")


def _open(path: Path, mode: str) -> TextIO:
    # surrogateescape preserves file names that are not UTF-8.
    return path.open(mode, newline="", encoding="utf-8", errors="surrogateescape")


def _format_points(points: NDArray[np.floating]) -> str:
    return " ".join(f"{value:.1f}" for value in points.ravel())
