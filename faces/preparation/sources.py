"""The photos and videos of a folder, split into jobs, and the file names of their crops."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from engine.errors import UserError
from engine.files import shorten_stem
from faces.preparation.options import PrepareArguments
from faces.preparation.video import VIDEO_SUFFIXES, VideoSegment, split_video
from images.exclude import Excluded, ExcludePatterns
from images.scan import list_images

FRAMES_PER_JOB = 64
"""Frames of a video per job, which is the most work that a kill can lose."""

FRAME_NAME = re.compile(rf"({'|'.join(map(re.escape, sorted(VIDEO_SUFFIXES)))})-\d{{6,}}$", re.IGNORECASE)
"""End of the names of a video's frames."""


@dataclass(frozen=True)
class Job:
    """A photo, or a segment of a video.

    Attributes:
        source: name relative to the folder of photos, with `/` as separator.
        part: number of the segment; 0 for a photo.
        segment: frames of a video; None for a photo.
        problem: why the file cannot be opened, or None.
    """

    source: str
    part: int = 0
    segment: VideoSegment | None = None
    problem: str | None = None

    @property
    def key(self) -> tuple[str, int]:
        """Source and part, which identify the job."""
        return self.source, self.part

    @property
    def folder(self) -> str:
        """Folder of the source, within which near-duplicates are found."""
        return self.source.rpartition("/")[0]


def find_jobs(arguments: PrepareArguments) -> tuple[list[Job], Excluded]:
    """The jobs ordered by the names of their sources, with files that cannot be opened at the end.

    Returns:
        The jobs, and what the patterns of the arguments excluded.

    Raises:
        UserError: the folder of photos is missing or empty, or one of the two folders is inside the other.
    """
    folder = _photo_folder(arguments.photos)
    # Path.resolve would raise on circular links.
    _check_separate(folder, Path(os.path.realpath(arguments.out)))
    try:
        listing = list_images(folder, VIDEO_SUFFIXES, ExcludePatterns(arguments.exclude or ()))
    except OSError as error:
        raise UserError(f"cannot read the folder {arguments.photos} ({error.strerror})") from None
    out = os.path.realpath(arguments.out) + os.sep
    jobs: list[Job] = []
    for name in listing.files:
        path = folder / name
        if os.path.realpath(path).startswith(out):
            raise UserError(f"{path} is a link into the output folder {arguments.out}; choose another folder")
        if path.suffix.lower() in VIDEO_SUFFIXES:
            segments = enumerate(split_video(path, arguments.fps, FRAMES_PER_JOB))
            jobs += [Job(name, part, segment) for part, segment in segments]
        else:
            jobs.append(Job(name))
    if not jobs:
        problems = [": ".join(skipped) for skipped in listing.skipped[:1]] + listing.excluded.lines()
        raise UserError("; ".join([f"no photo or video in {arguments.photos}", *problems]))
    return [*jobs, *(Job(name, problem=reason) for name, reason in listing.skipped)], listing.excluded


def crop_name(job: Job, frame: int | None, index: int, suffix: str) -> str:
    """File name of a crop, relative to the folder of kept or left-out crops.

    It includes the source's suffix, so that no two sources share a name: `a/me.png` gives `a/me.png-0.jpg`
    and a video `a/me.mp4-000125-0.jpg`. A name that is too long is shortened and gets a digest, and so does a
    photo named like a video's frame.
    """
    folder, slash, name = job.source.rpartition("/")
    name = shorten_stem(name, marked=frame is None and bool(FRAME_NAME.search(name)))
    number = "" if frame is None else f"-{frame:06d}"
    return f"{folder}{slash}{name}{number}-{index}{suffix}"


def _photo_folder(photos: Path) -> Path:
    try:
        photos.stat()
    except OSError as error:
        raise UserError(f"no folder {photos} ({error.strerror}); name a folder of photos") from None
    if not photos.is_dir():
        raise UserError(f"{photos} is a file; name a folder of photos")
    return photos.resolve()


def _check_separate(photos: Path, out: Path) -> None:
    if photos == out:
        raise UserError(f"{out} is the folder of photos; choose another output folder")
    if out.is_relative_to(photos):
        raise UserError(f"{out} is inside the folder of photos, {photos}; choose an output folder outside it")
    if photos.is_relative_to(out):
        raise UserError(f"the folder of photos, {photos}, is inside {out}; choose another output folder")
