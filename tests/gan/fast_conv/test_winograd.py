import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gan.fast_conv import winograd
from gan.fast_conv.tensors import ConvTensors
from gan.fast_conv.winograd import POINTS, derivatives, tiling
from tests.gan.fast_conv.conv_cases import (
    NAMES,
    max_error,
    needed_for,
    random_tensors,
    relative_error,
    true_derivatives,
)


def compute(tensors: ConvTensors, tile: int, names: tuple[str, ...]) -> ConvTensors:
    """Derivatives in float32."""
    needed = {
        name: value.float()
        for name, value in needed_for(tensors, names)._asdict().items()
        if value is not None
    }
    return derivatives(tiling(tensors.output.shape[2], tile), ConvTensors(**needed), names)


def test_by_hand():
    """One pixel of 1 and a kernel that numbers its taps: the output is every second tap."""
    input, weight = torch.zeros(1, 1, 8, 8), torch.arange(25.0).view(1, 1, 5, 5)
    input[0, 0, 4, 4] = 1
    output = derivatives(tiling(4, 4), ConvTensors(input=input, weight=weight), ["output"]).output
    expected = torch.zeros(4, 4)
    expected[1:4, 1:4] = torch.tensor([[24.0, 22, 20], [14, 12, 10], [4, 2, 0]])
    torch.testing.assert_close(output[0, 0], expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("tile", sorted(POINTS))
@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=12, deadline=None)
@given(
    batch=st.integers(1, 5),
    inputs=st.integers(1, 7),
    outputs=st.integers(1, 7),
    side=st.integers(1, 13),
    seed=st.integers(0, 9),
)
def test_derivatives_equal_those_of_torch(name, tile, batch, inputs, outputs, side, seed):
    tensors = random_tensors(batch, inputs, outputs, side, seed)
    computed = compute(tensors, tile, (name,))
    assert relative_error(getattr(computed, name), getattr(true_derivatives(tensors), name)) < 3e-5
    assert [value is None for value in computed] == [other != name for other in NAMES]


@pytest.mark.parametrize("names", [("input", "weight"), ("output", "weight")])
def test_two_derivatives_at_once_equal_each_alone(names):
    tensors = random_tensors(4, 3, 5, 7)
    computed = compute(tensors, 6, names)
    for name in names:
        assert torch.equal(getattr(computed, name), getattr(compute(tensors, 6, (name,)), name))


def test_a_batch_computed_in_parts_gives_the_same(monkeypatch):
    tensors = random_tensors(5, 4, 6, 7)
    whole = compute(tensors, 4, NAMES)
    monkeypatch.setattr(winograd, "ROWS", 3)  # two images at a time, and then one
    for part, entire in zip(compute(tensors, 4, NAMES), whole, strict=True):
        torch.testing.assert_close(part, entire, rtol=1e-4, atol=1e-4)


def test_derivatives_are_channels_last():
    for value in compute(random_tensors(3, 4, 5, 6), 6, NAMES):
        assert value.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("tile", "error"), [(2, 1e-6), (3, 2e-6), (4, 3e-6), (6, 1.2e-5)])
def test_a_wide_layer_loses_few_digits(tile, error):
    tensors = random_tensors(4, 256, 64, 6)
    assert max_error(compute(tensors, tile, NAMES), true_derivatives(tensors)) < error


@pytest.mark.parametrize("tile", sorted(POINTS))
def test_the_matrices_compute_a_correlation(tile):
    """output[i] is the sum of weight[k] * input[i + k], exact to float64."""
    to_output, of_weight, of_input = winograd._matrices(tile)
    random = np.random.default_rng(0)
    weight, input = random.normal(size=3), random.normal(size=tile + 2)
    output = to_output @ (of_weight @ weight * (of_input @ input))
    assert output == pytest.approx(np.correlate(input, weight, "valid"), abs=1e-12)
