"""Face detection and pose estimation with the cascades of OpenCV 4."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from faces.align import Box, Square, crop_aligned, square_around_box
from faces.detection.detection import Detection
from faces.detection.opencv import load_cascade, load_opencv
from faces.pose import Pose

FRONTAL = "haarcascade_frontalface_alt2"
PROFILE = "haarcascade_profileface"

MIN_WINDOW = 24
"""Side in pixels of the smallest window of the cascades, which includes hairline and chin."""

LANDMARK_BOX_SIDE = 0.902
LANDMARK_BOX_SHIFT = 0.165
"""Side of the square around a face's landmarks, and how far its centre is below the window's, both in sides
of the cascade's window. Medians over half of the people of docs/preparation.md; the other half gives 0.906
and 0.167."""

MIN_WINDOWS = 4
"""Overlapping windows required for a detection; docs/preparation.md compares other values."""

ROLL_ANGLES = np.arange(-36.0, 37.0, 12.0)
"""Angles in degrees at which the frontal cascade is applied to estimate the roll."""

POSE_SIZE = 72
POSE_SCALE = 1.6
ROTATION_MARGIN = 1.5
"""The pose is estimated on POSE_SIZE pixels that cover POSE_SCALE times the window. The crop is
ROTATION_MARGIN (about sqrt 2) times larger, so that it can be rotated."""

MIN_ROLL = 3.0
"""Degrees; smaller estimates are below the method's own error and become 0."""

PROFILE_TURN = 0.5
"""`Pose.turn` of a face that only a profile cascade detects. With it about as many faces exceed 0.35 as by
their landmarks, though not always the same ones."""


def to_grayscale(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The luma of an RGB image: uint8 [3, H, W] to uint8 [H, W]."""
    cv2 = load_opencv()
    return cv2.cvtColor(np.ascontiguousarray(np.moveaxis(image, 0, -1)), cv2.COLOR_RGB2GRAY)


class CascadeDetector:
    """Detects frontal faces with a cascade (Viola and Jones 2001); the score is the number of windows.

    Misses faces turned sideways by more than about 45 degrees or tilted by more than about 30.

    Args:
        search_side: see `faces.detection.load_detector`.
        min_score: lowest number of windows; None for `MIN_WINDOWS`.

    Raises:
        UserError: the extra `photos` is not installed, or its OpenCV has no cascades.
    """

    def __init__(self, search_side: int = 1600, min_score: float | None = None) -> None:
        self._search_side = search_side
        # OpenCV's minNeighbors is one less than the windows required, and 0 would disable the grouping.
        self._min_neighbours = (MIN_WINDOWS if min_score is None else max(2, math.ceil(min_score))) - 1
        load_cascade(FRONTAL)

    def __call__(self, image: NDArray[np.uint8], min_width: float = 0.0) -> list[Detection]:
        """See `faces.detection.detection.Detector`."""
        cv2 = load_opencv()
        grayscale = to_grayscale(image)
        scale = min(1.0, self._search_side / max(grayscale.shape))
        if scale < 1:
            size = [max(1, round(length * scale)) for length in grayscale.shape[::-1]]
            grayscale = cv2.resize(grayscale, size, interpolation=cv2.INTER_AREA)
        min_side = max(MIN_WINDOW, int(min_width / LANDMARK_BOX_SIDE * scale))
        windows, counts = load_cascade(FRONTAL).detectMultiScale2(
            grayscale, scaleFactor=1.1, minNeighbors=self._min_neighbours, minSize=(min_side, min_side)
        )
        detections = [
            Detection(_landmark_box(np.asarray(window, float) / scale), float(count))
            for window, count in zip(windows, counts, strict=True)
        ]
        return sorted(detections, key=lambda detection: -detection.score)


def _landmark_box(window: NDArray[np.float64]) -> Box:
    left, top, side, _ = window
    x, y = left + side / 2, top + side * (0.5 + LANDMARK_BOX_SHIFT)
    half = side * LANDMARK_BOX_SIDE / 2
    return float(x - half), float(y - half), float(x + half), float(y + half)


def cascade_window(box: Box) -> Square:
    """The window of the cascade from which a detection's box was estimated."""
    face = square_around_box(box, 1 / LANDMARK_BOX_SIDE)
    return Square(face.x, face.y - LANDMARK_BOX_SHIFT * face.side, face.side)


class CascadePose:
    """Estimates the pose of a face without landmarks.

    Roll: the frontal cascade, which detects upright faces only, runs on the face rotated by `ROLL_ANGLES`.
    The estimate is the mean angle, weighted by the number of windows. Turn: compares the numbers of windows
    of the left profile, right profile and frontal cascades on the upright face. Both methods are this
    project's own; docs/preparation.md gives their errors.
    """

    def __call__(self, image: NDArray[np.uint8], box: Box) -> Pose:
        """Estimate the pose of the face in a box of an image, uint8 [3, H, W]."""
        window = cascade_window(box)
        # One crop from a possibly large photo serves all rotations.
        square = Square(window.x, window.y, window.side * POSE_SCALE * ROTATION_MARGIN)
        face_crop = crop_aligned(image, square, round(POSE_SIZE * ROTATION_MARGIN))
        centre = face_crop.shape[1] / 2

        def count_windows(name: str, angle: float, *, mirrored: bool = False) -> int:
            rotated = to_grayscale(
                crop_aligned(face_crop, Square(centre, centre, POSE_SIZE, angle), POSE_SIZE)
            )
            rotated = np.ascontiguousarray(rotated[:, ::-1]) if mirrored else rotated
            low, high = int(0.7 * POSE_SIZE / POSE_SCALE), int(1.4 * POSE_SIZE / POSE_SCALE)
            windows = load_cascade(name).detectMultiScale(
                rotated, scaleFactor=1.1, minNeighbors=0, minSize=(low, low), maxSize=(high, high)
            )
            return len(windows)

        counts = np.array([count_windows(FRONTAL, angle) for angle in ROLL_ANGLES], float)
        roll = float(counts @ ROLL_ANGLES / counts.sum()) if counts.any() else 0.0
        roll = roll if abs(roll) >= MIN_ROLL else 0.0
        # The profile cascade detects faces that look to the left of the image.
        left, right = count_windows(PROFILE, roll), count_windows(PROFILE, roll, mirrored=True)
        total = left + right + counts.max()
        return Pose(roll, PROFILE_TURN * (right - left) / total if total else None)
