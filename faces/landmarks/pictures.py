"""Landmarks drawn on faces. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw

from engine.png import from_pillow, to_pillow

TRUE, PREDICTED, BOX = (80, 255, 80), (255, 80, 60), (90, 170, 255)
"""Colours: RGB."""


def draw_points(
    image: NDArray[np.uint8],
    points: Iterable[tuple[ArrayLike, tuple[int, int, int]]],
    boxes: ArrayLike = (),
) -> NDArray[np.uint8]:
    """A copy of an image with points on it.

    Args:
        image: uint8 [3, H, W].
        points: sets of points, [K, 2] in pixels, each with its colour; later ones lie over earlier ones.
        boxes: [N, 4]; each is drawn as a frame.
    """
    canvas = to_pillow(image)
    pen = ImageDraw.Draw(canvas)
    width = max(1, round(max(image.shape[1:]) / 400))
    for box in np.asarray(boxes, float).reshape(-1, 4):
        pen.rectangle([*box], outline=BOX, width=width)
    for places, colour in points:
        places = np.asarray(places, float)
        extent = float(np.ptp(places, axis=0).max()) if len(places) else 0.0
        radius = max(0.8, extent / 90)
        for x, y in places:
            pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=colour)
    return from_pillow(canvas)


def enlarged(image: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """An image, uint8 [3, H, W], with so many times the pixels in both directions."""
    _, height, width = image.shape
    size = (width * factor, height * factor)
    return from_pillow(to_pillow(image).resize(size, Image.Resampling.BICUBIC))
