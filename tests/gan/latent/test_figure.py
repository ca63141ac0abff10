import numpy as np
import pytest

from gan.latent.arithmetic import Shift, parse_expression
from gan.latent.figure import arithmetic_figure
from images.tiles import number_tiles


def noise(count: int, side: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 250, (count, 3, side, side), dtype=np.uint8)


def find(picture: np.ndarray, image: np.ndarray) -> tuple[int, int]:
    """Row and column of the only occurrence of `image` in `picture`."""
    height, width = image.shape[1:]
    corners = picture[0, : -height + 1 or None, : -width + 1 or None] == image[0, 0, 0]
    places = [
        (row, column)
        for row, column in np.argwhere(corners)
        if np.array_equal(picture[:, row : row + height, column : column + width], image)
    ]
    assert len(places) == 1
    return places[0]


@pytest.mark.parametrize("side", [32, 96])
def test_layout(side):
    terms = parse_expression("3,17,42 - 5,8,9,10 + 0.5*11", 64)
    exemplars = [noise(len(term.tiles), side, index) for index, term in enumerate(terms)]
    means, neighbours = noise(3, side, 10), noise(9, side, 11)
    picture = arithmetic_figure(terms, exemplars, means, neighbours)
    assert picture.dtype == np.uint8

    mean_places = [find(picture, mean) for mean in means]
    result_places = [find(picture, image) for image in neighbours]
    assert len({row for row, _ in mean_places}) == 1
    assert max(row for row, _ in result_places) == mean_places[0][0]
    assert [column for _, column in mean_places] == sorted(column for _, column in mean_places)
    # 3 x 3, in order, with the result in the centre.
    assert sorted(result_places) == result_places
    assert len({row for row, _ in result_places}) == len({column for _, column in result_places}) == 3

    for term, images, (mean_row, mean_column) in zip(terms, exemplars, mean_places, strict=True):
        for image in number_tiles(images, term.tiles):
            row, column = find(picture, image)
            assert row + side < mean_row
            assert abs(column - mean_column) < 2 * side

    def ink(left: int, right: int) -> np.ndarray:
        between = picture[:, mean_places[0][0] : mean_places[0][0] + side, left:right]
        return (between < 128).any(axis=0)

    assert not ink(0, mean_places[0][1]).any()
    minus = ink(mean_places[0][1] + side, mean_places[1][1])
    plus = ink(mean_places[1][1] + side, mean_places[2][1])
    assert minus.any()
    assert plus.sum() > minus.sum()
    assert ink(mean_places[2][1] + side, min(column for _, column in result_places)).any()


def test_leading_sign_and_weight_widen_the_figure():
    exemplars, means, neighbours = [noise(1, 32, 0)], noise(1, 32, 1), noise(9, 32, 2)
    widths = [
        arithmetic_figure(parse_expression(text, 64), exemplars, means, neighbours).shape[2]
        for text in ("3", "-3", "-.25*3")
    ]
    assert widths == sorted(set(widths))


def test_plus_and_minus_differ():
    exemplars, means, neighbours = [noise(1, 32, 0), noise(1, 32, 1)], noise(2, 32, 2), noise(9, 32, 3)
    heights = {}
    for sign in "+-":
        picture = arithmetic_figure(parse_expression(f"3 {sign} 5", 64), exemplars, means, neighbours)
        (top, left), (_, right) = find(picture, means[0]), find(picture, means[1])
        between = picture[:, top : top + 32, left + 32 : right]
        heights[sign] = (between < 128).any(axis=(0, 2)).sum()
    assert heights["+"] > 3 * heights["-"] > 0


def test_directions_are_written_by_name():
    terms = parse_expression("3 - 5", 64)
    images, means, neighbours = [noise(1, 96, 0), noise(1, 96, 1)], noise(2, 96, 10), noise(9, 96, 11)
    plain = arithmetic_figure(terms, images, means, neighbours)
    moved = arithmetic_figure((*terms, Shift("smile", 1.5)), images, means, neighbours)
    assert moved.shape[1] == plain.shape[1]
    width = moved.shape[2] - plain.shape[2]
    assert 60 < width < 300
    # The name is left of the equals sign, above which nothing else has ink.
    left = find(moved, neighbours[0])[1] - width - 96 // 2
    assert (moved[:, -96:, left : left + width] < 100).any()
