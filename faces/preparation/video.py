"""Frames of videos, read by OpenCV."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from faces.detection.opencv import can_open, load_opencv
from images.decode import UnusableImageError

if TYPE_CHECKING:
    import cv2

VIDEO_SUFFIXES = frozenset(
    {
        *(".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".ogv", ".3gp"),
        *(".mts", ".m2ts"),
    }
)
"""Lower-case suffixes of video files."""

DEFAULT_FPS = 25.0
"""Frame rate of a video that does not specify one."""

MAX_MISSING = 25
"""Number of frames by which a video may be shorter than its file says, which is often slightly wrong."""

SEEK_BACK = (100, 1000)
"""Frames by which to seek further back, if seeking ends too late."""


@dataclass(frozen=True)
class VideoSegment:
    """Frames first, first + step, ... before `end` of a video; to the end of the video if that is None.

    A frame's number is its presentation time multiplied by the video's frame rate, and rounded: its index, if
    the rate is constant.

    Attributes:
        first: number of the first frame.
        step: frames from one that is taken to the next.
        end: end of the segment, or None.
        last: whether frames after `end` belong to the segment, too: with a variable rate, a video may have
            higher frame numbers than it has frames.
    """

    first: int
    step: float
    end: int | None
    last: bool = False

    def frames(self) -> Iterator[int]:
        """Numbers of the frames, counted from 0; endless if `end` is None, or in the last segment."""
        index = 0
        while self.end is None or self.last or round(self.first + index * self.step) < self.end:
            yield round(self.first + index * self.step)
            index += 1


def split_video(path: Path, fps: float, frames_per_segment: int) -> list[VideoSegment]:
    """Split a video into independent segments; a single one if it is unreadable or its length is unknown.

    Args:
        path: of the video.
        fps: frames per second to take; all if the video has fewer.
        frames_per_segment: frames to take from each segment.
    """
    with _open_video(path) as video:
        rate, count = _frame_rate(video), int(video.get(load_opencv().CAP_PROP_FRAME_COUNT))
    step = max(1.0, rate / fps)
    if count <= 0:
        return [VideoSegment(0, step, None)]
    starts: list[int] = []
    while (first := round(len(starts) * frames_per_segment * step)) < count:
        starts.append(first)
    ends = [*starts[1:], count]
    return [
        VideoSegment(first, step, end, last=end == count) for first, end in zip(starts, ends, strict=True)
    ]


def read_frames(path: Path, segment: VideoSegment) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Read the frames of a segment one at a time: number and image, uint8 [3, H, W], upright.

    If no frame has a number that is to be taken, the next one is.

    Raises:
        UnusableImageError: the video cannot be read, or more than `MAX_MISSING` of its frames are missing.
    """
    cv2 = load_opencv()
    if not can_open(path):
        raise UnusableImageError("its name is not UTF-8, as OpenCV needs it: rename it")
    with _open_video(path) as video:
        number, taken = _seek(video, segment.first), -1
        for frame in segment.frames():
            if frame <= taken:
                continue
            while number is not None and number < frame:
                number = _grab(video, number)
            if number is not None and segment.end is not None and number >= segment.end and not segment.last:
                return
            decoded, pixels = (False, None) if number is None else video.retrieve()
            if not decoded:
                break
            yield number, np.moveaxis(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), -1, 0)
            taken = number
        else:
            return
    if frame == 0:
        raise UnusableImageError("not a readable video")
    if segment.end is not None and frame < segment.end:
        count = _frame_count(path)
        if count is not None and count < segment.end - MAX_MISSING:
            raise UnusableImageError(f"damaged: it ends before frame {frame:,} of {segment.end:,} or more")


@cache
def _frame_count(path: Path) -> int | None:
    """The number of frames that can be read; None if the frame rate varies."""
    number, count = -1, 0
    with _open_video(path) as video:
        while (following := _grab(video, number)) is not None:
            number, count = following, count + 1
    return count if abs(number + 1 - count) <= MAX_MISSING else None


@contextlib.contextmanager
def _open_video(path: Path) -> Iterator[cv2.VideoCapture]:
    video = load_opencv().VideoCapture(*([str(path)] if can_open(path) else []))
    try:
        yield video
    finally:
        video.release()


def _frame_rate(video: cv2.VideoCapture) -> float:
    rate = video.get(load_opencv().CAP_PROP_FPS)
    return rate if 0 < rate < 1000 else DEFAULT_FPS


def _grab(video: cv2.VideoCapture, previous: int) -> int | None:
    """Advance to the next frame; its number, or None at the end. `previous` counts if there are no times."""
    if not video.grab():
        return None
    seconds = video.get(load_opencv().CAP_PROP_POS_MSEC) / 1000
    return max(previous, round(seconds * _frame_rate(video))) if seconds > 0 else previous + 1


def _seek(video: cv2.VideoCapture, frame: int) -> int | None:
    """Advance to a frame, or to an earlier one if the file does not allow that; its number, None at the end.

    OpenCV seeks by a constant frame rate, and may end up later with a variable one.
    """
    cv2 = load_opencv()
    for back in (0, *SEEK_BACK):
        target = frame - back
        if target <= 0:
            break
        video.set(cv2.CAP_PROP_POS_FRAMES, target)
        if round(video.get(cv2.CAP_PROP_POS_FRAMES)) == target:
            number = _grab(video, target - 1)
            if number is not None and number <= frame:
                return number
    if frame:
        video.set(cv2.CAP_PROP_POS_FRAMES, 0)
    return _grab(video, -1)
