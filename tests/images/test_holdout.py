import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from images.holdout import holdout_mask, split_keys


def fingerprints(images):
    digests = (hashlib.blake2b(str(image).encode(), digest_size=8).digest() for image in images)
    return np.array([int.from_bytes(digest, "big") for digest in digests], np.uint64)


@pytest.mark.parametrize(
    ("count", "low", "high"),
    [(10, 2, 5), (100, 20, 35), (1000, 200, 240), (4000, 200, 240), (10_000, 500, 570)],
)
def test_share_is_raised_for_small_sets(count, low, high):
    held_out = holdout_mask(fingerprints(range(count)), 0.05)
    assert held_out.shape == (count,)
    assert low <= held_out.sum() <= high


def test_large_share_is_not_changed():
    assert 2000 <= holdout_mask(fingerprints(range(5000)), 0.4).sum() <= 2150


def test_share_of_zero():
    assert not holdout_mask(fingerprints(range(100)), 0).any()


def test_split_does_not_depend_on_the_order():
    prints = fingerprints(range(500))
    order = np.random.default_rng(0).permutation(500)
    shuffled = holdout_mask(prints[order], 0.05)
    assert np.array_equal(shuffled, holdout_mask(prints, 0.05)[order])


def test_training_images_stay_when_the_folder_grows():
    before = holdout_mask(fingerprints(range(3000)), 0.05)
    after = holdout_mask(fingerprints(range(20_000)), 0.05)[:3000]
    assert not (after & ~before).any()


@given(st.lists(st.integers(0, 30), max_size=60), st.sampled_from([0.05, 0.2, 0.5]))
def test_equal_images_are_on_the_same_side(images, share):
    held_out = holdout_mask(fingerprints(images), share)
    sides = {}
    for image, side in zip(images, held_out, strict=True):
        assert sides.setdefault(image, side) == side
    distinct = len(set(images))
    assert sum(sides.values()) <= distinct / 2
    if distinct >= 5:
        assert sum(sides.values()) >= distinct // 5


def test_near_duplicates_are_on_one_side():
    prints = fingerprints(range(3000))
    groups = [[index, index + 1, index + 2] for index in range(0, 900, 3)]
    held_out = holdout_mask(split_keys(prints, groups), 0.05)
    assert all(len({*held_out[group]}) == 1 for group in groups)
    assert 200 <= held_out.sum() <= 260
    assert np.array_equal(split_keys(prints, []), prints)
