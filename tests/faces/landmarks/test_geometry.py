import numpy as np
import pytest

from faces.landmarks.geometry import bounding_boxes, crop_square, squares_around, to_fractions, to_pixels


def test_boxes_and_squares_by_hand():
    points = [[[1, 2], [5, 3], [3, 8]], [[4, 4], [4, 4], [4, 4]]]
    boxes = bounding_boxes(points)
    assert boxes.tolist() == [[1, 2, 5, 8], [4, 4, 4, 4]]
    assert bounding_boxes([[1, 2], [np.nan, np.nan], [3, 8]]).tolist() == [1, 2, 3, 8]
    assert squares_around(boxes, 1.5).tolist() == [[3, 5, 9], [4, 4, 1.5]]


def test_fractions_and_pixels_by_hand():
    fractions = to_fractions([[[3, 5], [-1.5, 9.5]]], [[3, 5, 9]])
    assert fractions.tolist() == [[[0.5, 0.5], [0, 1]]]
    assert to_pixels(fractions, [[3, 5, 9]]).tolist() == [[[3, 5], [-1.5, 9.5]]]


def test_crop_of_the_same_scale_copies_the_pixels():
    image = np.random.default_rng(0).integers(0, 256, (3, 20, 30), np.uint8)
    assert np.array_equal(crop_square(image, (15, 10, 8), 8), image[:, 6:14, 11:19])


@pytest.mark.parametrize(("size", "side"), [(16, 16), (16, 50), (40, 16)])
def test_crop_and_fractions_agree(size, side):
    image = np.zeros((3, 60, 80), np.uint8)
    image[:, 22:26, 40:44] = 255  # centre 42, 24
    square = (45.5, 27.25, side)
    result = crop_square(image, square, size).astype(float)[0]
    positions = (np.stack(np.meshgrid(np.arange(size), np.arange(size))) + 0.5) / size
    centre = (positions * result).sum((1, 2)) / result.sum()
    assert centre == pytest.approx(to_fractions([[[42, 24]]], [square])[0, 0], abs=0.4 / size)
