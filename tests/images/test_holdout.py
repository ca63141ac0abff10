import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from images.holdout import holdout_mask


def fingerprints(images):
    digests = (hashlib.blake2b(str(image).encode(), digest_size=8).digest() for image in images)
    return np.array([int.from_bytes(digest, "big") for digest in digests], np.uint64)


@pytest.mark.parametrize(
    ("count", "least", "most"),
    [(10, 2, 5), (100, 20, 35), (1000, 200, 240), (4000, 200, 240), (10_000, 500, 570)],
)
def test_five_in_a_hundred_but_two_hundred_or_a_fifth_of_few(count, least, most):
    held = holdout_mask(fingerprints(range(count)), 0.05)
    assert held.shape == (count,)
    assert least <= held.sum() <= most


def test_a_larger_share_is_kept_for_few_images_too():
    assert 2000 <= holdout_mask(fingerprints(range(5000)), 0.4).sum() <= 2150


def test_none_where_none_is_asked_for():
    assert not holdout_mask(fingerprints(range(100)), 0).any()


def test_an_image_is_on_its_side_wherever_it_stands_in_the_list():
    prints = fingerprints(range(500))
    order = np.random.default_rng(0).permutation(500)
    shuffled = holdout_mask(prints[order], 0.05)
    assert np.array_equal(shuffled, holdout_mask(prints, 0.05)[order])


def test_what_was_trained_on_stays_so_when_the_folder_grows():
    few, many = holdout_mask(fingerprints(range(3000)), 0.05), holdout_mask(fingerprints(range(20_000)), 0.05)
    became_held = many[:3000] & ~few
    assert became_held.sum() == 0


@given(st.lists(st.integers(0, 30), max_size=60), st.sampled_from([0.05, 0.2, 0.5]))
def test_equal_images_are_on_one_side_and_something_is_left_to_train_on(images, share):
    held = holdout_mask(fingerprints(images), share)
    sides = {}
    for image, side in zip(images, held, strict=True):
        assert sides.setdefault(image, side) == side
    different = len(set(images))
    assert sum(sides.values()) <= different / 2
    if different >= 5:
        assert sum(sides.values()) >= different // 5
