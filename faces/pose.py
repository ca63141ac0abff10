"""How a face is turned, from points on it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Pose:
    """How a face is turned.

    Attributes:
        roll: degrees by which it is tilted clockwise, as seen.
        turn: how far it looks to the picture's right (negative: left): the mean distance of points on the
            face's mirror line from the line midway between the eyes, in distances between the eyes. 0 is
            frontal; at 0.5 the nose's tip stands below an eye. None where it is not known.
    """

    roll: float
    turn: float | None


class Points(Protocol):
    """What is known of the landmarks a predictor gives, by their order."""

    @property
    def mirror(self) -> NDArray[np.int64]:
        """int64 [K]: the number of each point's twin in the mirror image; its own on the mirror line."""

    def eye_centres(self, points: NDArray[Any]) -> NDArray[np.float64]:
        """The middles of the left and the right eye as the picture shows them: of [K, 2] float64 [2, 2]."""


class Predictor(Protocol):
    """Tells where the landmarks of faces are; `faces.landmarks.predictor.load_predictor` gives one."""

    @property
    def point_set(self) -> Points:
        """What its landmarks are."""

    def points(self, image: NDArray[np.uint8], boxes: ArrayLike) -> NDArray[np.float32]:
        """The landmarks of faces in an image [3, H, W]: of boxes [N, 4] float32 [N, K, 2], x and y in pixels.

        A box stands around the landmarks, as a detector's does (`faces.detection.detection.Found`).
        """


def pose_of_points(eyes: ArrayLike, middle: ArrayLike) -> Pose:
    """The pose by the middles of the left and right eye, [2, 2], and points on the mirror line, [M, 2].

    M may be 0. Eyes in one place give a roll of 0 and no turn.
    """
    left, right = np.asarray(eyes, float)
    middle = np.asarray(middle, float).reshape(-1, 2)
    between = right - left
    distance = math.hypot(*between)
    if distance == 0:
        return Pose(0.0, None)
    roll = math.degrees(math.atan2(between[1], between[0]))
    if not len(middle):
        return Pose(roll, None)
    beside = (middle - (left + right) / 2) @ between / distance**2
    return Pose(roll, float(beside.mean()))


def pose_of_landmarks(landmarks: NDArray[Any], known: Points) -> Pose:
    """The pose by a predictor's landmarks, [K, 2] in pixels."""
    alone = known.mirror == np.arange(len(known.mirror))
    return pose_of_points(known.eye_centres(landmarks), landmarks[alone])
