"""Frames of videos, by OpenCV's reader."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from faces.detection.opencv import can_open, opencv
from images.decode import UnusableImageError

if TYPE_CHECKING:
    import cv2

SUFFIXES = frozenset(
    {
        *(".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".ogv", ".3gp"),
        *(".mts", ".m2ts"),
    }
)
"""Endings, in lower case, that promise a video."""

USUAL_RATE = 25.0
"""Frames a second of a video that does not tell."""

MISSING = 25
"""Frames by which a video may be shorter than it tells: the length in a file is often some too long."""


@dataclass(frozen=True)
class Stretch:
    """Frames first, first + step, ... before end of a video; to its end where that is None."""

    first: int
    step: float
    end: int | None

    def frames(self) -> Iterator[int]:
        """The numbers of the frames, from 0 on; without end where `end` is None."""
        index = 0
        while self.end is None or round(self.first + index * self.step) < self.end:
            yield round(self.first + index * self.step)
            index += 1


def stretches(path: Path, fps: float, frames_each: int) -> list[Stretch]:
    """A video in stretches that can be read by themselves; one where it cannot be read or has no length.

    Args:
        path: of the video.
        fps: frames a second to take; all where it has fewer.
        frames_each: frames to take from each stretch.
    """
    with _opened(path) as video:
        cv2 = opencv()
        rate, count = video.get(cv2.CAP_PROP_FPS), int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    step = max(1.0, (rate if 0 < rate < 1000 else USUAL_RATE) / fps)
    if count <= 0:
        return [Stretch(0, step, None)]
    firsts: list[int] = []
    while (first := round(len(firsts) * frames_each * step)) < count:
        firsts.append(first)
    return [Stretch(first, step, end) for first, end in zip(firsts, [*firsts[1:], count], strict=True)]


def read_frames(path: Path, stretch: Stretch) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """The frames of a stretch, one at a time: the number of each and its image, uint8 [3, H, W], upright.

    Raises:
        UnusableImageError: the video cannot be read, or it lacks more than `MISSING` of its frames.
    """
    cv2 = opencv()
    if not can_open(path):
        raise UnusableImageError("its name is not UTF-8, as OpenCV's reader needs it: rename it")
    with _opened(path) as video:
        at = _go_to(video, stretch.first)
        for frame in stretch.frames():
            while at < frame and video.grab():
                at += 1
            there, pixels = video.read() if at == frame else (False, None)
            if not there:
                break
            at += 1
            yield frame, np.moveaxis(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), -1, 0)
        else:
            return
        if frame == 0:
            raise UnusableImageError("no video that can be read")
        if stretch.end is not None and _misses_many(video, stretch.end, frame):
            raise UnusableImageError(f"damaged: it ends before frame {frame:,} of {stretch.end:,} or more")


def _misses_many(video: cv2.VideoCapture, end: int, missing: int) -> bool:
    """Whether a video without this frame lacks more than `MISSING` frames before `end`."""
    needed = max(0, end - MISSING - 1)
    if needed >= missing:
        return True
    # A stretch may be shorter than that, and the video may have ended before it.
    at = _go_to(video, needed)
    while at <= needed and video.grab():
        at += 1
    return at <= needed


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[cv2.VideoCapture]:
    video = opencv().VideoCapture(*([str(path)] if can_open(path) else []))
    try:
        yield video
    finally:
        video.release()


def _go_to(video: cv2.VideoCapture, frame: int) -> int:
    """Go to a frame where the file allows; the number of the frame that comes next."""
    cv2 = opencv()
    if frame:
        video.set(cv2.CAP_PROP_POS_FRAMES, frame)
        if round(video.get(cv2.CAP_PROP_POS_FRAMES)) != frame:
            video.set(cv2.CAP_PROP_POS_FRAMES, 0)
            return 0
    return frame
