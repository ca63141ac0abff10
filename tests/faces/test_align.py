import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faces.align import Square, central_box, crop_aligned, iou, square_around_box, square_around_points
from tests.faces.photos import EYES, photo

ANGLES = st.floats(-180, 180)
PLACES = st.floats(-50, 150)


def test_iou_by_hand():
    box = [0, 0, 4, 4]
    assert iou(box, box) == 1
    assert iou(box, [2, 0, 6, 4]) == pytest.approx(8 / 24)
    assert iou(box, [4, 0, 8, 4]) == 0
    np.testing.assert_allclose(iou(box, [[0, 0, 2, 2], [9, 9, 10, 10]]), [4 / 16, 0])


def test_central_box():
    assert central_box(np.zeros((3, 10, 20), np.uint8), 6) == (7, 2, 13, 8)


def test_square_around_box_uses_the_longer_side():
    assert square_around_box([10, 20, 30, 60], 1.2) == Square(20, 40, 48)


@given(PLACES, PLACES, st.floats(1, 80), ANGLES, PLACES, PLACES)
def test_fractions_and_pixels_are_inverse(x, y, side, angle, across, down):
    square = Square(x, y, side, angle)
    np.testing.assert_allclose(
        square.to_pixels(square.to_fractions([across, down])), [across, down], atol=1e-6
    )
    np.testing.assert_allclose(square.to_fractions([x, y]), [0.5, 0.5], atol=1e-9)


def test_angle_is_clockwise():
    right_end = Square(0, 0, 2, angle=30).to_pixels([1, 0.5])
    np.testing.assert_allclose(right_end, [math.cos(math.pi / 6), math.sin(math.pi / 6)])  # y goes down


@given(ANGLES, st.integers(0, 2**32))
def test_square_around_points_is_tight(angle, seed):
    points = np.random.default_rng(seed).uniform(-40, 90, (9, 2))
    inside = square_around_points(points, angle, 1.0).to_fractions(points)
    assert inside.min() >= -1e-9
    assert inside.max() <= 1 + 1e-9
    assert np.ptp(inside, axis=0).max() == pytest.approx(1)
    # Enlarging keeps the centre.
    wide = square_around_points(points, angle, 2.0).to_fractions(points)
    np.testing.assert_allclose(wide, (inside - 0.5) / 2 + 0.5, atol=1e-9)


@pytest.mark.parametrize(
    ("square", "fraction"),
    [(Square(50, 50, 20), 0), (Square(0, 50, 20), 0.5), (Square(0, 0, 20), 0.75), (Square(500, 0, 20), 1)],
)
def test_fraction_outside_by_hand(square, fraction):
    assert square.fraction_outside(100, 100) == pytest.approx(fraction, abs=0.04)


def test_fraction_outside_of_a_rotated_square():
    # A square standing on its corner at the border is half outside as well.
    assert Square(0, 50, 20, 45).fraction_outside(100, 100) == pytest.approx(0.5, abs=0.04)


@given(st.integers(0, 2**32))
def test_square_of_whole_pixels_is_copied(seed):
    image = np.random.default_rng(seed).integers(0, 256, (3, 12, 15), dtype=np.uint8)
    np.testing.assert_array_equal(crop_aligned(image, Square(7, 6, 8), 8), image[:, 2:10, 3:11])


@pytest.mark.parametrize(("angle", "turns"), [(90, 1), (180, 2), (-90, 3)])
def test_quarter_turns(angle, turns):
    image = np.random.default_rng(0).integers(0, 256, (3, 16, 16), dtype=np.uint8)
    turned = np.rot90(image, turns, (1, 2)).astype(int)
    assert np.abs(crop_aligned(image, Square(8, 8, 16, angle), 16) - turned).max() <= 1


def test_reduction_averages_all_pixels():
    image = np.zeros((3, 64, 64), np.uint8)
    image[:, ::2] = 255  # every other row: skipping rows would give 0 or 255
    assert np.abs(crop_aligned(image, Square(32, 32, 64), 8).astype(int) - 127).max() <= 1


def test_edge_is_repeated_outside():
    image = np.zeros((3, 20, 20), np.uint8)
    image[0], image[1, :, 0] = 50, 200
    crop = crop_aligned(image, Square(-10, 10, 10), 10)
    assert (crop[0] == 50).all()
    assert (crop[1] == 200).all()


@pytest.mark.parametrize("tilt", [-25, 0, 12])
def test_tilted_face_is_aligned_by_its_landmarks(tilt):
    image, points = photo(3, tilt=tilt)
    upright, _ = photo(3)
    between = points[EYES[1]] - points[EYES[0]]
    roll = math.degrees(math.atan2(between[1], between[0]))
    square = square_around_points(points, roll, 1.2)
    eyes = square.to_fractions(points[list(EYES)])
    assert eyes[0, 1] == pytest.approx(eyes[1, 1], abs=1e-6)
    straight = square_around_points(photo(3)[1], roll - tilt, 1.2)
    aligned, expected = crop_aligned(image, square, 64), crop_aligned(upright, straight, 64)
    assert np.abs(aligned.astype(int) - expected).mean() < 4
