import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from engine.png import from_pillow, to_pillow
from faces.align import Square
from faces.pose import Pose
from faces.preparation.options import PrepareChoice
from faces.preparation.quality import NearCopies, difference_hash, sharpness, verdict
from tests.faces.photos import photo

FACE = photo(3, side=120, width=120, height=120)[0]


def changed(image, change):
    return from_pillow(change(to_pillow(image)))


def apart(one, other):
    return (difference_hash(one) ^ difference_hash(other)).bit_count()


def test_sharpness_by_hand():
    # Vertical stripes of 0 and 200: every inner pixel's Laplacian is 400 or -400, the levels' variance 100^2.
    stripes = np.zeros((3, 6, 6), np.uint8)
    stripes[:, :, 1::2] = 200
    assert sharpness(stripes) == pytest.approx(400**2 / 100**2)
    assert sharpness(np.full((3, 6, 6), 70, np.uint8)) == 0


def test_blur_lowers_sharpness_step_by_step_and_contrast_leaves_it():
    sharp = [
        sharpness(changed(FACE, lambda image, radius=radius: image.filter(ImageFilter.GaussianBlur(radius))))
        for radius in (0, 0.7, 1.5, 3)
    ]
    assert sharp == sorted(sharp, reverse=True)
    assert sharp[-1] < PrepareChoice.sharpness < sharp[0]
    pale = (FACE * 0.4 + 90).astype(np.uint8)
    assert sharpness(pale) == pytest.approx(sharp[0], rel=0.1)


def test_the_hash_by_hand():
    ramp = np.tile(np.linspace(0, 255, 130).astype(np.uint8), (3, 130, 1))
    assert difference_hash(ramp) == 2**144 - 1  # everywhere the right one is lighter
    assert difference_hash(ramp[:, :, ::-1]) == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image.resize((80, 80), Image.Resampling.LANCZOS),
        lambda image: image.filter(ImageFilter.GaussianBlur(1)),
        lambda image: image.point(lambda level: level * 0.8 + 20),
    ],
)
def test_copies_are_near_and_other_faces_are_not(change):
    near = PrepareChoice.near_copy
    assert apart(FACE, changed(FACE, change)) <= near
    others = [photo(number, side=120, width=120, height=120)[0] for number in range(4, 12)]
    assert min(apart(FACE, other) for other in others) > near


@given(st.integers(0, 2**144 - 1), st.sets(st.integers(0, 143), max_size=30), st.integers(0, 30))
def test_near_copies_differ_in_at_most_so_many_bits(fingerprint, flipped, distance):
    copies = NearCopies(distance)
    other = fingerprint
    for bit in flipped:
        other ^= 1 << bit
    assert not copies.known("a", fingerprint)
    copies.keep("a", fingerprint)
    assert copies.known("a", other) == (len(flipped) <= distance)
    assert not copies.known("b", fingerprint)


def test_without_near_copies_even_the_same_is_kept():
    copies = NearCopies(-1)
    copies.keep("a", 5)
    assert not copies.known("a", 5)


CHOICE = PrepareChoice("photos", "out")
GOOD = {"square": Square(100, 100, 80), "pose": Pose(5.0, 0.1), "sharp": 0.05}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, "kept"),
        ({"square": Square(100, 100, 55)}, "too small"),
        ({"square": Square(100, 100, 56)}, "kept"),
        ({"square": Square(25, 100, 80)}, "cut off"),
        ({"pose": Pose(0.0, -0.4)}, "turned too far"),
        ({"pose": Pose(0.0, 0.4)}, "turned too far"),
        ({"pose": Pose(80.0, None)}, "kept"),
        ({"sharp": 0.014}, "too blurred"),
        ({"square": Square(0, 100, 30), "pose": Pose(0.0, 1.0), "sharp": 0.0}, "too small"),
        ({"square": Square(0, 100, 80), "pose": Pose(0.0, 1.0), "sharp": 0.0}, "cut off"),
        ({"pose": Pose(0.0, 1.0), "sharp": 0.0}, "turned too far"),
    ],
)
def test_the_first_reason_is_the_verdict(change, expected):
    assert verdict(CHOICE, width=200, height=200, **(GOOD | change)) == expected
