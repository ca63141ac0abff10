"""Pictures that move: GIF and MP4, and image files as frames."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engine.errors import UserError, missing_extra
from engine.files import atomic_write
from engine.png import from_pillow, to_pillow

Frames = Iterable[NDArray[np.uint8]]
"""Images uint8 [3, H, W], all of one size; read one at a time, so a generator need not hold them all."""

VideoFormat = Literal["gif", "mp4"]

FPS_RANGE: dict[VideoFormat, tuple[float, float]] = {"gif": (0.1, 50.0), "mp4": (0.1, 120.0)}
"""Least and most frames a second. Viewers show a GIF of more than 50 slower, not faster."""


def check_fps(kind: VideoFormat, fps: float) -> None:
    """Refuse (`UserError`) a number of frames a second outside `FPS_RANGE`."""
    least, most = FPS_RANGE[kind]
    if not least <= fps <= most:
        raise UserError(f"frames a second of {kind.upper()} files are {least:g} to {most:g}, not {fps:g}")


def check_video(path: str | Path, fps: float) -> None:
    """Raise the `UserError` that `save_video` would, before anything is made for it."""
    kind: VideoFormat = "mp4" if Path(path).suffix == ".mp4" else "gif"
    check_fps(kind, fps)
    if kind == "mp4":
        _find_encoder()


def save_video(path: str | Path, frames: Frames, fps: float) -> None:
    """`save_gif` or `save_mp4`, by the path's ending."""
    {".gif": save_gif, ".mp4": save_mp4}[Path(path).suffix](path, frames, fps)


def save_gif(path: str | Path, frames: Frames, fps: float) -> None:
    """Write a GIF that repeats for ever, with at most 256 colours in a frame.

    Each frame is shown for the nearest whole number of hundredths of a second; a frame that equals
    the one before it is stored as a longer showing of that one.

    Raises:
        UserError: `fps` is outside `FPS_RANGE`.
        ValueError: no frames.
        OSError: the file cannot be written; an earlier one of that name is untouched.
    """
    check_fps("gif", fps)
    first, rest = _take_first(frames)
    with atomic_write(path) as temporary:
        to_pillow(first).save(
            temporary,
            "GIF",
            save_all=True,
            append_images=(to_pillow(frame) for frame in rest),
            duration=round(100 / fps) * 10,
            loop=0,
        )


def save_mp4(path: str | Path, frames: Frames, fps: float) -> None:
    """Write an H.264 film that every player shows (yuv420p), by imageio and ffmpeg.

    That format needs even sides: an odd one gets its last row or column of pixels twice.

    Raises:
        UserError: the `video` extra is not installed, or `fps` is outside `FPS_RANGE`.
        ValueError: no frames.
        OSError: the file cannot be written; an earlier one of that name is untouched.
    """
    check_video("film.mp4", fps)
    import imageio.v2 as imageio

    first, rest = _take_first(frames)
    # Sides are made even below; ffmpeg's own way, blocks of 16, would rescale the picture.
    options = {"codec": "libx264", "quality": 8, "macro_block_size": 2}
    # imageio's writer, as a context of its own, would leave ffmpeg at work after an exception.
    with (
        atomic_write(path) as temporary,
        contextlib.closing(imageio.get_writer(temporary, format="FFMPEG", fps=fps, **options)) as writer,
    ):
        for frame in itertools.chain([first], rest):
            _, height, width = frame.shape
            even = np.pad(frame, ((0, 0), (0, height % 2), (0, width % 2)), mode="edge")
            writer.append_data(np.moveaxis(even, 0, -1))


def read_frames(paths: Sequence[Path], shrink: int = 1, hold: int = 0) -> Iterator[NDArray[np.uint8]]:
    """Image files as the frames of a film, such as the sample grids that training left.

    Args:
        paths: images of one size, in order.
        shrink: makes either side this many times smaller, by averaging.
        hold: how many times more the last one is given.

    Yields:
        Frames uint8 [3, H / shrink, W / shrink], rounded up, read one at a time.

    Raises:
        UserError: an image cannot be read, or is not of the first one's size.
    """
    size = frame = None
    for path in paths:
        try:
            with Image.open(path) as image:
                size = size or image.size
                if image.size != size:
                    raise UserError(f"{path} has {image.size} pixels where the first frame has {size}")
                frame = from_pillow(image.convert("RGB").reduce(min(shrink, *size)))
        except (OSError, SyntaxError) as error:
            raise UserError(f"{path} cannot be read as an image: {error}; remove it and try again") from error
        yield frame
    if frame is not None:
        yield from itertools.repeat(frame, hold)


def _find_encoder() -> None:
    try:
        import imageio.v2  # noqa: F401
        from imageio_ffmpeg import get_ffmpeg_exe

        get_ffmpeg_exe()
    except (ImportError, RuntimeError) as missing:
        told = missing_extra("an MP4 needs", "video", missing)
        raise UserError(f"{told}; a GIF needs nothing more") from missing


def _take_first(frames: Frames) -> tuple[NDArray[np.uint8], Iterator[NDArray[np.uint8]]]:
    rest = iter(frames)
    for first in rest:
        return first, rest
    raise ValueError("no frames")
