"""Faces, and how they are turned, by the cascades of boosted classifiers that come with OpenCV 4."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from faces.align import Square, cut, square_around
from faces.detection.detection import Box, Found
from faces.detection.opencv import cascade, opencv
from faces.pose import Pose

FRONTAL = "haarcascade_frontalface_alt2"
PROFILE = "haarcascade_profileface"

WINDOW = 24
"""Side in pixels of the smallest face the cascades know, hairline and chin included."""

LANDMARK_SIDE = 0.902
LANDMARK_SHIFT = 0.165
"""The square around a face's landmarks, seen from the cascade's window: its side, and how much lower its
centre lies, in sides of the window. Medians over half of the people of docs/preparation.md; on the other half
they are 0.906 and 0.167."""

AGREEING = 4
"""Windows that must agree on a face; docs/preparation.md has what more and fewer give."""

ANGLES = np.arange(-36.0, 37.0, 12.0)
"""Degrees by which a face is turned to find its roll."""

CANVAS = 72
VIEW = 1.6
ROOM = 1.5
"""A face's pose is looked for in CANVAS pixels, VIEW times as wide as its window; ROOM times as much, about
the square root of two, is cut out so that it can be turned."""

LEVEL = 3.0
"""Degrees; a roll that seems smaller is no larger than the estimate's own error, and taken for none."""

TURN = 0.5
"""`Pose.turn` of a face of which only a profile is seen: with it about as many faces go beyond 0.35 as do by
their landmarks, though not always the same ones."""


def grey(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The luma of an image: of uint8 [3, H, W] uint8 [H, W]."""
    cv2 = opencv()
    return cv2.cvtColor(np.ascontiguousarray(np.moveaxis(image, 0, -1)), cv2.COLOR_RGB2GRAY)


class CascadeDetector:
    """Frontal faces by a cascade (Viola and Jones 2001); the score is the number of windows that agree.

    Faces turned sideways by more than about 45 degrees, or tilted by more than about 30, are not found.

    Args:
        search_side: see `faces.detection.load.load_detector`.
        least_score: likewise; `AGREEING` if None.

    Raises:
        UserError: the extra `photos` is not installed, or its OpenCV has no cascades.
    """

    def __init__(self, search_side: int = 1600, least_score: float | None = None) -> None:
        self._search_side = search_side
        # OpenCV wants to hear of the most windows that are not enough; 0 would leave them ungrouped.
        self._too_few = (AGREEING if least_score is None else max(2, math.ceil(least_score))) - 1
        cascade(FRONTAL)

    def __call__(self, image: NDArray[np.uint8], smallest: float = 0.0) -> list[Found]:
        """See `faces.detection.detection.Detector`."""
        cv2 = opencv()
        levels = grey(image)
        scale = min(1.0, self._search_side / max(levels.shape))
        if scale < 1:
            size = [max(1, round(length * scale)) for length in levels.shape[::-1]]
            levels = cv2.resize(levels, size, interpolation=cv2.INTER_AREA)
        least = max(WINDOW, int(smallest / LANDMARK_SIDE * scale))
        windows, agreeing = cascade(FRONTAL).detectMultiScale2(
            levels, scaleFactor=1.1, minNeighbors=self._too_few, minSize=(least, least)
        )
        found = [
            Found(_landmark_box(np.asarray(window, float) / scale), float(count))
            for window, count in zip(windows, agreeing, strict=True)
        ]
        return sorted(found, key=lambda face: -face.score)


def _landmark_box(window: NDArray[np.float64]) -> Box:
    left, top, side, _ = window
    x, y = left + side / 2, top + side * (0.5 + LANDMARK_SHIFT)
    half = side * LANDMARK_SIDE / 2
    return float(x - half), float(y - half), float(x + half), float(y + half)


class CascadePose:
    """How a face is turned, where nothing tells its landmarks.

    Roll: the frontal cascade, which knows upright faces only, looks at the face turned by several angles; the
    mean of these, weighted by the windows that it takes for a face, is the estimate. Turn: the windows of the
    two profiles and of the frontal face are counted on the face set upright. Both are this project's own;
    docs/preparation.md gives their errors.
    """

    def __call__(self, image: NDArray[np.uint8], box: Box) -> Pose:
        """The pose of the face in a box of an image, uint8 [3, H, W]."""
        face = square_around(box, 1 / LANDMARK_SIDE)
        x, y = face.x, face.y - LANDMARK_SHIFT * face.side
        # Cut once from what may be a large photo, with room to be turned in.
        small = cut(image, Square(x, y, face.side * VIEW * ROOM), round(CANVAS * ROOM))
        middle = small.shape[1] / 2

        def windows(name: str, angle: float, *, mirrored: bool = False) -> int:
            levels = grey(cut(small, Square(middle, middle, CANVAS, angle), CANVAS))
            levels = np.ascontiguousarray(levels[:, ::-1]) if mirrored else levels
            least, most = int(0.7 * CANVAS / VIEW), int(1.4 * CANVAS / VIEW)
            seen = cascade(name).detectMultiScale(
                levels, scaleFactor=1.1, minNeighbors=0, minSize=(least, least), maxSize=(most, most)
            )
            return len(seen)

        counts = np.array([windows(FRONTAL, angle) for angle in ANGLES], float)
        roll = float(counts @ ANGLES / counts.sum()) if counts.any() else 0.0
        roll = roll if abs(roll) >= LEVEL else 0.0
        # A profile cascade knows faces that look to the picture's left.
        left, right = windows(PROFILE, roll), windows(PROFILE, roll, mirrored=True)
        seen = left + right + counts.max()
        return Pose(roll, TURN * (right - left) / seen if seen else None)
