"""Images with landmarks drawn on them. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw

from engine.png import from_pillow, to_pillow

TRUE_COLOUR, PREDICTED_COLOUR, BOX_COLOUR = (80, 255, 80), (255, 80, 60), (90, 170, 255)
"""RGB."""


def draw_points(
    image: NDArray[np.uint8],
    points: Iterable[tuple[ArrayLike, tuple[int, int, int]]],
    boxes: ArrayLike = (),
) -> NDArray[np.uint8]:
    """Draw points and boxes on a copy of an image.

    Args:
        image: uint8 [3, H, W].
        points: sets of points, [K, 2] in pixels, each with its colour; later sets are drawn on top, and
            NaN points are not drawn.
        boxes: [N, 4] in pixels.
    """
    picture = to_pillow(image)
    draw = ImageDraw.Draw(picture)
    width = max(1, round(max(image.shape[1:]) / 400))
    for box in np.asarray(boxes, float).reshape(-1, 4):
        draw.rectangle([*box], outline=BOX_COLOUR, width=width)
    for coordinates, colour in points:
        coordinates = np.asarray(coordinates, float)
        coordinates = coordinates[~np.isnan(coordinates).any(-1)]
        extent = float(np.ptp(coordinates, axis=0).max()) if len(coordinates) else 0.0
        radius = max(0.8, extent / 90)
        for x, y in coordinates:
            draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=colour)
    return from_pillow(picture)


def enlarge(image: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Upscale an image, uint8 [3, H, W], by an integer factor."""
    _, height, width = image.shape
    size = (width * factor, height * factor)
    return from_pillow(to_pillow(image).resize(size, Image.Resampling.BICUBIC))
