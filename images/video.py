"""Write GIF and MP4 files, and read image files as frames."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engine.errors import UserError, missing_extra
from engine.files import atomic_write
from engine.png import from_pillow, to_pillow
from images import VideoFormat
from images.tiles import scale_image

Frames = Iterable[NDArray[np.uint8]]
"""Images uint8 [3, H, W] of one size. They are read one at a time, so a generator saves memory."""

Frame = TypeVar("Frame")

FPS_RANGE: dict[VideoFormat, tuple[float, float]] = {"gif": (0.1, 50.0), "mp4": (0.1, 120.0)}
"""Minimum and maximum frames per second. Viewers show a GIF of more than 50 slower, not faster."""

MAX_GIF_DELAY = 65_535
"""Longest delay of a GIF frame, in hundredths of a second: 16 bits."""


def check_fps(video_format: VideoFormat, fps: float) -> None:
    """Raise `UserError` if a number of frames per second is outside `FPS_RANGE`."""
    low, high = FPS_RANGE[video_format]
    if not low <= fps <= high:
        raise UserError(
            f"{video_format.upper()} files have {low:g} to {high:g} frames per second, not {fps:g}"
        )


def check_video(path: str | Path, fps: float) -> None:
    """Raise the `UserError` that `save_video` would raise, before any frame is made."""
    video_format: VideoFormat = "mp4" if Path(path).suffix.lower() == ".mp4" else "gif"
    check_fps(video_format, fps)
    if video_format == "mp4":
        _check_encoder()


def save_video(path: str | Path, frames: Frames, fps: float) -> None:
    """Write a `.gif` or `.mp4` file with `save_gif` or `save_mp4`."""
    {".gif": save_gif, ".mp4": save_mp4}[Path(path).suffix.lower()](path, frames, fps)


def save_gif(path: str | Path, frames: Frames, fps: float) -> None:
    """Write a GIF that repeats forever, with at most 256 colours per frame.

    Frame durations are rounded to hundredths of a second. A frame that equals the previous one extends the
    duration of that one. A frame of more than `MAX_GIF_DELAY` is followed by frames that change nothing.

    Raises:
        UserError: `fps` is outside `FPS_RANGE`.
        ValueError: no frames.
        OSError: the file cannot be written; an existing file is unchanged.
    """
    check_fps("gif", fps)
    delays: list[int] = []
    durations: list[int] = []  # Pillow reads an element once it has taken the frame, so it may be added late

    def images() -> Iterator[Image.Image]:
        for image, count in _merge_repeats(frames):
            delays.append(count * round(100 / fps))
            durations.append(10 * min(delays[-1], MAX_GIF_DELAY))
            yield image

    first, rest = _split_first(images())
    with atomic_write(path) as temporary:
        first.save(temporary, "GIF", save_all=True, append_images=rest, duration=durations, loop=0)
        if max(delays) > MAX_GIF_DELAY:
            temporary.write_bytes(_extend_delays(temporary.read_bytes(), delays))


def save_mp4(path: str | Path, frames: Frames, fps: float) -> None:
    """Write an H.264 video that every player supports (yuv420p), with imageio and ffmpeg.

    The pixel format requires even sides; the last row or column of an odd side is repeated.

    Raises:
        UserError: the `video` extra is not installed, or `fps` is outside `FPS_RANGE`.
        ValueError: no frames.
        OSError: the file cannot be written; an existing file is unchanged.
    """
    check_video("video.mp4", fps)
    import imageio.v2 as imageio

    first, rest = _split_first(frames)
    # Sides are padded below; imageio's default, blocks of 16, would rescale the frames.
    options = {"codec": "libx264", "quality": 8, "macro_block_size": 2}
    # imageio's writer as a context manager would leave ffmpeg running after an exception.
    with (
        atomic_write(path) as temporary,
        contextlib.closing(imageio.get_writer(temporary, format="FFMPEG", fps=fps, **options)) as writer,
    ):
        for frame in itertools.chain([first], rest):
            _, height, width = frame.shape
            padded = np.pad(frame, ((0, 0), (0, height % 2), (0, width % 2)), mode="edge")
            writer.append_data(np.moveaxis(padded, 0, -1))


def read_frames(paths: Sequence[Path], scale: float = 1.0, hold: int = 0) -> Iterator[NDArray[np.uint8]]:
    """Read image files, such as a run's sample grids, as the frames of a video.

    Args:
        paths: images of one size, in order.
        scale: factor on both sides; see `images.tiles.scale_image`.
        hold: number of times the last frame is repeated.

    Yields:
        Frames uint8 [3, scale * H, scale * W], read one at a time.

    Raises:
        UserError: an image cannot be read, differs in size from the first one, or is too large.
    """
    size = frame = None
    for path in paths:
        try:
            with Image.open(path) as image:
                size = size or image.size
                if image.size != size:
                    raise UserError(f"{path} is {image.size} pixels in size, but the first frame is {size}")
                frame = scale_image(from_pillow(image), scale)
        except (OSError, SyntaxError) as error:
            raise UserError(f"{path} cannot be read as an image: {error}; remove it and try again") from error
        yield frame
    if frame is not None:
        yield from itertools.repeat(frame, hold)


def _merge_repeats(frames: Frames) -> Iterator[tuple[Image.Image, int]]:
    """Frames as Pillow reduces them to 256 colours, with the number of equal ones in a row."""
    images = (to_pillow(frame).convert("P", palette=Image.Palette.ADAPTIVE) for frame in frames)
    for _, equal in itertools.groupby(images, lambda image: image.convert("RGB").tobytes()):
        for count, image in enumerate(equal, 1):  # noqa: B007 - the last values are used
            pass
        yield image, count


def _extend_delays(gif: bytes, delays: Sequence[int]) -> bytes:
    """Insert transparent images of a pixel after those whose delay exceeds `MAX_GIF_DELAY`."""

    def after_table(start: int, flags: int) -> int:
        return start + (3 << (flags & 7) + 1 if flags & 0x80 else 0)

    def after_blocks(start: int) -> int:
        while gif[start]:
            start += 1 + gif[start]
        return start + 1

    remaining = iter(delays)
    position = after_table(13, gif[10])
    parts = [gif[:position]]
    while gif[position : position + 1] in (b"!", b","):
        is_image = gif[position] == ord(",")
        start = after_table(position + 10, gif[position + 9]) + 1 if is_image else position + 2
        end = after_blocks(start)
        parts.append(gif[position:end])
        position = end
        delay = next(remaining) - MAX_GIF_DELAY if is_image else 0
        while delay > 0:
            parts.append(b"!\xf9\4\1" + min(delay, MAX_GIF_DELAY).to_bytes(2, "little") + b"\0\0")
            # At 0, 0; 1 x 1 pixels; two colours, of which the first is transparent.
            parts.append(b",\0\0\0\0\1\0\1\0\x80" + bytes(6) + b"\2\2\x44\1\0")
            delay -= MAX_GIF_DELAY
    return b"".join([*parts, gif[position:]])


def _check_encoder() -> None:
    try:
        import imageio.v2  # noqa: F401
        from imageio_ffmpeg import get_ffmpeg_exe

        get_ffmpeg_exe()
    except (ImportError, RuntimeError) as error:
        message = missing_extra("an MP4 needs", "video", error)
        raise UserError(f"{message}; a GIF works without it") from error


def _split_first(frames: Iterable[Frame]) -> tuple[Frame, Iterator[Frame]]:
    iterator = iter(frames)
    for first in iterator:
        return first, iterator
    raise ValueError("no frames")
