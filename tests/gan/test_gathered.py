"""Products of gathered windows against torch's convolutions in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gan.form import Form
from gan.gathered import derivatives, gain
from tests.gan.forms import NAMES, form, relative, truth


def test_by_hand():
    """One pixel of 1 and a kernel that numbers its taps: the result is every second tap."""
    image, kernel = torch.zeros(1, 1, 8, 8), torch.arange(25.0).view(1, 1, 5, 5)
    image[0, 0, 4, 4] = 1
    made = derivatives(Form(image=image, kernel=kernel), ["result"]).result
    expected = torch.zeros(4, 4)
    expected[1:4, 1:4] = torch.tensor([[24.0, 22, 20], [14, 12, 10], [4, 2, 0]])
    assert torch.equal(made[0, 0], expected)


@pytest.mark.parametrize("wanted", [*((name,) for name in NAMES), ("image", "kernel"), ("result", "kernel")])
@settings(max_examples=20, deadline=None)
@given(
    batch=st.integers(1, 5),
    inputs=st.integers(1, 7),
    outputs=st.integers(1, 7),
    side=st.integers(1, 9),
    seed=st.integers(0, 9),
)
def test_derivatives_are_torchs(wanted, batch, inputs, outputs, side, seed):
    tried = form(batch, inputs, outputs, side, seed)
    needed = {other for name in wanted for other in NAMES if other != name}
    given_ones = Form(**{name: value for name, value in tried._asdict().items() if name in needed})
    made, true = derivatives(given_ones, wanted), truth(tried)
    for name in NAMES:
        value = getattr(made, name)
        if name not in wanted:
            assert value is None
        else:
            assert relative(value, getattr(true, name)) < 1e-12
            assert value.is_contiguous(memory_format=torch.channels_last)
            assert not value._is_view()


def test_a_kernel_that_is_not_channels_last_gives_the_same():
    tried = form(3, 4, 5, 6)
    plain = Form(*(value.contiguous() for value in tried))
    assert all(map(torch.equal, derivatives(tried, NAMES), derivatives(plain, NAMES)))


def test_in_bfloat16_sums_are_taken_in_float32():
    """6,400 products in each sum: a sum in bfloat16 would be wrong by tens of percents."""
    tried = form(4, 256, 64, 6)
    coarse = Form(*(value.bfloat16() for value in tried))
    made, true = derivatives(coarse, NAMES), truth(tried)
    assert max(relative(value, exact) for value, exact in zip(made, true, strict=True)) < 5e-3


@pytest.mark.parametrize("wanted", NAMES)
def test_fewer_pixels_gain_more(wanted):
    gains = [gain(192, 256, 512, side, wanted) for side in (2, 3, 6, 12)]
    assert gains == sorted(gains, reverse=True)
