import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gan.fast_conv.im2col import MAX_WINDOWS, derivatives, gain
from gan.fast_conv.tensors import ConvTensors
from tests.gan.fast_conv.conv_cases import (
    NAMES,
    max_error,
    needed_for,
    random_tensors,
    relative_error,
    true_derivatives,
)


@pytest.mark.parametrize("names", [*((name,) for name in NAMES), ("input", "weight"), ("output", "weight")])
@settings(max_examples=20, deadline=None)
@given(
    batch=st.integers(1, 5),
    inputs=st.integers(1, 7),
    outputs=st.integers(1, 7),
    side=st.integers(1, 9),
    seed=st.integers(0, 9),
)
def test_derivatives_equal_those_of_torch(names, batch, inputs, outputs, side, seed):
    tensors = random_tensors(batch, inputs, outputs, side, seed)
    computed, true = derivatives(needed_for(tensors, names), names), true_derivatives(tensors)
    for name in NAMES:
        value = getattr(computed, name)
        if name not in names:
            assert value is None
        else:
            assert relative_error(value, getattr(true, name)) < 1e-12
            assert value.is_contiguous(memory_format=torch.channels_last)
            assert not value._is_view()


def test_the_memory_format_makes_no_difference():
    tensors = random_tensors(3, 4, 5, 6)
    contiguous = ConvTensors(*(value.contiguous() for value in tensors))
    assert all(map(torch.equal, derivatives(tensors, NAMES), derivatives(contiguous, NAMES)))


def test_bfloat16_products_are_summed_in_float32():
    """Each output sums 6,400 products, which in bfloat16 would be wrong by percents."""
    tensors = random_tensors(4, 256, 64, 6)
    rounded = ConvTensors(*(value.bfloat16() for value in tensors))
    assert max_error(derivatives(rounded, NAMES), true_derivatives(tensors)) < 5e-3


@pytest.mark.parametrize("name", NAMES)
def test_unsupported_sizes_have_no_gain(name):
    assert gain(192, 256, 512, 3, name) > 1.5
    assert gain(0, 256, 512, 3, name) == 0
    assert gain(192, 3, 512, 3, name) == gain(192, 256, 3, 3, name) == 0
    large = MAX_WINDOWS // (25 * 256 * 9) + 1
    assert gain(large * 512, 256, 512, 3, name) == 0
