"""Products of gathered windows against torch's convolutions in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gan.fast_conv.im2col import MAX_WINDOWS, derivatives, gain
from gan.fast_conv.tensors import ConvTensors
from tests.gan.fast_conv.conv_cases import NAMES, form, relative, truth


@pytest.mark.parametrize("wanted", [*((name,) for name in NAMES), ("input", "weight"), ("output", "weight")])
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
    given_ones = ConvTensors(**{name: value for name, value in tried._asdict().items() if name in needed})
    made, true = derivatives(given_ones, wanted), truth(tried)
    for name in NAMES:
        value = getattr(made, name)
        if name not in wanted:
            assert value is None
        else:
            assert relative(value, getattr(true, name)) < 1e-12
            assert value.is_contiguous(memory_format=torch.channels_last)
            assert not value._is_view()


def test_arguments_that_are_not_channels_last_give_the_same():
    tried = form(3, 4, 5, 6)
    plain = ConvTensors(*(value.contiguous() for value in tried))
    assert all(map(torch.equal, derivatives(tried, NAMES), derivatives(plain, NAMES)))


def test_in_bfloat16_sums_are_taken_in_float32():
    """Of 6,400 products for each number of the output: in bfloat16 they would be wrong by percents."""
    tried = form(4, 256, 64, 6)
    coarse = ConvTensors(*(value.bfloat16() for value in tried))
    made, true = derivatives(coarse, NAMES), truth(tried)
    assert max(relative(value, exact) for value, exact in zip(made, true, strict=True)) < 5e-3


@pytest.mark.parametrize("name", NAMES)
def test_what_cannot_be_taken_here_gains_nothing(name):
    assert gain(192, 256, 512, 3, name) > 1.5
    assert gain(0, 256, 512, 3, name) == 0
    assert gain(192, 3, 512, 3, name) == gain(192, 256, 3, 3, name) == 0
    large = MAX_WINDOWS // (25 * 256 * 9) + 1
    assert gain(large * 512, 256, 512, 3, name) == 0
