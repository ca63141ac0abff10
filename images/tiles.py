"""Convert images between uint8 and [-1, 1], tile them into a grid, scale and number them.

Stored images are uint8 arrays [N, 3, H, W], a single picture is [3, H, W]; in the networks they are
float tensors in [-1, 1]. Nothing here imports torch, so that scripts start quickly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from engine.errors import UserError
from engine.png import from_pillow, to_pillow

if TYPE_CHECKING:
    from torch import Tensor

Images = TypeVar("Images", NDArray[Any], "Tensor")

GAP = 2
"""Pixels of background between neighbouring tiles; there are none around the edge of the grid."""

GRID_COLUMNS = 8
"""Columns of the sample grids written during training."""

BACKGROUND = 255
"""Level of all three channels between and beside tiles."""

WIDE_GAP = 16
"""Pixels of background between pictures that stand beside each other."""

TITLE_SIZE = 16
"""Height of a title's font."""

MAX_PIXELS = 89_000_000
"""Pixels of one picture. Pillow and other readers warn about larger ones or refuse them as attacks."""

MIN_FONT_SIZE = 7
"""Font size of a number that would be wider than its tile."""


def to_float(images: Tensor) -> Tensor:
    """Convert levels 0 to 255 (uint8, any shape) to float32 in [-1, 1] on the same device."""
    return images.float().div(127.5).sub_(1.0)


def to_uint8(images: Tensor) -> Tensor:
    """Round floats in [-1, 1] (any shape and precision) to the nearest level 0 to 255, uint8.

    Values outside [-1, 1] are clamped. `to_uint8(to_float(x))` is exactly `x`.
    """
    return images.float().add(1.0).mul_(127.5).round_().clamp_(0, 255).byte()


def to_luma(images: NDArray[Any]) -> NDArray[np.float32]:
    """The grey levels of images [N, 3, H, W] (ITU-R BT.601), float32 [N, H, W]."""
    weights = np.array((0.299, 0.587, 0.114), np.float32)
    return np.tensordot(images.astype(np.float32, copy=False), weights, (1, 0))


def tile(images: NDArray[np.uint8], columns: int) -> NDArray[np.uint8]:
    """Tile images row by row, with `GAP` pixels of background between them.

    Args:
        images: uint8 [N, 3, H, W] with N of at least 1.
        columns: images in a row, at least 1. The last row is filled up with background.

    Returns:
        uint8 [3, rows * (H + GAP) - GAP, columns * (W + GAP) - GAP]. The top left corner of image i is
        at row `i // columns * (H + GAP)` and column `i % columns * (W + GAP)`.

    Raises:
        ValueError: no images, no columns, or an array of another shape or dtype.
    """
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] != 3 or not len(images):
        raise ValueError(f"expected uint8 [N, 3, H, W] with N >= 1, not {images.dtype} {list(images.shape)}")
    if columns < 1:
        raise ValueError(f"columns must be at least 1, not {columns}")
    _, _, height, width = images.shape
    rows = -(-len(images) // columns)
    shape = (3, rows * (height + GAP) - GAP, columns * (width + GAP) - GAP)
    grid = np.full(shape, BACKGROUND, np.uint8)
    for index, image in enumerate(images):
        top, left = index // columns * (height + GAP), index % columns * (width + GAP)
        grid[:, top : top + height, left : left + width] = image
    return grid


def beside(pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Join pictures uint8 [3, H, W] of any sizes, `WIDE_GAP` pixels apart and aligned at the bottom."""
    height = max(picture.shape[1] for picture in pictures)
    width = sum(picture.shape[2] for picture in pictures) + WIDE_GAP * (len(pictures) - 1)
    joined, left = np.full((3, height, width), BACKGROUND, np.uint8), 0
    for picture in pictures:
        joined[:, height - picture.shape[1] :, left : left + picture.shape[2]] = picture
        left += picture.shape[2] + WIDE_GAP
    return joined


def centre_crop(images: Images, size: int) -> Images:
    """The central squares [..., size, size] of square images [..., S, S], with S of at least `size`."""
    first = (images.shape[-1] - size) // 2
    return images[..., first : first + size, first : first + size]


def add_title(picture: NDArray[np.uint8], title: str) -> NDArray[np.uint8]:
    """Write a title above a picture uint8 [3, H, W], which becomes wider if the title is."""
    _, height, width = picture.shape
    font = default_font(TITLE_SIZE)
    margin = TITLE_SIZE * 3 // 2
    size = max(width, math.ceil(font.getlength(title))), height + margin
    canvas = Image.new("RGB", size, (BACKGROUND,) * 3)
    canvas.paste(to_pillow(picture), (0, margin))
    ImageDraw.Draw(canvas).text((0, 1), title, fill="black", font=font)
    return from_pillow(canvas)


def scale_image(image: NDArray[np.uint8], factor: float) -> NDArray[np.uint8]:
    """Resize one image, uint8 [3, H, W], by a factor for both sides, with Lanczos interpolation.

    Raises:
        UserError: the result would exceed `MAX_PIXELS`.
    """
    if factor == 1:
        return image
    height, width = (max(1, round(side * factor)) for side in image.shape[1:])
    if height * width > MAX_PIXELS:
        raise UserError(f"{width:,} x {height:,} pixels are too many for one picture: give a smaller --scale")
    return from_pillow(to_pillow(image).resize((width, height), Image.Resampling.LANCZOS))


def number_tiles(images: NDArray[np.uint8], numbers: Sequence[int | str] | None = None) -> NDArray[np.uint8]:
    """Copy images and write a number below each, in a margin.

    Args:
        images: uint8 [N, 3, H, W].
        numbers: N numbers or short words; 0 to N - 1 by default.

    Returns:
        uint8 [N, 3, H + margin, W].
    """
    numbers = range(len(images)) if numbers is None else numbers
    numbered = [_add_number(image, str(number)) for image, number in zip(images, numbers, strict=True)]
    return np.stack(numbered) if numbered else np.array(images)


@cache
def default_font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's built-in font, `size` pixels high."""
    return ImageFont.load_default(size)


def _add_number(image: NDArray[np.uint8], text: str) -> NDArray[np.uint8]:
    _, height, width = image.shape
    size = max(11, width // 7)
    canvas = Image.new("RGB", (width, height + size * 3 // 2), (BACKGROUND,) * 3)
    canvas.paste(to_pillow(image))
    while size > MIN_FONT_SIZE and default_font(size).getlength(text) > width:
        size -= 1
    # Nearer to its own image than to the next row of a grid.
    place = width / 2, height + 1
    ImageDraw.Draw(canvas).text(place, text, fill="black", font=default_font(size), anchor="ma")
    return from_pillow(canvas)
