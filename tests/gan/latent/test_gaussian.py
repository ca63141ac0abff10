import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from gan.latent.gaussian import NEAREST_TO_ONE, from_gaussian, to_gaussian
from gan.latent.vectors import draw


def test_agrees_with_torch_to_rounding():
    z = draw(50, 100, 0).astype(np.float64)
    expected = 2**0.5 * torch.special.erfinv(torch.from_numpy(z)).numpy()
    assert abs(to_gaussian(z) - expected).max() < 1e-12
    assert abs(from_gaussian(to_gaussian(z)) - z).max() < 1e-15


def test_the_prior_becomes_standard_normal():
    u = to_gaussian(draw(500, 100, 1))
    assert u.dtype == np.float64
    assert abs(u.mean()) < 0.01
    assert abs(u.std() - 1) < 0.01
    assert abs((u**4).mean() - 3) < 0.1


@given(st.floats(-3, 3, width=32))
def test_finite_everywhere_and_odd(z):
    assert np.isfinite(to_gaussian(z))
    assert abs(to_gaussian(z)) <= to_gaussian(NEAREST_TO_ONE) < 5.5
    assert abs(to_gaussian(z) + to_gaussian(-z)) < 1e-9


def test_large_values_stay_in_the_cube():
    assert from_gaussian([-1e9, -40.0, 0.0, 40.0, 1e9]).tolist() == [-1, -1, 0, 1, 1]
