"""Boxes around faces, and the squares that are cut out by them.

A box is left, top, right, bottom in pixels of an image, right and bottom exclusive. A square is the x and y
of its centre and its side. Nothing here imports torch.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from engine.png import from_pillow
from faces.align import region

ENLARGE = 1.4
"""The side of the square that a network sees over the longer side of the box. A detector's box is off by a
tenth of its side (see `JITTER` in `faces.landmarks.augment`); this keeps the face inside all the same."""


def boxes_of(points: ArrayLike) -> NDArray[np.float64]:
    """The smallest boxes around landmarks: of [..., K, 2] float64 [..., 4]."""
    points = np.asarray(points, float)
    return np.concatenate([points.min(-2), points.max(-2)], axis=-1)


def inside(points: ArrayLike, image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which points, [..., K, 2] in pixels, lie in an image, uint8 [3, H, W], border included: [..., K]."""
    height, width = image.shape[1:]
    return ((np.asarray(points) >= 0) & (np.asarray(points) <= (width, height))).all(-1)


def squares_of(boxes: ArrayLike, enlarge: float = 1.0) -> NDArray[np.float64]:
    """The squares with the boxes' centres and, times `enlarge`, their longer sides: of [..., 4] [..., 3].

    A box without an extent gets a side of one pixel.
    """
    boxes = np.asarray(boxes, float)
    low, high = boxes[..., :2], boxes[..., 2:]
    side = np.maximum((high - low).max(-1, keepdims=True), 1.0)
    return np.concatenate([(low + high) / 2, side * enlarge], axis=-1)


def to_fractions(points: ArrayLike, squares: ArrayLike) -> NDArray[np.float64]:
    """Pixels of the image, [N, K, 2], as fractions of the sides of N squares, (0, 0) top left."""
    squares = np.asarray(squares, float)[:, None]
    return (np.asarray(points, float) - squares[..., :2]) / squares[..., 2:] + 0.5


def to_pixels(fractions: ArrayLike, squares: ArrayLike) -> NDArray[np.float64]:
    """Fractions of the sides of N squares, [N, K, 2], as pixels of the image."""
    squares = np.asarray(squares, float)[:, None]
    return (np.asarray(fractions, float) - 0.5) * squares[..., 2:] + squares[..., :2]


def cut(image: NDArray[np.uint8], square: ArrayLike, size: int) -> NDArray[np.uint8]:
    """Cut a square out of an image and scale it, averaging over all pixels that fall into one.

    Args:
        image: uint8 [3, H, W].
        square: centre and side in pixels of the image; what lies outside repeats the image's edge.
        size: side of the result.

    Returns:
        uint8 [3, size, size].
    """
    x, y, side = np.asarray(square, float)
    left, top = x - side / 2, y - side / 2
    first_column, first_row = int(np.floor(left)) - 1, int(np.floor(top)) - 1
    length = int(np.ceil(side)) + 3
    part = region(image, (first_column, first_row), (first_column + length, first_row + length))
    box = (left - first_column, top - first_row, left - first_column + side, top - first_row + side)
    return from_pillow(part.resize((size, size), Image.Resampling.BILINEAR, box=box, reducing_gap=3))
