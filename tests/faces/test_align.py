import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faces.align import Square, box_in_middle, cut, iou, square_around, square_around_points
from tests.faces.photos import EYES, photo

ANGLES = st.floats(-180, 180)
PLACES = st.floats(-50, 150)


def test_iou_by_hand():
    box = [0, 0, 4, 4]
    assert iou(box, box) == 1
    assert iou(box, [2, 0, 6, 4]) == pytest.approx(8 / 24)
    assert iou(box, [4, 0, 8, 4]) == 0
    np.testing.assert_allclose(iou(box, [[0, 0, 2, 2], [9, 9, 10, 10]]), [4 / 16, 0])


def test_a_box_in_the_middle():
    assert box_in_middle(np.zeros((3, 10, 20), np.uint8), 6) == (7, 2, 13, 8)


def test_a_square_around_a_box_takes_its_longer_side():
    assert square_around([10, 20, 30, 60], 1.2) == Square(20, 40, 48)


@given(PLACES, PLACES, st.floats(1, 80), ANGLES, PLACES, PLACES)
def test_fractions_and_pixels_are_the_same_places(x, y, side, angle, across, down):
    square = Square(x, y, side, angle)
    np.testing.assert_allclose(
        square.to_pixels(square.to_fractions([across, down])), [across, down], atol=1e-6
    )
    np.testing.assert_allclose(square.to_fractions([x, y]), [0.5, 0.5], atol=1e-9)


def test_clockwise_is_as_seen():
    right_end = Square(0, 0, 2, angle=30).to_pixels([1, 0.5])
    np.testing.assert_allclose(right_end, [math.cos(math.pi / 6), math.sin(math.pi / 6)])  # y goes down


@given(ANGLES, st.integers(0, 2**32))
def test_the_square_around_points_holds_them_and_touches_them(angle, seed):
    points = np.random.default_rng(seed).uniform(-40, 90, (9, 2))
    inside = square_around_points(points, angle, 1.0).to_fractions(points)
    assert inside.min() >= -1e-9
    assert inside.max() <= 1 + 1e-9
    assert np.ptp(inside, axis=0).max() == pytest.approx(1)
    # Enlarged, it keeps its middle.
    wide = square_around_points(points, angle, 2.0).to_fractions(points)
    np.testing.assert_allclose(wide, (inside - 0.5) / 2 + 0.5, atol=1e-9)


@pytest.mark.parametrize(
    ("square", "share"),
    [(Square(50, 50, 20), 0), (Square(0, 50, 20), 0.5), (Square(0, 0, 20), 0.75), (Square(500, 0, 20), 1)],
)
def test_the_share_outside_by_hand(square, share):
    assert square.share_outside(100, 100) == pytest.approx(share, abs=0.04)


def test_the_share_outside_of_a_turned_square():
    # Of a square on its corner at the border's middle, half is outside as well.
    assert Square(0, 50, 20, 45).share_outside(100, 100) == pytest.approx(0.5, abs=0.04)


@given(st.integers(0, 2**32))
def test_a_square_of_whole_pixels_is_cut_as_it_is(seed):
    image = np.random.default_rng(seed).integers(0, 256, (3, 12, 15), dtype=np.uint8)
    np.testing.assert_array_equal(cut(image, Square(7, 6, 8), 8), image[:, 2:10, 3:11])


@pytest.mark.parametrize(("angle", "turns"), [(90, 1), (180, 2), (-90, 3)])
def test_a_quarter_turn_moves_every_pixel_to_its_place(angle, turns):
    image = np.random.default_rng(0).integers(0, 256, (3, 16, 16), dtype=np.uint8)
    turned = np.rot90(image, turns, (1, 2)).astype(int)
    assert np.abs(cut(image, Square(8, 8, 16, angle), 16) - turned).max() <= 1


def test_making_smaller_averages_over_every_pixel():
    image = np.zeros((3, 64, 64), np.uint8)
    image[:, ::2] = 255  # every other row: what skips rows sees only one kind
    assert np.abs(cut(image, Square(32, 32, 64), 8).astype(int) - 127).max() <= 1


def test_what_lies_outside_repeats_the_edge():
    image = np.zeros((3, 20, 20), np.uint8)
    image[0], image[1, :, 0] = 50, 200
    crop = cut(image, Square(-10, 10, 10), 10)
    assert (crop[0] == 50).all()
    assert (crop[1] == 200).all()


@pytest.mark.parametrize("tilt", [-25, 0, 12])
def test_by_its_exact_landmarks_a_tilted_face_is_cut_as_if_it_had_been_upright(tilt):
    image, points = photo(3, tilt=tilt)
    upright, _ = photo(3)
    between = points[EYES[1]] - points[EYES[0]]
    roll = math.degrees(math.atan2(between[1], between[0]))
    square = square_around_points(points, roll, 1.2)
    eyes = square.to_fractions(points[list(EYES)])
    assert eyes[0, 1] == pytest.approx(eyes[1, 1], abs=1e-6)
    straight = square_around_points(photo(3)[1], roll - tilt, 1.2)
    difference = np.abs(cut(image, square, 64).astype(int) - cut(upright, straight, 64)).mean()
    assert difference < 4
