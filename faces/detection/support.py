"""How many cascades agree that a detection is a face: most ties, throats and coats have little support."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from faces.align import Box, Square, crop_aligned
from faces.detection.cascades import FRONTAL, cascade_window, to_grayscale
from faces.detection.opencv import load_cascade

FRONTAL_CASCADES = (FRONTAL, "haarcascade_frontalface_alt", "haarcascade_frontalface_default")
EYE, SMILE = "haarcascade_eye", "haarcascade_smile"

FACE_SIZE, FACE_SCALE = 72, 1.6
"""The frontal cascades search FACE_SIZE pixels, which cover FACE_SCALE times the window."""
FACE_SIDES = (31, 63)
"""Smallest and largest side of a face there, 0.7 and 1.4 times the window's."""

PARTS_SIZE = 120
"""Pixels that cover the window, in which eyes and mouth are searched."""
EYES, EYE_OVERLAP, EYE_SIDES = (18, 74), 8, (18, 48)
"""Rows of the eyes, pixels by which either half extends beyond the middle, and sides of an eye."""
MOUTH, MOUTH_SIDES, MAX_SMILE = 66, ((30, 15), (90, 45)), 30
"""First row of the mouth, its sizes, and the most windows that count: a smile has far more."""


def count_support(image: NDArray[np.uint8], box: Box, roll: float) -> int:
    """The number of windows in which cascades detect a face, or the eyes and mouth that it should have.

    It is the sum of the windows of three frontal cascades at about the place and size of the detection, of
    those of the eye cascade in the upper half, and of half of those of the smile cascade in the lower. The
    sum is this project's own; the cascades are those of OpenCV.

    Args:
        image: uint8 [3, H, W].
        box: of a detection, as `faces.detection.Detection` has it.
        roll: clockwise tilt of the face in degrees, by which the image is rotated upright.
    """
    window = cascade_window(box)

    def upright(scale: float, size: int) -> NDArray[np.uint8]:
        return to_grayscale(crop_aligned(image, Square(window.x, window.y, scale * window.side, roll), size))

    face, parts = upright(FACE_SCALE, FACE_SIZE), upright(1.0, PARTS_SIZE)
    low, high = FACE_SIDES
    support = sum(_count(name, face, (low, low), (high, high)) for name in FRONTAL_CASCADES)
    eyes, middle = parts[slice(*EYES)], PARTS_SIZE // 2
    low, high = EYE_SIDES
    for half in (eyes[:, : middle + EYE_OVERLAP], eyes[:, middle - EYE_OVERLAP :]):
        support += _count(EYE, half, (low, low), (high, high))
    return support + min(_count(SMILE, parts[MOUTH:], *MOUTH_SIDES), MAX_SMILE) // 2


def _count(name: str, pixels: NDArray[np.uint8], low: tuple[int, int], high: tuple[int, int]) -> int:
    """The number of windows, before they are grouped, between two sizes."""
    windows = load_cascade(name).detectMultiScale(
        np.ascontiguousarray(pixels), scaleFactor=1.1, minNeighbors=0, minSize=low, maxSize=high
    )
    return len(windows)
