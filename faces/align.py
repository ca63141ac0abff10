"""Squares around faces, turned as the faces are, and what is cut out by them.

A box is left, top, right, bottom in pixels of an image, (0, 0) its top left corner and its width and height
the bottom right one. Nothing here imports torch or OpenCV.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from engine.png import from_pillow, to_pillow
from faces.detection.detection import Box

_PROBES = 32
"""Places along each side of a square at which `Square.share_outside` looks."""


@dataclass(frozen=True)
class Square:
    """A square in an image.

    Attributes:
        x: of its centre, in pixels of the image.
        y: of its centre.
        side: in pixels of the image.
        angle: degrees by which it is turned clockwise, as seen; 0 is upright.
    """

    x: float
    y: float
    side: float
    angle: float = 0.0

    @property
    def axes(self) -> NDArray[np.float64]:
        """Unit vectors to the right and down along its sides, float64 [2, 2], in the image's x and y."""
        cosine, sine = math.cos(math.radians(self.angle)), math.sin(math.radians(self.angle))
        return np.array([[cosine, sine], [-sine, cosine]])

    def to_fractions(self, points: ArrayLike) -> NDArray[np.float64]:
        """Pixels of the image, [..., 2], as fractions of the sides, (0, 0) its top left corner."""
        return (np.asarray(points, float) - (self.x, self.y)) @ self.axes.T / self.side + 0.5

    def to_pixels(self, fractions: ArrayLike) -> NDArray[np.float64]:
        """Fractions of the sides, [..., 2], as pixels of the image."""
        return (np.asarray(fractions, float) - 0.5) @ self.axes * self.side + (self.x, self.y)

    def share_outside(self, width: int, height: int) -> float:
        """The share of its area that lies outside an image of this size, to about a thirtieth."""
        along = (np.arange(_PROBES) + 0.5) / _PROBES
        probes = self.to_pixels(np.stack(np.meshgrid(along, along), axis=-1))
        inside = (probes >= 0).all(-1) & (probes < (width, height)).all(-1)
        return float(1 - inside.mean())


def box_in_middle(image: NDArray[np.uint8], side: float) -> Box:
    """The box of a square in the middle of an image [3, H, W], of that side in pixels."""
    _, height, width = image.shape
    half = side / 2
    return width / 2 - half, height / 2 - half, width / 2 + half, height / 2 + half


def iou(one: ArrayLike, other: ArrayLike) -> NDArray[np.float64]:
    """Intersection over union of boxes [..., 4], 0 to 1, float64 [...]; shapes are broadcast."""
    one, other = np.asarray(one, float), np.asarray(other, float)
    low, high = np.maximum(one[..., :2], other[..., :2]), np.minimum(one[..., 2:], other[..., 2:])
    both = (high - low).clip(0).prod(-1)
    areas = [(boxes[..., 2:] - boxes[..., :2]).prod(-1) for boxes in (one, other)]
    return both / (areas[0] + areas[1] - both)


def square_around(box: ArrayLike, enlarge: float) -> Square:
    """The upright square with a box's centre and, times `enlarge`, its longer side."""
    left, top, right, bottom = np.asarray(box, float)
    return Square((left + right) / 2, (top + bottom) / 2, max(right - left, bottom - top, 1.0) * enlarge)


def square_around_points(points: ArrayLike, angle: float, enlarge: float) -> Square:
    """The smallest square turned by `angle` degrees that holds points [K, 2], times `enlarge`."""
    axes = Square(0.0, 0.0, 1.0, angle).axes
    along = np.asarray(points, float) @ axes.T
    low, high = along.min(0), along.max(0)
    x, y = (low + high) / 2 @ axes
    return Square(float(x), float(y), max(float((high - low).max()), 1.0) * enlarge, angle)


def region(image: NDArray[np.uint8], low: Sequence[int], high: Sequence[int]) -> Image.Image:
    """The pixels of an image, uint8 [3, H, W], from x and y `low` on to before `high`.

    What lies outside the image repeats its edge.
    """
    columns = np.arange(low[0], high[0]).clip(0, image.shape[2] - 1)
    rows = np.arange(low[1], high[1]).clip(0, image.shape[1] - 1)
    return to_pillow(image[:, rows[:, None], columns])


def cut(image: NDArray[np.uint8], square: Square, size: int) -> NDArray[np.uint8]:
    """Cut a square out of an image, set it upright and scale it.

    The image is sampled at steps of at most one pixel (bicubic) and the samples averaged, so that nothing is
    skipped. What lies outside the image repeats its edge.

    Args:
        image: uint8 [3, H, W].
        square: may reach beyond the image.
        size: side of the result in pixels.

    Returns:
        uint8 [3, size, size].
    """
    corners = square.to_pixels([(0, 0), (1, 0), (0, 1), (1, 1)])
    # Bicubic sampling looks two pixels further.
    low = np.floor(corners.min(0)).astype(int) - 2
    high = np.ceil(corners.max(0)).astype(int) + 2
    finer = math.ceil(square.side / size)
    step = square.side / (size * finer)
    (right, down), start = square.axes * step, corners[0] - low
    sampled = region(image, low, high).transform(
        (size * finer, size * finer),
        Image.Transform.AFFINE,
        (right[0], down[0], start[0], right[1], down[1], start[1]),
        Image.Resampling.BICUBIC,
    )
    return from_pillow(sampled.reduce(finer))
