"""Square, rotated crops around faces.

A box is left, top, right, bottom in pixels of an image. (0, 0) is the image's top left corner, and its width
and height are the bottom right one. Nothing here imports torch or OpenCV.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from engine.png import from_pillow, to_pillow

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels of an image."""

_GRID_SIDE = 32
"""Sampling points along each side of a square in `Square.fraction_outside`."""


@dataclass(frozen=True)
class Square:
    """A square in an image.

    Attributes:
        x: of the centre, in pixels of the image.
        y: of the centre.
        side: in pixels of the image.
        angle: clockwise rotation in degrees, as seen; 0 is upright.
    """

    x: float
    y: float
    side: float
    angle: float = 0.0

    @property
    def axes(self) -> NDArray[np.float64]:
        """Unit vectors to the right and down along the sides, float64 [2, 2], in the image's x and y."""
        cosine, sine = math.cos(math.radians(self.angle)), math.sin(math.radians(self.angle))
        return np.array([[cosine, sine], [-sine, cosine]])

    def to_fractions(self, points: ArrayLike) -> NDArray[np.float64]:
        """Convert pixels of the image, [..., 2], to fractions of the sides, (0, 0) the top left corner."""
        return (np.asarray(points, float) - (self.x, self.y)) @ self.axes.T / self.side + 0.5

    def to_pixels(self, fractions: ArrayLike) -> NDArray[np.float64]:
        """Convert fractions of the sides, [..., 2], to pixels of the image."""
        return (np.asarray(fractions, float) - 0.5) @ self.axes * self.side + (self.x, self.y)

    def fraction_outside(self, width: int, height: int) -> float:
        """Fraction of the area that is outside an image of this size, to about 1/30."""
        grid = (np.arange(_GRID_SIDE) + 0.5) / _GRID_SIDE
        points = self.to_pixels(np.stack(np.meshgrid(grid, grid), axis=-1))
        inside = (points >= 0).all(-1) & (points < (width, height)).all(-1)
        return float(1 - inside.mean())


def central_box(image: NDArray[np.uint8], side: float) -> Box:
    """The square box at the centre of an image [3, H, W] whose side is given in pixels."""
    _, height, width = image.shape
    half = side / 2
    return width / 2 - half, height / 2 - half, width / 2 + half, height / 2 + half


def iou(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    """Intersection over union of boxes [..., 4], 0 to 1, float64 [...]; shapes are broadcast."""
    first, second = np.asarray(first, float), np.asarray(second, float)
    low, high = np.maximum(first[..., :2], second[..., :2]), np.minimum(first[..., 2:], second[..., 2:])
    intersection = (high - low).clip(0).prod(-1)
    areas = [(boxes[..., 2:] - boxes[..., :2]).prod(-1) for boxes in (first, second)]
    return intersection / (areas[0] + areas[1] - intersection)


def square_around_box(box: ArrayLike, enlarge: float) -> Square:
    """The upright square with a box's centre and `enlarge` times its longer side."""
    left, top, right, bottom = np.asarray(box, float)
    return Square((left + right) / 2, (top + bottom) / 2, max(right - left, bottom - top, 1.0) * enlarge)


def square_around_points(points: ArrayLike, angle: float, enlarge: float) -> Square:
    """The smallest square, rotated by `angle` degrees, that contains points [K, 2], then enlarged."""
    axes = Square(0.0, 0.0, 1.0, angle).axes
    rotated = np.asarray(points, float) @ axes.T
    low, high = rotated.min(0), rotated.max(0)
    x, y = (low + high) / 2 @ axes
    return Square(float(x), float(y), max(float((high - low).max()), 1.0) * enlarge, angle)


def padded_region(image: NDArray[np.uint8], low: Sequence[int], high: Sequence[int]) -> Image.Image:
    """Pixels x, y from `low` (inclusive) to `high` (exclusive) of an image, uint8 [3, H, W].

    Beyond the image its edge is repeated.
    """
    columns = np.arange(low[0], high[0]).clip(0, image.shape[2] - 1)
    rows = np.arange(low[1], high[1]).clip(0, image.shape[1] - 1)
    return to_pillow(image[:, rows[:, None], columns])


def crop_aligned(image: NDArray[np.uint8], square: Square, size: int) -> NDArray[np.uint8]:
    """Crop a square from an image, rotated upright and resized.

    Samples the image bicubically in steps of at most one pixel and averages the samples, so that no pixel is
    skipped. Beyond the image its edge is repeated.

    Args:
        image: uint8 [3, H, W].
        square: may extend beyond the image.
        size: side of the result in pixels.

    Returns:
        uint8 [3, size, size].
    """
    corners = square.to_pixels([(0, 0), (1, 0), (0, 1), (1, 1)])
    # Bicubic interpolation reads two pixels further.
    low = np.floor(corners.min(0)).astype(int) - 2
    high = np.ceil(corners.max(0)).astype(int) + 2
    samples_per_pixel = math.ceil(square.side / size)
    step = square.side / (size * samples_per_pixel)
    (right, down), start = square.axes * step, corners[0] - low
    sampled = padded_region(image, low, high).transform(
        (size * samples_per_pixel, size * samples_per_pixel),
        Image.Transform.AFFINE,
        (right[0], down[0], start[0], right[1], down[1], start[1]),
        Image.Resampling.BICUBIC,
    )
    return from_pillow(sampled.reduce(samples_per_pixel))
