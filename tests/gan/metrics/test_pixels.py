"""Measures on pixels, against values computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from gan.metrics.pixels import checkerboard_energy, checkerboard_ratio, min_distance_ratio, pairwise_distances


def test_distances_of_plain_images_are_those_of_their_levels():
    images = np.stack([np.full((3, 4, 4), level, np.uint8) for level in (0, 255, 51)])
    assert sorted(pairwise_distances(images)) == pytest.approx([51 / 127.5, 204 / 127.5, 2.0])


def test_distances_are_the_root_of_the_mean_square_over_all_values():
    images = np.zeros((2, 3, 2, 2), np.uint8)
    images[1, 0, 0, 0] = 255
    assert pairwise_distances(images) == pytest.approx([np.sqrt(2**2 / 12)])


def test_equal_images_have_distance_0():
    image = np.random.default_rng(0).integers(0, 256, (1, 3, 8, 8), np.uint8)
    assert pairwise_distances(np.concatenate([image, image])) == pytest.approx([0], abs=1e-6)


def test_checkerboard_energy_of_white_noise_is_its_variance():
    noise = np.random.default_rng(0).integers(0, 256, (64, 1, 32, 32)).repeat(3, axis=1).astype(np.uint8)
    assert checkerboard_energy(noise) == pytest.approx((noise / 127.5).var(), rel=0.05)


def test_checkerboards_have_more_energy_than_a_slope():
    rows, columns = np.indices((32, 32))
    slope = np.broadcast_to((127 + 100 * np.sin(2 * np.pi * rows / 32)).astype(np.uint8), (1, 3, 32, 32))
    for pattern in ((rows + columns) % 2, rows % 2, columns % 2):
        checkered = (slope.astype(int) + 8 * pattern).clip(0, 255).astype(np.uint8)
        assert checkerboard_energy(checkered) > 50 * checkerboard_energy(slope)


def test_only_repeated_images_have_a_small_distance_ratio():
    real = np.random.default_rng(0).integers(0, 256, (32, 3, 8, 8), np.uint8)
    other = np.random.default_rng(1).integers(0, 256, (16, 3, 8, 8), np.uint8)
    assert 0.8 < min_distance_ratio(other, real) < 1.2
    other[5] = other[11]
    assert min_distance_ratio(other, real) == pytest.approx(0, abs=1e-6)


def test_equal_flat_real_images_give_finite_ratios():
    flat = np.full((4, 3, 16, 16), 90, np.uint8)
    assert min_distance_ratio(flat, flat) == pytest.approx(0, abs=1e-4)
    assert checkerboard_ratio(flat, flat) == pytest.approx(0, abs=1e-4)
    # Two levels apart, over one.
    assert min_distance_ratio(np.stack([flat[0], flat[0] + 2]), flat) == pytest.approx(2)
    noise = np.random.default_rng(0).integers(90, 92, (64, 3, 32, 32)).astype(np.uint8)
    # A variance of a quarter of a squared level, a twelfth in the mean of three channels, over a 36th.
    assert checkerboard_ratio(noise, flat) == pytest.approx(3, rel=0.1)


def test_checkerboard_ratio_is_relative_to_real_images():
    real = np.random.default_rng(0).integers(100, 110, (16, 3, 16, 16), np.uint8)
    assert checkerboard_ratio(real, real) == 1
    # Twice the amplitude is four times the energy.
    doubled = ((real - 100.0) * 2 + 100).astype(np.uint8)
    assert checkerboard_ratio(doubled, real) == pytest.approx(4, rel=0.2)
