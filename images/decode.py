"""Decode image files to uint8 arrays, many of them in parallel."""

from __future__ import annotations

import contextlib
import errno
import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO

import numpy as np
import PIL
from PIL import ExifTags, Image, UnidentifiedImageError, features

from engine.png import from_pillow
from engine.worker_pool import parallel_map
from images.scan import RAW_SUFFIXES

AVIF = features.check("avif")
HEIF = find_spec("pillow_heif") is not None
"""Whether AVIF and HEIF (`.heic`) files can be decoded."""

DECODER = f"2, Pillow {PIL.__version__}, AVIF {AVIF}, HEIF {HEIF}"
"""Version of the decoder; cached arrays of another version are outdated."""

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
"""Formats that are always supported. Some others that Pillow reads start external programs."""

AVIF_BRANDS = (b"avif", b"avis")
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")
"""Brands in the file's first box (ISO/IEC 23008-12)."""

MIN_SIZE_RATIO = 0.5
"""An image is too small if its shorter side is less than this share of the requested size."""

CHUNK_SIZE = 16
"""Files per task of a worker."""

MIN_FILES_FOR_WORKERS = 64
"""Number of files below which starting processes costs more than it saves."""

EXIF_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The transposition that sets an image upright, by EXIF orientation (EXIF 2.32, tag 0x0112)."""


UNREADABLE = "cannot be read: "
"""Start of the reason if the cause is the system, which may have gone a moment later, and not the file."""


class UnusableImageError(Exception):
    """A file cannot be used as an image. The message gives the reason in a few words."""


def decode(path: str | Path | BinaryIO, size: int) -> np.ndarray:
    """Decode the centre square of an image file, or of an open one, to uint8 [3, size, size], RGB, upright.

    Transparent pixels are blended with white, 16-bit grey is scaled to 8 bits, only the first of several
    frames is read, and colour profiles are ignored. Pillow's antialiasing Lanczos filter resizes the
    square; a JPEG at least four times as large is first reduced by 2, 4 or 8 while it is decoded, to no
    less than twice the size.

    Raises:
        UnusableImageError: the file is damaged, truncated, too small, too large to be safe, camera raw, or
            in no supported format.
    """
    return _open_and_decode(path, partial(_decode_square, size=size))


def decode_full(path: str | Path | BinaryIO, max_pixels: int | None = None) -> np.ndarray:
    """Decode a whole image file, upright, to uint8 [3, H, W], RGB, without resizing; otherwise like `decode`.

    Args:
        path: the file, or one that is open.
        max_pixels: limit on its pixels, which are counted before they are decoded; None for Pillow's own.

    Raises:
        UnusableImageError: the file is damaged, truncated, too large to be safe, camera raw, or in no
            supported format.
    """
    return _open_and_decode(path, partial(_decode_whole, max_pixels=max_pixels))


def _open_and_decode(
    path: str | Path | BinaryIO, decode_file: Callable[[BinaryIO], np.ndarray]
) -> np.ndarray:
    if isinstance(path, str | Path):
        if Path(path).suffix.lower() in RAW_SUFFIXES:
            raise UnusableImageError("camera raw: export it as JPEG")
        opened = partial(Path(path).open, "rb")
    else:
        opened = partial(contextlib.nullcontext, path)
    try:
        # Pillow warns about odd metadata; only the pixels matter here.
        with warnings.catch_warnings(action="ignore"), opened() as file:
            try:
                return decode_file(file)
            except ValueError:
                # Pillow rejects large text chunks, to protect programs that keep them.
                if (png := _without_text(file)) is None:
                    raise
                return decode_file(png)
    except UnusableImageError:
        raise
    except UnidentifiedImageError:
        raise UnusableImageError("not a JPEG, PNG, WebP, BMP, TIFF, GIF, HEIC or AVIF image") from None
    except Image.DecompressionBombError:
        raise UnusableImageError(f"too large: more than {2 * Image.MAX_IMAGE_PIXELS:,} pixels") from None
    except Exception as error:
        # Pillow's decoders raise nearly any type of exception for a damaged file.
        problem = UNREADABLE if _is_of_the_system(error) else "cannot be decoded: "
        raise UnusableImageError(f"{problem}{_message(error)}") from error


def became_readable(path: str | Path, reason: str) -> bool:
    """Whether a file that was unusable for a cause in the system, such as a disk error, can be decoded now.

    Args:
        path: the file.
        reason: why it was unusable.
    """
    if not reason.startswith(UNREADABLE):
        return False
    try:
        decode_full(path)
    except UnusableImageError as unusable:
        return not str(unusable).startswith(UNREADABLE)
    return True


def decode_files(
    files: Sequence[str | Path], size: int, workers: int, folder: str | Path = ""
) -> Iterator[np.ndarray | str]:
    """Decode files in parallel and yield, in order, each image or the reason why there is none.

    Images are uint8 [3, size, size]. At most a few chunks of them are in memory. If the iterator may not be
    exhausted, close it (`contextlib.closing`).

    Args:
        files: the files, relative to `folder`.
        size: side of the images in pixels.
        workers: number of decoding processes; 0 decodes in this process. Threads would not help: decoding
            small JPEGs spends most of its time holding Python's global lock.
        folder: folder of the files; the working directory by default.

    Raises:
        UserError: a worker was killed or could not start.
    """
    task = partial(_decode_chunk, folder=Path(folder), size=size)
    if workers == 0 or len(files) < MIN_FILES_FOR_WORKERS:
        for file in files:
            yield from task([file])
        return
    chunks = [files[start : start + CHUNK_SIZE] for start in range(0, len(files), CHUNK_SIZE)]
    with contextlib.closing(parallel_map(task, chunks, workers)) as decoded:
        for images in decoded:
            yield from images


def _formats(file: BinaryIO) -> Sequence[str]:
    """The formats in which to open a file, with their decoder loaded."""
    header = file.read(32)
    file.seek(0)
    brands = header[8:] if header[4:8] == b"ftyp" else b""
    if any(brand in brands for brand in AVIF_BRANDS):
        if not AVIF:
            raise UnusableImageError(_missing_extra("AVIF"))
        return ("AVIF",)
    if brands[:4] in HEIF_BRANDS:
        if not HEIF:
            raise UnusableImageError(_missing_extra("HEIC"))
        from pillow_heif import register_heif_opener

        register_heif_opener()
        return ("HEIF",)
    return FORMATS


def _missing_extra(form: str) -> str:
    return f"{form} needs the extra 'photos': pip install -e '.[photos]', or uv pip install -e '.[photos]'"


def _without_text(file: BinaryIO) -> BinaryIO | None:
    """A copy of a PNG without text chunks and colour profile; None for other files."""
    file.seek(0)
    if (signature := file.read(8)) != b"\x89PNG\r\n\x1a\n":
        return None
    chunks = [signature]
    while len(header := file.read(8)) == 8:
        chunk = header + file.read(int.from_bytes(header[:4], "big") + 4)
        if header[4:] not in (b"tEXt", b"zTXt", b"iTXt", b"iCCP"):
            chunks.append(chunk)
    return io.BytesIO(b"".join(chunks))


def _decode_whole(file: BinaryIO, max_pixels: int | None) -> np.ndarray:
    with Image.open(file, formats=_formats(file)) as image:
        if max_pixels is not None and image.width * image.height > max_pixels:
            raise UnusableImageError(f"too large: more than {max_pixels:,} pixels")
        image.load()  # before reading the orientation, as below
        return _to_array(_to_rgb(image), _orientation(image))


def _decode_square(file: BinaryIO, size: int) -> np.ndarray:
    with Image.open(file, formats=_formats(file)) as image:
        if min(image.size) < MIN_SIZE_RATIO * size:
            sides = f"{image.width} x {image.height} px, the shorter side needs {MIN_SIZE_RATIO * size:.0f}"
            raise UnusableImageError(f"too small: {sides}")
        image.draft(None, (2 * size, 2 * size))
        # Before reading the orientation: loading a TIFF rotates it and resets its orientation.
        image.load()
        return _to_array(_resized_centre(_to_rgb(image), size), _orientation(image))


def _to_array(image: Image.Image, orientation: int) -> np.ndarray:
    transposition = EXIF_TRANSPOSE.get(orientation)
    return from_pillow(image if transposition is None else image.transpose(transposition))


def _orientation(image: Image.Image) -> int:
    # Unreadable metadata does not make the pixels unusable.
    with contextlib.suppress(Exception):
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        image = _grey_from_16_bits(image)
    elif image.mode == "F":
        raise UnusableImageError("floating-point pixels of unknown range")
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
        raise UnusableImageError("grey of more than 16 bits, of unknown range")
    return Image.fromarray(((levels * 255 + 32767) // 65535).astype(np.uint8))


def _resized_centre(image: Image.Image, size: int) -> Image.Image:
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    # A gap of 3 is indistinguishable from no gap (Pillow's manual) and far faster for large images.
    return square.resize((size, size), Image.Resampling.LANCZOS, reducing_gap=3)


def _decode_chunk(files: Sequence[str | Path], folder: Path, size: int) -> list[np.ndarray | str]:
    results: list[np.ndarray | str] = []
    for file in files:
        try:
            results.append(decode(folder / file, size))
        except UnusableImageError as unusable:
            results.append(str(unusable))
    return results


def _is_of_the_system(error: Exception) -> bool:
    # Pillow's own errors have no number, and a damaged file makes it seek to invalid places.
    from_call = isinstance(error, OSError) and error.errno not in (None, errno.EINVAL)
    return from_call or isinstance(error, MemoryError)


def _message(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, MemoryError):
        return "out of memory"
    return " ".join(str(error).split()) or type(error).__name__
