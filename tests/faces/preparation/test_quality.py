import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ImageFilter

from engine.png import from_pillow, to_pillow
from faces.align import Square
from faces.pose import Pose
from faces.preparation.options import PrepareArguments
from faces.preparation.quality import NearDuplicates, rejection_reason, sharpness
from tests.faces.photos import photo

FACE = photo(3, side=120, width=120, height=120)[0]


def changed(image, change):
    return from_pillow(change(to_pillow(image)))


def test_sharpness_by_hand():
    # Vertical stripes of 0 and 200: the Laplacian of inner pixels is 400 or -400, the variance 100^2.
    stripes = np.zeros((3, 6, 6), np.uint8)
    stripes[:, :, 1::2] = 200
    assert sharpness(stripes) == pytest.approx(400**2 / 100**2)
    assert sharpness(np.full((3, 6, 6), 70, np.uint8)) == 0


def test_sharpness_falls_with_blur_but_not_with_contrast():
    sharp = [
        sharpness(changed(FACE, lambda image, radius=radius: image.filter(ImageFilter.GaussianBlur(radius))))
        for radius in (0, 0.7, 1.5, 3)
    ]
    assert sharp == sorted(sharp, reverse=True)
    assert sharp[-1] < PrepareArguments.sharpness < sharp[0]
    pale = (FACE * 0.4 + 90).astype(np.uint8)
    assert sharpness(pale) == pytest.approx(sharp[0], rel=0.1)


@given(st.integers(0, 2**144 - 1), st.sets(st.integers(0, 143), max_size=30), st.integers(0, 30))
def test_near_duplicates_differ_in_at_most_distance_bits(perceptual_hash, flipped, distance):
    duplicates = NearDuplicates(distance)
    other = perceptual_hash
    for bit in flipped:
        other ^= 1 << bit
    assert not duplicates.contains("a", perceptual_hash)
    duplicates.add("a", perceptual_hash)
    assert duplicates.contains("a", other) == (len(flipped) <= distance)
    assert not duplicates.contains("b", perceptual_hash)


ARGUMENTS = PrepareArguments("photos", "out")
ACCEPTED = {"square": Square(100, 100, 80), "pose": Pose(5.0, 0.1), "sharpness": 0.05}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, None),
        ({"square": Square(100, 100, 55)}, "too small"),
        ({"square": Square(100, 100, 56)}, None),
        ({"square": Square(25, 100, 80)}, "cut off"),
        ({"pose": Pose(0.0, -0.4)}, "turned too far"),
        ({"pose": Pose(0.0, 0.4)}, "turned too far"),
        ({"pose": Pose(80.0, None)}, None),
        ({"sharpness": 0.014}, "too blurred"),
        ({"square": Square(0, 100, 30), "pose": Pose(0.0, 1.0), "sharpness": 0.0}, "too small"),
        ({"square": Square(0, 100, 80), "pose": Pose(0.0, 1.0), "sharpness": 0.0}, "cut off"),
        ({"pose": Pose(0.0, 1.0), "sharpness": 0.0}, "turned too far"),
        ({"support": 23}, None),
        ({"support": 22, "square": Square(0, 100, 30)}, "not a face"),
        ({"support": 68, "rotated": True}, "not a face"),
        ({"support": 69, "rotated": True}, None),
    ],
)
def test_first_rejection_reason(change, expected):
    assert rejection_reason(ARGUMENTS, width=200, height=200, **(ACCEPTED | change)) == expected
