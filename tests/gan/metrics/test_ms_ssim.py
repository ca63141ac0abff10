"""Diversity: the mean similarity of pairs, against numbers by hand."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import UserError
from gan.metrics.ms_ssim import _pairs, _scales, mean_ms_ssim


def flat(*levels: int, side: int = 32) -> np.ndarray:
    return np.stack([np.full((3, side, side), level, np.uint8) for level in levels])


def noise(count: int, side: int = 32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 3, side, side), np.uint8)


def test_flat_images_are_as_alike_as_their_levels():
    # Without contrast what is left is how bright they are, at the coarser of two scales, whose weight is
    # 0.2856 of 0.0448 + 0.2856; C1 is (0.01 * 255)^2.
    levels = (50, 100, 200)
    brightness = [(2 * a * b + 2.55**2) / (a**2 + b**2 + 2.55**2) for a, b in combinations(levels, 2)]
    expected = np.mean(np.array(brightness) ** (0.2856 / 0.3304))
    assert mean_ms_ssim(flat(*levels)) == pytest.approx(expected, rel=1e-4)


def test_one_image_repeated_is_wholly_alike_and_noise_is_not():
    assert mean_ms_ssim(noise(1).repeat(5, axis=0)) == pytest.approx(1, abs=1e-5)
    assert mean_ms_ssim(noise(5)) < 0.1


@pytest.mark.parametrize("side", [32, 48, 96, 112])
def test_any_size_can_be_measured(side: int):
    assert mean_ms_ssim(noise(1, side).repeat(3, axis=0)) == pytest.approx(1, abs=1e-5)


def test_more_scales_are_taken_of_larger_images():
    assert [_scales(side) for side in (11, 32, 43, 44, 98, 99, 175, 176, 256)] == [2, 2, 2, 3, 3, 4, 4, 5, 5]


def test_it_repeats_for_a_seed_and_takes_no_notice_of_batches(monkeypatch: pytest.MonkeyPatch):
    images = noise(12)
    first = mean_ms_ssim(images, pairs=10, seed=3)
    assert mean_ms_ssim(images, pairs=10, seed=3) == first != mean_ms_ssim(images, pairs=10, seed=4)
    monkeypatch.setattr("gan.metrics.ms_ssim.BATCH", 3)
    assert mean_ms_ssim(images, pairs=10, seed=3) == pytest.approx(first, rel=1e-5)


@given(count=st.integers(2, 40), wanted=st.integers(1, 1000), seed=st.integers(0, 99))
def test_pairs_are_different_ones_of_different_images(count: int, wanted: int, seed: int):
    left, right = _pairs(count, wanted, np.random.default_rng(seed))
    pairs = set(zip(left.tolist(), right.tolist(), strict=True))
    assert len(left) == len(pairs) == min(wanted, count * (count - 1) // 2)
    assert all(0 <= a < b < count for a, b in pairs)


def test_what_cannot_be_compared_is_one_line():
    with pytest.raises(UserError, match="at least 2 images"):
        mean_ms_ssim(noise(1))
    with pytest.raises(UserError, match="at least 11 pixels"):
        mean_ms_ssim(noise(2, side=8))
