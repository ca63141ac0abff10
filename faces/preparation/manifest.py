"""manifest.csv: a row for each face, and for each photo or stretch of a video that gave none."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Iterator
from dataclasses import astuple, dataclass, fields
from pathlib import Path, PurePosixPath
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from engine.errors import UserError
from engine.files import atomic_write, remove_partial_files
from faces.preparation.cropper import Crop
from faces.preparation.sources import Job

KEPT, LEFT_OUT = "faces", "left_out"
"""Folders of crops beside the manifest."""

NO_FACE, UNREADABLE = "no face", "unreadable"
"""Verdicts on a photo as a whole, beside those on faces (`faces.preparation.quality.Verdict`)."""


@dataclass(frozen=True)
class Row:
    """A line of the manifest; all values are as the file has them, empty where there is none.

    Attributes:
        source: name of the photo or video, relative to its folder.
        part: number of the stretch of a video; 0 for a photo.
        frame: number of the video's frame.
        verdict: `kept`, why not, `no face`, or `unreadable`.
        file: of the crop, relative to the folder that holds the manifest.
        left: of the face's box, in pixels of the upright photo.
        top: of the box.
        right: of the box.
        bottom: of the box.
        score: of the detector.
        roll: degrees by which the face is tilted clockwise.
        turn: see `faces.pose.Pose`.
        side: of the square that was cut out, in pixels of the photo.
        sharpness: see `faces.preparation.quality.sharpness`.
        hash: the perceptual hash, hex.
        landmarks: x and y of each in turn, in pixels of the upright photo, with spaces between: those of the
            network of landmarks or, without it, the five points of the detector (`Found`).
        note: why a photo or video could not be read, or not be searched for faces.
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

    @property
    def job(self) -> tuple[str, int]:
        """Source and part, by which a row's job is known."""
        return self.source, int(self.part)

    @property
    def fingerprint(self) -> int:
        """The perceptual hash of a face. Raises `UserError` where the file has none, as after an edit."""
        try:
            return int(self.hash, 16)
        except ValueError:
            raise UserError(
                f"manifest.csv, {self.source}: the hash {self.hash} is none; restore it, or name another "
                "folder to write to"
            ) from None


COLUMNS = [field.name for field in fields(Row)]


def crop_row(job: Job, crop: Crop, verdict: str, file: str) -> Row:
    """The row of a face."""
    left, top, right, bottom = (f"{place:.1f}" for place in crop.found.box)
    points = crop.found.points if crop.landmarks is None else crop.landmarks
    turn = "" if crop.pose.turn is None else f"{crop.pose.turn:.3f}"
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
        score=f"{crop.found.score:g}",
        roll=f"{crop.pose.roll:.1f}",
        turn=turn,
        side=f"{crop.square.side:.1f}",
        sharpness=f"{crop.sharpness:.4f}",
        hash=f"{crop.fingerprint:036x}",
        landmarks="" if points is None else _in_words(points),
    )


def empty_row(job: Job, problem: str | None) -> Row:
    """The row of a job that gave no face, or ended with a problem."""
    verdict = NO_FACE if problem is None else UNREADABLE
    return Row(job.source, str(job.part), verdict=verdict, note=problem or "")


class Manifest:
    """The manifest of a folder, as a file that is only added to.

    Args:
        path: of the file; it may be missing.
        again: the jobs that can be done again, by source and part; None where the file was finished. Where
            it was not, what is left of the last job in it may not be all that it gave: if it can be done
            again, its rows are taken out, and its crops with them, for it may come to give others.

    Raises:
        OSError: the file cannot be read or written, or a crop not removed.
        UserError: it is no manifest.
    """

    def __init__(self, path: Path, again: Collection[tuple[str, int]] | None = None) -> None:
        self._path = path
        self.rows: list[Row] = list(_read(path)) if path.exists() else []
        """All rows, in the order of the file."""
        if again is not None and self.rows and (last := self.rows[-1].job) in again:
            # Before their rows: a kill between the two leaves nothing that no row tells of.
            crops = [path.parent / row.file for row in self.rows if row.job == last and _names_crop(row.file)]
            for crop in crops:
                crop.unlink(missing_ok=True)
            remove_partial_files(crops)
            self.rows = [row for row in self.rows if row.job != last]
        if again is not None or not path.exists():
            with atomic_write(path) as temporary, _open(temporary, "w") as file:
                csv.writer(file).writerows([COLUMNS, *map(astuple, self.rows)])

    def done(self) -> set[tuple[str, int]]:
        """Source and part of every job that has its rows."""
        return {row.job for row in self.rows}

    def add(self, rows: Iterable[Row]) -> None:
        """Add the rows of one job; they are in the file when the call returns."""
        rows = list(rows)
        with _open(self._path, "a") as file:
            csv.writer(file).writerows(map(astuple, rows))
        self.rows += rows


def _read(path: Path) -> Iterator[Row]:
    """The rows, without one at the end that was cut short."""
    with _open(path, "r") as file:
        lines = csv.reader(file)
        if next(lines, COLUMNS) != COLUMNS:
            raise UserError(f"{path} has other columns than a manifest; name another folder to write to")
        for line in lines:
            if len(line) == len(COLUMNS) and line[1].isdecimal():
                yield Row(*line)


def _names_crop(file: str) -> bool:
    """Whether a row's file lies in the folders of crops, as it does unless the manifest was edited."""
    folder, *rest = PurePosixPath(file).parts or ("",)
    return folder in (KEPT, LEFT_OUT) and bool(rest) and ".." not in rest


def _open(path: Path, mode: str) -> TextIO:
    # Names that are not UTF-8 come back as they were.
    return path.open(mode, newline="", encoding="utf-8", errors="surrogateescape")


def _in_words(landmarks: NDArray[np.floating]) -> str:
    return " ".join(f"{value:.1f}" for value in landmarks.ravel())
