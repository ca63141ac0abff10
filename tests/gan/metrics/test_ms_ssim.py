"""MS-SSIM against values computed by hand and against the published definition, written out in NumPy."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view

from engine.errors import UserError
from gan.metrics.ms_ssim import _random_pairs, mean_ms_ssim, ms_ssim

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def flat(*levels: int, side: int = 32) -> np.ndarray:
    return np.stack([np.full((3, side, side), level, np.uint8) for level in levels])


def noise(count: int, side: int = 32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 3, side, side), np.uint8)


def published_ms_ssim(x: np.ndarray, y: np.ndarray, scales: int) -> float:
    """MS-SSIM of two grey images by its definition (Wang et al. 2003), float64 [S, S]."""
    place = np.arange(-5, 6)
    window = np.exp(-(place[:, None] ** 2 + place**2) / (2 * 1.5**2))
    window /= window.sum()
    product = 1.0
    for scale, weight in enumerate(np.array(WEIGHTS[:scales]) / sum(WEIGHTS[:scales])):
        a, b = (sliding_window_view(image, (11, 11)) for image in (x, y))
        mean_a, mean_b = ((window * part).sum((2, 3)) for part in (a, b))
        deviation_a, deviation_b = a - mean_a[..., None, None], b - mean_b[..., None, None]
        variance = (window * (deviation_a**2 + deviation_b**2)).sum((2, 3))
        covariance = (window * deviation_a * deviation_b).sum((2, 3))
        similarity = (2 * covariance + 58.5225) / (variance + 58.5225)
        if scale == scales - 1:
            similarity *= (2 * mean_a * mean_b + 6.5025) / (mean_a**2 + mean_b**2 + 6.5025)
        product *= max(similarity.mean(), 0) ** weight
        x, y = (image.reshape(len(image) // 2, 2, -1, 2).mean((1, 3)) for image in (x, y))
    return product


@pytest.mark.parametrize(("side", "scales"), [(16, 1), (32, 2), (64, 3), (96, 4), (192, 5)])
def test_ms_ssim_matches_the_published_definition(side: int, scales: int):
    random = np.random.default_rng(side)
    smooth = np.add.outer(np.sin(np.arange(side) / 9), np.cos(np.arange(side) / 14)) * 50 + 128
    x, y = (smooth + shade + random.normal(0, 12, (side, side)) for shade in (0, 30))
    (found,) = ms_ssim(*(torch.from_numpy(image).float()[None, None] for image in (x, y)))
    expected = published_ms_ssim(x, y, scales)
    assert 0.2 < expected < 0.95
    assert float(found) == pytest.approx(expected, rel=1e-4)


def test_flat_images_differ_in_luminance_alone():
    # Only the coarser of two scales has a luminance term. Its weight is 0.2856 / (0.0448 + 0.2856).
    levels = (50, 100, 200)
    luminance = [(2 * a * b + 2.55**2) / (a**2 + b**2 + 2.55**2) for a, b in combinations(levels, 2)]
    expected = np.mean(np.array(luminance) ** (0.2856 / 0.3304))
    assert mean_ms_ssim(flat(*levels)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("side", [11, 32, 45, 112])
def test_equal_images_have_similarity_1_at_any_size(side: int):
    assert mean_ms_ssim(noise(1, side).repeat(3, axis=0)) == pytest.approx(1, abs=1e-5)


def test_noise_has_low_similarity():
    assert mean_ms_ssim(noise(5)) < 0.1


def test_result_depends_on_the_seed_and_not_on_the_batch_size(monkeypatch: pytest.MonkeyPatch):
    images = noise(12)
    first = mean_ms_ssim(images, pairs=10, seed=3)
    assert mean_ms_ssim(images, pairs=10, seed=3) == first != mean_ms_ssim(images, pairs=10, seed=4)
    monkeypatch.setattr("gan.metrics.ms_ssim.BATCH_SIZE", 3)
    assert mean_ms_ssim(images, pairs=10, seed=3) == pytest.approx(first, rel=1e-5)


@given(count=st.integers(2, 40), pairs=st.integers(1, 1000), seed=st.integers(0, 99))
def test_pairs_are_distinct(count: int, pairs: int, seed: int):
    left, right = _random_pairs(count, pairs, np.random.default_rng(seed))
    found = set(zip(left.tolist(), right.tolist(), strict=True))
    assert len(left) == len(found) == min(pairs, count * (count - 1) // 2)
    assert all(0 <= a < b < count for a, b in found)


def test_too_few_or_too_small_images_are_a_user_error():
    with pytest.raises(UserError, match="at least 2 images"):
        mean_ms_ssim(noise(1))
    with pytest.raises(UserError, match="at least 11 pixels"):
        mean_ms_ssim(noise(2, side=8))
