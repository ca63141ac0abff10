"""The pose of a face from points on it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from faces.landmarks.point_set import PointSet


@dataclass(frozen=True)
class Pose:
    """The pose of a face.

    Attributes:
        roll: clockwise tilt in degrees, as seen.
        turn: how far the face looks to the right of the image (negative: left): mean distance of points on
            the face's mirror line from the line midway between the eyes, in distances between the eyes. 0 is
            frontal; at 0.5 the nose tip is below an eye. None if unknown.
    """

    roll: float
    turn: float | None


def pose_from_points(eyes: ArrayLike, midline: ArrayLike) -> Pose:
    """Pose from the centres of the left and right eye, [2, 2], and points on the mirror line, [M, 2].

    M may be 0. Eyes that coincide give a roll of 0 and no turn.
    """
    left, right = np.asarray(eyes, float)
    midline = np.asarray(midline, float).reshape(-1, 2)
    between = right - left
    distance = math.hypot(*between)
    if distance == 0:
        return Pose(0.0, None)
    roll = math.degrees(math.atan2(between[1], between[0]))
    if not len(midline):
        return Pose(roll, None)
    offsets = (midline - (left + right) / 2) @ between / distance**2
    return Pose(roll, float(offsets.mean()))


def pose_from_landmarks(landmarks: NDArray[Any], point_set: PointSet) -> Pose:
    """Pose from the landmarks of a point set, [K, 2] in pixels."""
    midline = point_set.mirror == np.arange(point_set.count)
    return pose_from_points(point_set.eye_centres(landmarks), landmarks[midline])
