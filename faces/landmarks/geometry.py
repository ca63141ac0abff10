"""Bounding boxes of faces, and the upright squares that are cropped around them.

A box is left, top, right, bottom in pixels of an image, right and bottom exclusive. A square is the x and y
of its centre and its side. Nothing here imports torch.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from engine.png import from_pillow
from faces.align import padded_region

INPUT_SCALE = 1.4
"""Side of the square that a network sees over the longer side of the box. A detector's box is off by a tenth
of its side (see `faces.landmarks.augment.JITTER`); this margin keeps the face inside even so."""


def bounding_boxes(points: ArrayLike) -> NDArray[np.float64]:
    """The bounding boxes of landmarks: [..., K, 2] to float64 [..., 4]. NaN points are ignored."""
    points = np.asarray(points, float)
    return np.concatenate([np.fmin.reduce(points, axis=-2), np.fmax.reduce(points, axis=-2)], axis=-1)


def inside_image(points: ArrayLike, image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Whether points, [..., K, 2] in pixels, are in an image, uint8 [3, H, W], border included: [..., K]."""
    height, width = image.shape[1:]
    return ((np.asarray(points) >= 0) & (np.asarray(points) <= (width, height))).all(-1)


def squares_around(boxes: ArrayLike, enlarge: float = 1.0) -> NDArray[np.float64]:
    """Squares with the boxes' centres and `enlarge` times their longer sides: [..., 4] to [..., 3].

    The longer side counts as one pixel or more.
    """
    boxes = np.asarray(boxes, float)
    low, high = boxes[..., :2], boxes[..., 2:]
    side = np.maximum((high - low).max(-1, keepdims=True), 1.0)
    return np.concatenate([(low + high) / 2, side * enlarge], axis=-1)


def to_fractions(points: ArrayLike, squares: ArrayLike) -> NDArray[np.float64]:
    """Convert pixels of the image, [N, K, 2], to fractions of the sides of N squares, (0, 0) top left."""
    squares = np.asarray(squares, float)[:, None]
    return (np.asarray(points, float) - squares[..., :2]) / squares[..., 2:] + 0.5


def to_pixels(fractions: ArrayLike, squares: ArrayLike) -> NDArray[np.float64]:
    """Convert fractions of the sides of N squares, [N, K, 2], to pixels of the image."""
    squares = np.asarray(squares, float)[:, None]
    return (np.asarray(fractions, float) - 0.5) * squares[..., 2:] + squares[..., :2]


def crop_square(image: NDArray[np.uint8], square: ArrayLike, size: int) -> NDArray[np.uint8]:
    """Crop an upright square from an image and resize it with antialiasing.

    Args:
        image: uint8 [3, H, W].
        square: centre and side in pixels of the image, whose edge is repeated beyond it.
        size: side of the result.

    Returns:
        uint8 [3, size, size].
    """
    x, y, side = np.asarray(square, float)
    left, top = x - side / 2, y - side / 2
    first_column, first_row = int(np.floor(left)) - 1, int(np.floor(top)) - 1
    length = int(np.ceil(side)) + 3
    region = padded_region(image, (first_column, first_row), (first_column + length, first_row + length))
    box = (left - first_column, top - first_row, left - first_column + side, top - first_row + side)
    return from_pillow(region.resize((size, size), Image.Resampling.BILINEAR, box=box, reducing_gap=3))
