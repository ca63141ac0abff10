"""An image file, of whatever kind a folder may hold, to a uint8 array; many of them in parallel."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import PIL
from PIL import ExifTags, Image, UnidentifiedImageError

from engine.worker_pool import parallel_map

DECODER = f"1, Pillow {PIL.__version__}"
"""Names the way pixels are made; arrays decoded under another name are out of date."""

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
"""The formats that are read. Pillow knows more, but some of those start other programs."""

MIN_SIZE_RATIO = 0.5
"""An image is too small where its shorter side is less than this share of the size asked for."""

CHUNK = 16
"""Files handed to a worker at once."""

MIN_FILES_FOR_WORKERS = 64
"""Starting processes costs more than it saves for fewer files than this."""

EXIF_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What sets an image upright, by its EXIF orientation (EXIF 2.32, tag 0x0112)."""


class UnusableImageError(Exception):
    """A file that gives no image. The message says why, in a few words."""


def decode(path: str | Path, size: int) -> np.ndarray:
    """Read an image file: its centre square, upright, as uint8 [3, size, size], RGB.

    Transparent pixels lie over white, 16-bit grey is scaled to 8 bits, of several frames the first
    counts, and colour profiles are not applied. The resize is Pillow's Lanczos filter, which averages
    over all pixels that fall into one; a JPEG of four times the size or more is first reduced by
    2, 4 or 8 as it is decoded, to no less than twice the size.

    Raises:
        UnusableImageError: the file is broken, cut short, too small, too large to be safe, or no image
            of one of the `FORMATS`.
    """
    return _guarded(path, partial(_decode_square, size=size))


def decode_full(path: str | Path) -> np.ndarray:
    """Read an image file: all of it, upright, as uint8 [3, H, W], RGB; otherwise as `decode` does.

    Raises:
        UnusableImageError: the file is broken, cut short, too large to be safe, or no image of one of the
            `FORMATS`.
    """
    return _guarded(path, _decode_whole)


def _guarded(path: str | Path, read: Callable[[BinaryIO], np.ndarray]) -> np.ndarray:
    try:
        # Pillow warns of odd metadata; what counts here is whether the pixels can be had.
        with warnings.catch_warnings(action="ignore"), Path(path).open("rb") as file:
            return read(file)
    except UnusableImageError:
        raise
    except UnidentifiedImageError:
        raise UnusableImageError("not a JPEG, PNG, WebP, BMP, TIFF or GIF image") from None
    except Image.DecompressionBombError:
        raise UnusableImageError(f"too large: more than {2 * Image.MAX_IMAGE_PIXELS:,} pixels") from None
    except Exception as error:
        # Pillow's readers answer a damaged file with nearly any exception there is.
        raise UnusableImageError(f"cannot be decoded: {_one_line(error)}") from error


def decode_files(
    files: Sequence[str | Path], size: int, workers: int, folder: str | Path = ""
) -> Iterator[np.ndarray | str]:
    """Decode files in parallel; yield for each, in order, its image or the reason why there is none.

    Images are uint8 [3, size, size]. No more than a few chunks of them wait to be taken. Close the
    iterator (`contextlib.closing`) where it may not be used up.

    Args:
        files: the files, relative to `folder`.
        size: side of the images in pixels.
        workers: processes that decode (see `spread`); 0 decodes in this one. Processes, because small
            JPEGs spend most of their time holding Python's lock: two threads decode them hardly
            faster than one.
        folder: where the files are; the working directory if not given.

    Raises:
        UserError: a worker was ended from outside or could not start.
    """
    task = partial(_decode_chunk, folder=Path(folder), size=size)
    if workers == 0 or len(files) < MIN_FILES_FOR_WORKERS:
        for file in files:
            yield from task([file])
        return
    chunks = [files[start : start + CHUNK] for start in range(0, len(files), CHUNK)]
    with contextlib.closing(parallel_map(task, chunks, workers)) as decoded:
        for images in decoded:
            yield from images


def _decode_whole(file: BinaryIO) -> np.ndarray:
    with Image.open(file, formats=FORMATS) as image:
        image.load()  # before the orientation is read, as below
        turn = EXIF_TRANSPOSE.get(_orientation(image))
        whole = _to_rgb(image)
    return _channels_first(whole if turn is None else whole.transpose(turn))


def _decode_square(file: BinaryIO, size: int) -> np.ndarray:
    with Image.open(file, formats=FORMATS) as image:
        least = MIN_SIZE_RATIO * size
        if min(image.size) < least:
            width, height = image.size
            raise UnusableImageError(f"too small: {width} x {height} px, the shorter side needs {least:.0f}")
        image.draft(None, (2 * size, 2 * size))
        # Before the orientation is read: TIFF is turned by loading it, and then says so.
        image.load()
        turn = EXIF_TRANSPOSE.get(_orientation(image))
        square = _resized_centre(_to_rgb(image), size)
    if turn is not None:
        square = square.transpose(turn)
    return _channels_first(square)


def _channels_first(image: Image.Image) -> np.ndarray:
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def _orientation(image: Image.Image) -> int:
    # A picture whose metadata cannot be read is still a picture.
    with contextlib.suppress(Exception):
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        image = _grey_from_16_bits(image)
    elif image.mode == "F":
        raise UnusableImageError("floating-point pixels, whose range is not known")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert("RGB")


def _grey_from_16_bits(image: Image.Image) -> Image.Image:
    levels = np.asarray(image).astype(np.int64)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        levels[levels == transparent] = 65535
    if levels.min() < 0 or levels.max() > 65535:
        raise UnusableImageError("grey of more than 16 bits, whose range is not known")
    return Image.fromarray(((levels * 255 + 32767) // 65535).astype(np.uint8))


def _resized_centre(image: Image.Image, size: int) -> Image.Image:
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    # A gap of 3 keeps the result as good as without it (Pillow's manual); large images take far less.
    return square.resize((size, size), Image.Resampling.LANCZOS, reducing_gap=3)


def _decode_chunk(files: Sequence[str | Path], folder: Path, size: int) -> list[np.ndarray | str]:
    results: list[np.ndarray | str] = []
    for file in files:
        try:
            results.append(decode(folder / file, size))
        except UnusableImageError as unusable:
            results.append(str(unusable))
    return results


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__
