"""Minimal filtering against torch's convolutions in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gan.fast_conv import winograd
from gan.fast_conv.tensors import ConvTensors
from gan.fast_conv.winograd import POINTS, derivatives, tiling
from tests.gan.fast_conv.conv_cases import NAMES, form, relative, truth


def computed(of: ConvTensors, tile: int, wanted: tuple[str, ...]) -> ConvTensors:
    needed = {other for name in wanted for other in NAMES if other != name}
    arguments = {name: value.float() for name, value in of._asdict().items() if name in needed}
    return derivatives(tiling(of.output.shape[2], tile), ConvTensors(**arguments), wanted)


def test_by_hand():
    """One pixel of 1 and a kernel that numbers its taps: the output is every second tap."""
    input, weight = torch.zeros(1, 1, 8, 8), torch.arange(25.0).view(1, 1, 5, 5)
    input[0, 0, 4, 4] = 1
    made = derivatives(tiling(4, 4), ConvTensors(input=input, weight=weight), ["output"]).output
    expected = torch.zeros(4, 4)
    expected[1:4, 1:4] = torch.tensor([[24.0, 22, 20], [14, 12, 10], [4, 2, 0]])
    torch.testing.assert_close(made[0, 0], expected, rtol=0, atol=1e-4)


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
def test_each_derivative_is_torchs(name, tile, batch, inputs, outputs, side, seed):
    tried = form(batch, inputs, outputs, side, seed)
    made = computed(tried, tile, (name,))
    assert relative(getattr(made, name), getattr(truth(tried), name)) < 3e-5
    assert [value is None for value in made] == [other != name for other in NAMES]


@pytest.mark.parametrize("wanted", [("input", "weight"), ("output", "weight")])
def test_a_backward_pass_gives_two_at_once(wanted):
    tried = form(4, 3, 5, 7)
    made = computed(tried, 6, wanted)
    for name in wanted:
        assert torch.equal(getattr(made, name), getattr(computed(tried, 6, (name,)), name))


def test_a_batch_goes_through_in_parts(monkeypatch):
    tried = form(5, 4, 6, 7)
    whole = computed(tried, 4, NAMES)
    monkeypatch.setattr(winograd, "ROWS", 3)  # two images at a time, and one at the end
    for part, entire in zip(computed(tried, 4, NAMES), whole, strict=True):
        torch.testing.assert_close(part, entire, rtol=1e-4, atol=1e-4)


def test_what_is_made_is_channels_last():
    for value in computed(form(3, 4, 5, 6), 6, NAMES):
        assert value.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("tile", "error"), [(2, 1e-6), (3, 2e-6), (4, 3e-6), (6, 1.2e-5)])
def test_a_wide_layer_loses_few_digits(tile, error):
    tried = form(4, 256, 64, 6)
    true = truth(tried)
    made = computed(tried, tile, NAMES)
    assert max(relative(value, exact) for value, exact in zip(made, true, strict=True)) < error


@pytest.mark.parametrize("tile", sorted(POINTS))
def test_the_matrices_multiply_polynomials(tile):
    """Exactly, but for float64: output[i] is the sum of weight[k] * input[i + k]."""
    to_result, of_kernel, of_image = winograd._matrices(tile)
    random = np.random.default_rng(0)
    weight, input = random.normal(size=3), random.normal(size=tile + 2)
    output = to_result @ (of_kernel @ weight * (of_image @ input))
    assert output == pytest.approx(np.correlate(input, weight, "valid"), abs=1e-12)
