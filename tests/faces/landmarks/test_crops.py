import numpy as np
import pytest

from faces.landmarks.crops import boxes_of, cut, squares_of, to_fractions, to_pixels


def test_boxes_and_squares_by_hand():
    points = [[[1, 2], [5, 3], [3, 8]], [[4, 4], [4, 4], [4, 4]]]
    boxes = boxes_of(points)
    assert boxes.tolist() == [[1, 2, 5, 8], [4, 4, 4, 4]]
    assert squares_of(boxes, 1.5).tolist() == [[3, 5, 9], [4, 4, 1.5]]


def test_fractions_and_pixels_by_hand():
    fractions = to_fractions([[[3, 5], [-1.5, 9.5]]], [[3, 5, 9]])
    assert fractions.tolist() == [[[0.5, 0.5], [0, 1]]]
    assert to_pixels(fractions, [[3, 5, 9]]).tolist() == [[[3, 5], [-1.5, 9.5]]]


def test_a_cut_of_the_same_scale_is_the_pixels_themselves():
    image = np.random.default_rng(0).integers(0, 256, (3, 20, 30), np.uint8)
    assert np.array_equal(cut(image, (15, 10, 8), 8), image[:, 6:14, 11:19])


def test_outside_the_image_its_edge_is_repeated():
    image = np.zeros((3, 10, 10), np.uint8)
    image[0, :, -1] = 200
    beyond = cut(image, (20, 5, 8), 8)
    assert (beyond[0] == 200).all()
    assert (beyond[1:] == 0).all()


@pytest.mark.parametrize(("size", "side"), [(16, 16), (16, 50), (40, 16)])
def test_a_spot_lands_where_its_fraction_says(size, side):
    image = np.zeros((3, 60, 80), np.uint8)
    image[:, 22:26, 40:44] = 255  # centre 42, 24
    square = (45.5, 27.25, side)
    result = cut(image, square, size).astype(float)[0]
    places = (np.stack(np.meshgrid(np.arange(size), np.arange(size))) + 0.5) / size
    centre = (places * result).sum((1, 2)) / result.sum()
    assert centre == pytest.approx(to_fractions([[[42, 24]]], [square])[0, 0], abs=0.4 / size)
