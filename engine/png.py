"""PNG files with text chunks, and conversion to and from Pillow images. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from engine.files import atomic_write


def to_pillow(image: NDArray[np.uint8]) -> Image.Image:
    """One image, uint8 [3, H, W], as a Pillow image of mode RGB."""
    return Image.fromarray(np.ascontiguousarray(np.moveaxis(image, 0, -1)))


def from_pillow(image: Image.Image) -> NDArray[np.uint8]:
    """A Pillow image of any mode as uint8 [3, H, W]."""
    return np.ascontiguousarray(np.moveaxis(np.asarray(image.convert("RGB")), -1, 0))


def save_png(
    path: str | Path,
    image: NDArray[np.uint8],
    text: Mapping[str, object] | None = None,
    *,
    durable: bool = True,
) -> None:
    """Write one image, uint8 [3, H, W], with `text` in the file's text chunks, sorted by key.

    The same image and text always give the same bytes. Values are converted with `str` and may be in any
    language; what UTF-8 cannot encode, such as a file name in another encoding, is escaped. Keys are Latin-1,
    1 to 79 characters long. For `durable`, see `engine.files.atomic_write`.

    Raises:
        OSError: the file cannot be written; an existing one is unchanged.
    """
    chunks = PngInfo()
    for key, value in sorted((text or {}).items()):
        chunks.add_text(key, str(value).encode("utf-8", "backslashreplace").decode("utf-8"))
    with atomic_write(path, durable=durable) as temporary:
        to_pillow(image).save(temporary, "PNG", pnginfo=chunks)


def load_png(path: str | Path) -> NDArray[np.uint8]:
    """Read an image file as uint8 [3, H, W].

    Raises:
        OSError: the file is missing, truncated or not an image.
    """
    with Image.open(path) as image:
        return from_pillow(image)


def read_text(path: str | Path) -> dict[str, str]:
    """Read the text chunks of a PNG.

    Raises:
        OSError: the file is missing, truncated or not a PNG.
    """
    with Image.open(path, formats=["PNG"]) as image:
        image.load()
        return dict(image.text)
