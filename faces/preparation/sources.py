"""What there is to do: the photos and videos of a folder, and where the crops of each go."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from engine.errors import UserError
from engine.files import shorten_stem
from faces.preparation.options import PrepareChoice
from faces.preparation.video import SUFFIXES, Stretch, stretches
from images.scan import list_images

FRAMES_EACH = 64
"""Frames in a job of a video: what a kill can cost."""

FRAME = re.compile(rf"({'|'.join(map(re.escape, sorted(SUFFIXES)))})-\d{{6,}}$", re.IGNORECASE)
"""How the names of videos with the number of a frame end."""


@dataclass(frozen=True)
class Job:
    """A photo, or a stretch of a video.

    Attributes:
        source: name relative to the folder of photos, with `/` between its parts.
        part: number of the stretch; 0 for a photo.
        stretch: frames of a video; None for a photo.
        problem: why the file cannot even be opened; None where it can.
    """

    source: str
    part: int = 0
    stretch: Stretch | None = None
    problem: str | None = None

    @property
    def key(self) -> tuple[str, int]:
        """Source and part, by which the job is known."""
        return self.source, self.part

    @property
    def folder(self) -> str:
        """Of the source: the crops of one are compared with each other."""
        return self.source.rpartition("/")[0]


def find_jobs(choice: PrepareChoice) -> list[Job]:
    """The jobs in the order of their sources' names; files that cannot be opened come last.

    Raises:
        UserError: the folder of photos is missing or holds none, or one of the folders lies in the other.
    """
    folder = _folder(choice.photos)
    _check_apart(folder, Path(os.path.realpath(choice.out)))  # not resolve, which ends at links in a circle
    try:
        listing = list_images(folder, SUFFIXES)
    except OSError as error:
        raise UserError(f"cannot read the folder {choice.photos} ({error.strerror}); allow it") from None
    out = os.path.realpath(choice.out) + os.sep
    jobs: list[Job] = []
    for name in listing.files:
        path = folder / name
        if os.path.realpath(path).startswith(out):
            raise UserError(f"{path} is a link into {choice.out}, which is written to; name another folder")
        if path.suffix.lower() in SUFFIXES:
            parts = enumerate(stretches(path, choice.fps, FRAMES_EACH))
            jobs += [Job(name, part, stretch) for part, stretch in parts]
        else:
            jobs.append(Job(name))
    if not jobs:
        problem = f"; {': '.join(listing.skipped[0])}" if listing.skipped else ""
        raise UserError(f"no photo or video in {choice.photos}{problem}; give a folder that holds some")
    return [*jobs, *(Job(name, problem=reason) for name, reason in listing.skipped)]


def crop_name(job: Job, frame: int | None, index: int, ending: str) -> str:
    """Where a crop goes, relative to the folder of kept or left-out crops, as its source's name tells.

    The source's ending stays in it, so that no two sources share a name: `a/me.png` gives `a/me.png-0.jpg`
    and a video `a/me.mp4-000125-0.jpg`. A name that would be too long is cut and gets a digest, and so does a
    photo that is called as a video's frame would be.
    """
    folder, slash, name = job.source.rpartition("/")
    name = shorten_stem(name, marked=frame is None and bool(FRAME.search(name)))
    number = "" if frame is None else f"-{frame:06d}"
    return f"{folder}{slash}{name}{number}-{index}{ending}"


def _folder(photos: Path) -> Path:
    try:
        photos.stat()
    except OSError as error:
        raise UserError(f"no folder {photos} ({error.strerror}); give one that holds photos") from None
    if not photos.is_dir():
        raise UserError(f"{photos} is a file; give the folder that holds the photos")
    return photos.resolve()


def _check_apart(photos: Path, out: Path) -> None:
    if photos == out:
        raise UserError(f"{out} holds the photos; name another folder to write to")
    if out.is_relative_to(photos):
        raise UserError(f"{out} lies in the folder of photos, {photos}; name one outside it")
    if photos.is_relative_to(out):
        raise UserError(f"the folder of photos, {photos}, lies in {out}; name another folder to write to")
