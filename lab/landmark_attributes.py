"""Pose and expression of faces from their landmarks. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import UserError
from faces.landmarks.point_set import PointSet

MOUTH_CORNERS = (("mouth_left", "mouth_right"), ("mouth_outer_0", "mouth_outer_6"))
LIPS = (("mouth_top", "mouth_bottom"), ("mouth_inner_2", "mouth_inner_6"))
"""Middle of the upper and of the lower lip, or of the opening between them."""
EYELIDS = (
    ((("eye_left_top",), ("eye_left_bottom",)), (("eye_right_top",), ("eye_right_bottom",))),
    (
        (("eye_left_1", "eye_left_2"), ("eye_left_4", "eye_left_5")),
        (("eye_right_1", "eye_right_2"), ("eye_right_4", "eye_right_5")),
    ),
)
"""Points on the upper and on the lower lid of both eyes. All names are those of drawn-29 and faces-68."""


def names_of(point_set: PointSet) -> tuple[str, ...]:
    """The attributes that a point set shows, of yaw, tilt, smile, mouth_wide, mouth_open and eyes_open.

    Raises:
        UserError: the points show neither yaw nor a mouth.
    """
    corners, lips, lids = (_present(point_set, names) for names in (MOUTH_CORNERS, LIPS, EYELIDS))
    has_midline = (point_set.mirror == np.arange(point_set.count)).any()
    names = [
        *(["yaw"] if has_midline else []),
        "tilt",
        *(["smile"] if corners and lips else []),
        *(["mouth_wide"] if corners else []),
        *(["mouth_open"] if lips else []),
        *(["eyes_open"] if lids else []),
    ]
    if not (has_midline or lips or corners):
        raise UserError(f"the point set {point_set.name} shows neither yaw nor a mouth: use another network")
    return tuple(names)


def landmark_attributes(points: NDArray[Any], point_set: PointSet) -> dict[str, NDArray[np.float64]]:
    """Measure the attributes of `names_of`.

    All but tilt are measured with the eyes level, in distances between the centres of the eyes: `yaw`, how
    far points on the face's mirror line are to the right of the middle between the eyes (as
    `faces.pose.Pose.turn`); `smile`, how far the corners of the mouth are above the middle of the lips;
    `mouth_wide`, `mouth_open` and `eyes_open`, the distance of the corners, of the lips and of the eyelids.
    `tilt` is in degrees, clockwise.

    Args:
        points: [N, K, 2] in pixels.
        point_set: with K points.

    Returns:
        float64 [N] for each attribute; 0 where the eyes coincide.
    """
    eyes = point_set.eye_centres(points)
    between = eyes[:, 1] - eyes[:, 0]
    distance = np.linalg.norm(between, axis=1)
    safe = np.where(distance > 0, distance, np.inf)
    right = between / safe[:, None]
    down = np.stack([-right[:, 1], right[:, 0]], 1)
    centred = points - eyes.mean(1)[:, None]
    # x to the right and y downwards, with the eyes level and at a distance of 1.
    level = (
        np.stack([centred @ right[..., None], centred @ down[..., None]], -1)[:, :, 0] / safe[:, None, None]
    )

    def height(names: Sequence[str]) -> NDArray[np.float64]:
        return level[:, point_set.indices(names), 1].mean(1)

    values = {"tilt": np.degrees(np.arctan2(between[:, 1], between[:, 0]))}
    midline = point_set.mirror == np.arange(point_set.count)
    if midline.any():
        values["yaw"] = level[:, midline, 0].mean(1)
    if (corners := _present(point_set, MOUTH_CORNERS)) is not None:
        ends = points[:, point_set.indices(corners)]
        values["mouth_wide"] = np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1) / safe
    if (lips := _present(point_set, LIPS)) is not None:
        upper, lower = height(lips[:1]), height(lips[1:])
        values["mouth_open"] = lower - upper
        if corners is not None:
            values["smile"] = (upper + lower) / 2 - height(corners)
    if (lids := _present(point_set, EYELIDS)) is not None:
        values["eyes_open"] = np.mean([height(lower) - height(upper) for upper, lower in lids], axis=0)
    return values


def _present(point_set: PointSet, choices: Sequence[Any]) -> Any:
    """The first choice whose points the set has; None if there is none."""

    def names(choice: Any) -> list[str]:
        return [choice] if isinstance(choice, str) else [name for part in choice for name in names(part)]

    return next((choice for choice in choices if {*names(choice)} <= {*point_set.points}), None)
