"""The sliced Wasserstein distance: its pyramid, its levels, and known values."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gan.metrics import swd as wasserstein
from gan.metrics.swd import laplacian_pyramid, sliced_wasserstein


def noise(count: int, side: int, seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).normal(128, 40, (count, 3, side, side))
    return values.round().clip(0, 255).astype(np.uint8)


def blurred(images: np.ndarray) -> np.ndarray:
    return np.mean([np.roll(images, shift, axis=3) for shift in (-1, 0, 1)], axis=0).astype(np.uint8)


@given(levels=st.integers(1, 4), seed=st.integers(0, 99))
def test_a_pyramid_adds_up_to_the_images(levels: int, seed: int):
    images = torch.from_numpy(noise(2, 32, seed)).float()
    *details, total = laplacian_pyramid(images, levels)
    assert [level.shape[-1] for level in (*details, total)] == [32 >> level for level in range(levels)]
    for detail in reversed(details):
        total = detail + wasserstein._double(total)
    torch.testing.assert_close(total, images)


def test_doubling_blurs_a_pixel():
    image = torch.zeros(1, 3, 8, 8)
    image[:, :, 3, 4] = 1
    parts = torch.tensor([1.0, 4, 6, 4, 1]) / 8
    expected = torch.zeros(16, 16)
    expected[4:9, 6:11] = parts[:, None] * parts
    torch.testing.assert_close(wasserstein._double(image), expected.expand(1, 3, 16, 16))


def test_flat_images_have_detail_only_in_the_last_level():
    *details, last = laplacian_pyramid(torch.full((1, 3, 32, 32), 0.5), 3)
    for detail in details:
        assert detail.abs().max() < 1e-6
    torch.testing.assert_close(last, torch.full((1, 3, 8, 8), 0.5))


@pytest.mark.parametrize(
    ("side", "levels"), [(16, [16]), (48, [48, 24]), (80, [80, 40, 20]), (96, [96, 48, 24])]
)
def test_levels_have_at_least_16_pixels(side: int, levels: list[int]):
    images = noise(2, side, 0)
    assert list(sliced_wasserstein(images, images)) == levels


def test_distance_of_equal_sets_is_0_and_of_similar_sets_is_less_than_of_blurred_ones():
    images = noise(100, 16, 0)
    assert sliced_wasserstein(images, images) == {16: 0}
    like, unlike = (sliced_wasserstein(images, other)[16] for other in (noise(100, 16, 1), blurred(images)))
    assert 0 < 1.5 * like < unlike


def test_the_distance_of_flat_images_from_noise():
    # Of noise every projection of normalised patches is normal with variance 1. Flat grey images, whose
    # level is normal, leave a normal distribution too, with the sum of the direction's values as
    # deviation s, which over the directions is normal itself. Two such lie |1 - s| sqrt(2 / pi) apart,
    # and the mean of |1 - s| over s is 0.535.
    levels = np.random.default_rng(2).normal(128, 40, (300, 1, 1, 1)).round().clip(0, 255).astype(np.uint8)
    flat = np.broadcast_to(levels, (300, 3, 16, 16))
    found = sliced_wasserstein(noise(300, 16, 0), flat)
    assert found[16] == pytest.approx(0.535 * np.sqrt(2 / np.pi), rel=0.1)


def test_fine_noise_changes_the_finest_level_most():
    ramp = np.linspace(40, 200, 64)
    shades = np.random.default_rng(0).uniform(0.3, 1, (40, 3, 1, 1))
    smooth = shades * (ramp[:, None] + ramp) / 2
    rough = smooth + np.random.default_rng(1).normal(0, 6, smooth.shape)
    found = sliced_wasserstein(*(images.round().clip(0, 255).astype(np.uint8) for images in (smooth, rough)))
    assert found[64] > 3 * found[16]


def test_result_depends_on_the_seed_and_not_on_the_batch_size(monkeypatch: pytest.MonkeyPatch):
    real, fake = noise(12, 16, 0), noise(12, 16, 1)
    first = sliced_wasserstein(real, fake, seed=4)
    assert sliced_wasserstein(real, fake, seed=4) == first != sliced_wasserstein(real, fake, seed=5)
    monkeypatch.setattr(wasserstein, "SLICES", 100)
    assert sliced_wasserstein(real, fake, seed=4) == pytest.approx(first)


def test_many_images_give_fewer_patches_each(monkeypatch: pytest.MonkeyPatch):
    sizes: list[int] = []
    whole = wasserstein._sliced_distance

    def watched(real: np.ndarray, fake: np.ndarray, random: np.random.Generator) -> float:
        sizes.extend((len(real), len(fake)))
        return whole(real, fake, random)

    monkeypatch.setattr(wasserstein, "_sliced_distance", watched)
    monkeypatch.setattr(wasserstein, "MAX_PATCHES", 1000)
    sliced_wasserstein(noise(7, 16, 0), noise(7, 16, 1))
    sliced_wasserstein(noise(30, 16, 0), noise(30, 16, 1))
    assert sizes == [7 * 128, 7 * 128, 30 * 33, 30 * 33]


def test_sets_of_different_or_odd_shapes_are_rejected():
    with pytest.raises(ValueError, match="one shape"):
        sliced_wasserstein(noise(3, 16, 0), noise(4, 16, 0))
    with pytest.raises(ValueError, match="halved"):
        sliced_wasserstein(noise(2, 35, 0), noise(2, 35, 0))
