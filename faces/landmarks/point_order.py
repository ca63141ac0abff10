"""Check by geometry whether five points are in the order of faces-5. Nothing here imports torch."""

from __future__ import annotations

import numpy as np

from engine.errors import UserError
from faces.landmarks.annotations import Annotations
from faces.landmarks.point_set import PointSet, load_point_set


def check_order(annotations: Annotations, points: PointSet) -> tuple[str, ...]:
    """Check the order of five points on upright faces; other point sets are not checked.

    Returns:
        A line about the faces whose eyes are below the mouth, if there are any.

    Raises:
        UserError: the order is another one on most faces.
    """
    if points != load_point_set("faces-5"):
        return ()
    left_eye, right_eye, nose, left_mouth, right_mouth = np.moveaxis(annotations.points, 1, 0)
    eyes, mouth = (left_eye + right_eye)[:, 1] / 2, (left_mouth + right_mouth)[:, 1] / 2
    # Each is negative if the problem applies, and NaN if a point is not marked.
    distances = {
        "the eyes are below the mouth": mouth - eyes,
        "the nose is not between the eyes and the mouth": np.minimum(nose[:, 1] - eyes, mouth - nose[:, 1]),
        "the left eye is to the right of the right eye": (right_eye - left_eye)[:, 0],
        "the left corner of the mouth is to the right of the right one": (right_mouth - left_mouth)[:, 0],
    }
    for problem, distance in distances.items():
        known = distance[~np.isnan(distance)]
        if len(known) and np.median(known) < 0:
            raise UserError(
                f"{annotations.folder}: the points are not in the order of faces-5 "
                f"({', '.join(points.points)}; left as in the image): on most faces {problem}; reorder them, "
                "or describe them in a JSON file and pass it with --points"
            )
    problem, distance = next(iter(distances.items()))
    rows = np.flatnonzero(distance < 0)
    return tuple(
        f"on {len(rows):,} of {len(distance):,} faces {problem}; the first is {annotations.files[row]}, "
        f"{annotations.locations[row]}"
        for row in rows[:1]
    )
