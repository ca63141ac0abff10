import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faces.drawn import Face, Moment, Person, draw_face
from faces.pose import pose_of_landmarks, pose_of_points
from tests.faces.photos import DrawnPoints, photo


def test_poses_by_hand():
    level = pose_of_points([(10, 20), (30, 20)], [(20, 40), (20, 30)])
    assert (level.roll, level.turn) == (0, 0)
    # Eyes 20 apart; nose and mouth 4 and 8 to the right of the line between them.
    assert pose_of_points([(10, 20), (30, 20)], [(24, 30), (28, 40)]).turn == pytest.approx(6 / 20)
    assert pose_of_points([(0, 0), (10, 10)], []).roll == pytest.approx(45)  # the right one lower: clockwise
    assert pose_of_points([(0, 0), (10, 10)], []).turn is None
    same = pose_of_points([(5, 5), (5, 5)], [(1, 1)])
    assert (same.roll, same.turn) == (0, None)


@given(st.floats(-80, 80), st.floats(0.1, 50), st.floats(-100, 100), st.integers(0, 2**32))
def test_turning_scaling_and_shifting_a_face_change_its_roll_alone(angle, scale, shift, seed):
    face = np.array([(0, 0), (2, 0), (1, 1), (1, 2), (1, 3)])
    points = face + np.random.default_rng(seed).uniform(0, 1, (5, 2))
    turn = math.radians(angle)
    rotation = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    moved = points @ rotation * scale + shift
    before, after = pose_of_points(points[:2], points[2:]), pose_of_points(moved[:2], moved[2:])
    assert (after.roll - before.roll - angle + 180) % 360 - 180 == pytest.approx(0, abs=1e-6)
    assert after.turn == pytest.approx(before.turn, abs=1e-6)


@pytest.mark.parametrize("tilt", [-20, 15])
def test_the_tilt_of_a_photo_is_the_roll_of_its_landmarks(tilt):
    upright, tilted = (pose_of_landmarks(photo(4, tilt=angle)[1], DrawnPoints()) for angle in (0, tilt))
    assert tilted.roll - upright.roll == pytest.approx(tilt)
    assert tilted.turn == pytest.approx(upright.turn)


def test_the_turn_grows_with_the_drawn_faces_turn():
    turns = []
    for turn in (-1.0, 0.0, 1.0):
        _, points = draw_face(Face(Person(), Moment(turn=turn)), 64)
        turns.append(pose_of_landmarks(points * 64, DrawnPoints()).turn)
    assert turns[0] < -0.05 < turns[1] < 0.05 < turns[2]
    assert turns[1] == pytest.approx(0, abs=0.01)
