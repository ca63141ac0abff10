"""Points drawn on images."""

import numpy as np

from faces.landmarks.pictures import TRUE_COLOUR, draw_points


def test_unmarked_points_are_not_drawn():
    image = np.zeros((3, 40, 40), np.uint8)
    points = [[10, 10], [30, 12], [20, 30]]
    unmarked = [*points[:1], [np.nan, np.nan], *points[1:]]
    picture = draw_points(image, [(unmarked, TRUE_COLOUR)])
    assert np.array_equal(picture, draw_points(image, [(points, TRUE_COLOUR)]))
    assert picture.any()
    assert not draw_points(image, [(unmarked[1:2], TRUE_COLOUR)]).any()
