"""The order of five points, checked by geometry."""

from pathlib import Path

import numpy as np
import pytest

from engine.errors import UserError
from faces.landmarks.annotations import Annotations
from faces.landmarks.point_order import check_order
from faces.landmarks.point_set import load_point_set

FACE = np.array([[38.0, 42], [58, 42], [48, 60], [38, 68], [58, 68]])
POINT_SET = load_point_set("faces-5")


def annotate(*faces: np.ndarray) -> Annotations:
    names = [f"{number}.jpg" for number in range(len(faces))]
    return Annotations(Path("photos"), names, np.stack(faces), names, [f"row {name}" for name in names])


def test_order_of_most_detectors_is_silent():
    unmarked = FACE.copy()
    unmarked[[0, 4]] = np.nan
    tilted = FACE @ np.array([[0.8, 0.6], [-0.6, 0.8]])
    assert check_order(annotate(FACE, unmarked, tilted), POINT_SET) == ()
    assert check_order(annotate(unmarked * np.nan), POINT_SET) == ()


@pytest.mark.parametrize(
    ("order", "problem"),
    [
        ([3, 4, 2, 0, 1], "the eyes are below the mouth"),
        ([2, 0, 1, 3, 4], "the nose is not between the eyes and the mouth"),
        ([1, 0, 2, 4, 3], "the left eye is to the right of the right eye"),
        ([0, 1, 2, 4, 3], "the left corner of the mouth is to the right of the right one"),
    ],
)
def test_another_order_on_most_faces_is_one_line(order, problem):
    unmarked = np.full((5, 2), np.nan)
    annotations = annotate(FACE, FACE[order], FACE[order], unmarked, unmarked)
    with pytest.raises(UserError, match=f"^photos: .* faces-5 .*: on most faces {problem}; reorder") as error:
        check_order(annotations, POINT_SET)
    assert "\n" not in str(error.value)


def test_few_faces_upside_down_are_reported():
    annotations = annotate(FACE, FACE, 100 - FACE)
    assert check_order(annotations, POINT_SET) == (
        "on 1 of 3 faces the eyes are below the mouth; the first is 2.jpg, row 2.jpg",
    )


def test_other_point_sets_are_not_checked():
    assert check_order(annotate(np.zeros((9, 2))), load_point_set("cats-9")) == ()
