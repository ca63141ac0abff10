import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faces.drawn import Face, Person, Scene, draw_face
from faces.landmarks.point_set import load_point_set
from faces.pose import pose_from_landmarks, pose_from_points
from tests.faces.photos import photo

POINTS = load_point_set("drawn-29")


def test_pose_by_hand():
    level = pose_from_points([(10, 20), (30, 20)], [(20, 40), (20, 30)])
    assert (level.roll, level.turn) == (0, 0)
    # Eyes 20 apart; nose and mouth 4 and 8 to the right of the line between them.
    assert pose_from_points([(10, 20), (30, 20)], [(24, 30), (28, 40)]).turn == pytest.approx(6 / 20)
    assert pose_from_points([(0, 0), (10, 10)], []).roll == pytest.approx(45)  # clockwise
    assert pose_from_points([(0, 0), (10, 10)], []).turn is None
    same = pose_from_points([(5, 5), (5, 5)], [(1, 1)])
    assert (same.roll, same.turn) == (0, None)


@given(st.floats(-80, 80), st.floats(0.1, 50), st.floats(-100, 100), st.integers(0, 2**32))
def test_rotation_scale_and_shift_change_only_the_roll(angle, scale, shift, seed):
    face = np.array([(0, 0), (2, 0), (1, 1), (1, 2), (1, 3)])
    points = face + np.random.default_rng(seed).uniform(0, 1, (5, 2))
    turn = math.radians(angle)
    rotation = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    moved = points @ rotation * scale + shift
    before, after = pose_from_points(points[:2], points[2:]), pose_from_points(moved[:2], moved[2:])
    assert (after.roll - before.roll - angle + 180) % 360 - 180 == pytest.approx(0, abs=1e-6)
    assert after.turn == pytest.approx(before.turn, abs=1e-6)


@pytest.mark.parametrize("tilt", [-20, 15])
def test_roll_of_landmarks_is_the_tilt(tilt):
    upright, tilted = (pose_from_landmarks(photo(4, tilt=angle)[1], POINTS) for angle in (0, tilt))
    assert tilted.roll - upright.roll == pytest.approx(tilt)
    assert tilted.turn == pytest.approx(upright.turn)


def test_turn_of_drawn_faces():
    turns = []
    for turn in (-1.0, 0.0, 1.0):
        _, points = draw_face(Face(Person(), Scene(turn=turn)), 64)
        turns.append(pose_from_landmarks(points * 64, POINTS).turn)
    assert turns[0] < -0.05 < turns[1] < 0.05 < turns[2]
    assert turns[1] == pytest.approx(0, abs=0.01)
