"""Frames of videos, read by OpenCV."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
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


@dataclass(frozen=True)
class VideoSegment:
    """Frames first, first + step, ... before `end` of a video; to the end of the video if that is None."""

    first: int
    step: float
    end: int | None

    def frames(self) -> Iterator[int]:
        """Numbers of the frames, counted from 0; endless if `end` is None."""
        index = 0
        while self.end is None or round(self.first + index * self.step) < self.end:
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
        cv2 = load_opencv()
        rate, count = video.get(cv2.CAP_PROP_FPS), int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    step = max(1.0, (rate if 0 < rate < 1000 else DEFAULT_FPS) / fps)
    if count <= 0:
        return [VideoSegment(0, step, None)]
    starts: list[int] = []
    while (first := round(len(starts) * frames_per_segment * step)) < count:
        starts.append(first)
    return [VideoSegment(first, step, end) for first, end in zip(starts, [*starts[1:], count], strict=True)]


def read_frames(path: Path, segment: VideoSegment) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Read the frames of a segment one at a time: number and image, uint8 [3, H, W], upright.

    Raises:
        UnusableImageError: the video cannot be read, or more than `MAX_MISSING` of its frames are missing.
    """
    cv2 = load_opencv()
    if not can_open(path):
        raise UnusableImageError("its name is not UTF-8, as OpenCV needs it: rename it")
    with _open_video(path) as video:
        position = _seek(video, segment.first)
        for frame in segment.frames():
            while position < frame and video.grab():
                position += 1
            decoded, pixels = video.read() if position == frame else (False, None)
            if not decoded:
                break
            position += 1
            yield frame, np.moveaxis(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), -1, 0)
        else:
            return
        if frame == 0:
            raise UnusableImageError("not a readable video")
        if segment.end is not None and _is_truncated(video, segment.end, frame):
            raise UnusableImageError(f"damaged: it ends before frame {frame:,} of {segment.end:,} or more")


def _is_truncated(video: cv2.VideoCapture, end: int, missing: int) -> bool:
    """Whether a video without the frame `missing` lacks more than `MAX_MISSING` frames before `end`."""
    required = max(0, end - MAX_MISSING - 1)
    if required >= missing:
        return True
    # The segment may be shorter than MAX_MISSING, and the video may have ended before it.
    position = _seek(video, required)
    while position <= required and video.grab():
        position += 1
    return position <= required


@contextlib.contextmanager
def _open_video(path: Path) -> Iterator[cv2.VideoCapture]:
    video = load_opencv().VideoCapture(*([str(path)] if can_open(path) else []))
    try:
        yield video
    finally:
        video.release()


def _seek(video: cv2.VideoCapture, frame: int) -> int:
    """Seek to a frame, or to the start if the file does not allow that; the number of the next frame."""
    cv2 = load_opencv()
    if frame:
        video.set(cv2.CAP_PROP_POS_FRAMES, frame)
        if round(video.get(cv2.CAP_PROP_POS_FRAMES)) != frame:
            video.set(cv2.CAP_PROP_POS_FRAMES, 0)
            return 0
    return frame
