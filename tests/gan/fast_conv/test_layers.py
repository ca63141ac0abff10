"""The layers are torch's, in what they compute and in what they keep."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import Conv2d, ConvTranspose2d

from gan.fast_conv import convert, im2col, winograd
from gan.fast_conv import layers as convolution
from gan.fast_conv.tensors import ConvTensors
from tests.gan.fast_conv.conv_cases import relative

GEOMETRY = {"kernel_size": 5, "stride": 2, "padding": 2}


def pair(kind: type, inputs: int, outputs: int, bias: bool = True) -> tuple[nn.Module, nn.Module]:
    """A converted layer and torch's, with the same weights."""
    torch.manual_seed(0)
    further = {} if kind is Conv2d else {"output_padding": 1}
    plain = kind(inputs, outputs, bias=bias, **GEOMETRY, **further)
    return convert(nn.Sequential(copy.deepcopy(plain)))[0], plain


def passes(layer: nn.Module, x: torch.Tensor, autocast: torch.dtype | None = None) -> list[torch.Tensor]:
    """The output, and the gradients of the input and all weights."""
    x = x.clone().requires_grad_()
    with torch.autocast("cpu", autocast, enabled=autocast is not None):
        y = layer(x)
    weights = list(layer.parameters())
    return [y, *torch.autograd.grad(y, [x, *weights], torch.sin(3 * y.detach()))]


@pytest.fixture
def used(monkeypatch) -> list[list[str]]:
    """What is computed by minimal filtering."""
    seen: list[list[str]] = []
    derivatives = winograd.derivatives

    def noted(by, form, wanted):
        seen.append(list(wanted))
        return derivatives(by, form, wanted)

    monkeypatch.setattr(winograd, "derivatives", noted)
    return seen


@pytest.mark.parametrize("least_gain", [0.0, 1e9])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("kind", "inputs", "outputs", "side"),
    [(Conv2d, 3, 8, 12), (Conv2d, 20, 9, 14), (ConvTranspose2d, 8, 3, 5), (ConvTranspose2d, 9, 20, 6)],
)
def test_a_layer_computes_what_torchs_does(kind, inputs, outputs, side, bias, least_gain, monkeypatch, used):
    monkeypatch.setattr(convolution, "MIN_GAIN", least_gain)
    ours, plain = pair(kind, inputs, outputs, bias)
    x = torch.randn(5, inputs, side, side)
    for value, true in zip(passes(ours, x), passes(plain.double(), x.double()), strict=True):
        assert relative(value.detach(), true.detach()) < 2e-5
    assert bool(used) is (least_gain == 0)


@pytest.mark.parametrize("wanted", ["input", "weight", "bias"])
def test_only_the_gradients_requested_are_computed(wanted, monkeypatch, used):
    monkeypatch.setattr(convolution, "MIN_GAIN", 0)
    layer, plain = pair(Conv2d, 10, 12)
    x = torch.randn(2, 10, 12, 12, requires_grad=True)
    gradients = []
    for each in (layer, plain):
        leaf = {"input": x, **dict(each.named_parameters())}[wanted]
        leaf.grad = None
        each(x).sum().backward(inputs=[leaf])
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-3)
    assert used == [["output"], *{"input": [["input"]], "weight": [["weight"]], "bias": []}[wanted]]


def test_where_torch_does_not_tell_what_is_requested_all_is_computed(monkeypatch, used):
    monkeypatch.setattr(convolution, "MIN_GAIN", 0)
    layer, plain = pair(Conv2d, 10, 12)
    x = torch.randn(2, 10, 12, 12, requires_grad=True)
    monkeypatch.setattr(convolution, "_will_execute", lambda node: True)
    layer(x).sum().backward(inputs=[x])
    assert used == [["output"], ["input", "weight"]]
    (gradient,) = torch.autograd.grad(plain(x).sum(), x)
    torch.testing.assert_close(x.grad, gradient, rtol=1e-4, atol=1e-3)
    assert layer.weight.grad is None


@pytest.mark.parametrize(("autocast", "error"), [(None, 1e-4), (torch.bfloat16, 0.03)])
@pytest.mark.parametrize("kind", [Conv2d, ConvTranspose2d])
def test_gradients_of_gradients_can_be_had(kind, autocast, error, monkeypatch):
    """As a gradient penalty asks for."""
    monkeypatch.setattr(convolution, "MIN_GAIN", 0)
    gaining(monkeypatch, "input", "weight", "output")
    x = torch.randn(2, 6, 6, 6)
    penalties = []
    for layer in pair(kind, 6, 9):
        seen = x.clone().requires_grad_()
        with torch.autocast("cpu", autocast, enabled=autocast is not None):
            y = layer(seen)
        (gradient,) = torch.autograd.grad(y.square().sum(), seen, create_graph=True)
        penalties.append(torch.autograd.grad(gradient.square().sum(), list(layer.parameters())))
    for value, true in zip(*penalties, strict=True):
        assert relative(value, true) < error


@pytest.fixture
def multiplied(monkeypatch) -> list[list[str]]:
    """What is computed by im2col; what gains is set by `gaining`."""
    seen: list[list[str]] = []
    derivatives = im2col.derivatives

    def noted(form, wanted):
        assert form.dtype == torch.bfloat16
        seen.append(list(wanted))
        return derivatives(form, wanted)

    monkeypatch.setattr(im2col, "derivatives", noted)
    return seen


def gaining(monkeypatch, *names: str) -> None:
    """Have these derivatives taken by im2col, and no others."""
    monkeypatch.setattr(im2col, "gain", lambda *sizes: 2.0 * (sizes[-1] in names))


@pytest.mark.parametrize("kind", [Conv2d, ConvTranspose2d])
def test_sampling_and_what_is_not_square_are_torchs_to_the_bit(kind, monkeypatch, used, multiplied):
    monkeypatch.setattr(convolution, "MIN_GAIN", 0)
    ours, plain = pair(kind, 6, 9)
    x = torch.randn(2, 6, 6, 6)
    with torch.no_grad():
        assert torch.equal(ours(x), plain(x))
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(ours(x), plain(x))
    for sides in ((7, 5), (6, 8)):
        odd = torch.randn(2, 6, *sides)
        assert all(map(torch.equal, passes(ours, odd), passes(plain, odd)))
    assert not used
    assert not multiplied


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("names", [["output"], ["input"], ["weight"], ["input", "weight", "output"]])
@pytest.mark.parametrize(("kind", "inputs", "outputs"), [(Conv2d, 20, 9), (ConvTranspose2d, 9, 20)])
def test_in_bfloat16_a_layer_computes_what_torchs_does(
    kind, inputs, outputs, names, bias, monkeypatch, used, multiplied
):
    gaining(monkeypatch, *names)
    ours, plain = pair(kind, inputs, outputs, bias)
    x = torch.randn(5, inputs, 6, 6)
    made = passes(ours, x, torch.bfloat16)
    assert [value.dtype for value in made] == [torch.bfloat16] + [torch.float32] * (len(made) - 1)
    for value, true in zip(made, passes(plain.double(), x.double()), strict=True):
        assert relative(value.detach(), true.detach()) < 0.02
    assert {name for each in multiplied for name in each} == set(names)
    assert not used


@pytest.mark.parametrize(("wanted", "name"), [("input", "input"), ("weight", "weight"), ("bias", None)])
def test_in_bfloat16_only_the_gradients_requested_are_computed(wanted, name, monkeypatch, multiplied):
    gaining(monkeypatch, "input", "weight", "output")
    layer, _ = pair(Conv2d, 10, 12)
    x = torch.randn(2, 10, 12, 12, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    y.sum().backward(inputs=[{"input": x, **dict(layer.named_parameters())}[wanted]])
    assert multiplied == [["output"], *([[name]] if name else [])]


@pytest.mark.parametrize("autocast", [torch.bfloat16, torch.float16])
def test_in_short_numbers_layers_that_do_not_gain_are_torchs_to_the_bit(autocast, monkeypatch, multiplied):
    gaining(monkeypatch, *([] if autocast == torch.bfloat16 else ["input", "weight", "output"]))
    for kind in (Conv2d, ConvTranspose2d):
        ours, plain = pair(kind, 6, 9)
        x = torch.randn(2, 6, 6, 6)
        assert all(map(torch.equal, passes(ours, x, autocast), passes(plain, x, autocast)))
    assert not multiplied


@pytest.mark.parametrize(
    ("image_size", "last_but_one", "last"),
    [
        (32, "input output weight", "input output weight"),
        (64, "weight", "input output weight"),
        (96, "", "output weight"),
    ],
)
def test_in_bfloat16_large_kernels_on_small_images_gain(image_size, last_but_one, last):
    sides = [image_size // 2**depth for depth in (1, 2, 3, 4)]
    channels = [(3, 64), (64, 128), (128, 256), (256, 512)]
    chosen = [convolution._by_im2col(192, *pair, side) for pair, side in zip(channels, sides, strict=True)]
    assert [" ".join(sorted(names)) for names in chosen] == ["", "", last_but_one, last]


def test_the_same_input_gives_the_same_bits(used):
    layer, _ = pair(Conv2d, 64, 512, bias=False)
    x = torch.randn(64, 64, 12, 12)
    assert all(map(torch.equal, passes(layer, x), passes(layer, x)))
    assert ["input", "weight"] in used


def tile(side: int, inputs: int, outputs: int, batch: int, wanted: list[str]) -> int | None:
    """The tile chosen for a layer."""
    needed = frozenset(other for name in wanted for other in ConvTensors._fields if other != name)
    best, gain = winograd.best_tile(batch, inputs, outputs, side, needed, frozenset(wanted))
    return best if gain >= convolution.MIN_GAIN else None


def test_layers_that_gain_are_chosen_and_no_others():
    shapes = [(48, 3, 64), (24, 64, 128), (12, 128, 256), (6, 256, 512)]
    directions = {"forward": ["output"], "backward": ["input", "weight"]}
    chosen = {
        direction: [tile(*shape, 96, wanted) is not None for shape in shapes]
        for direction, wanted in directions.items()
    }
    assert chosen == {"forward": [False, False, True, True], "backward": [False, True, True, True]}
    # A few images do not pay for the transforms of so many weights, nor small networks for any.
    assert not tile(6, 256, 512, 2, ["input", "weight"])
    assert not any(tile(side, 12, 12, 96, ["weight"]) for side in (2, 4, 8, 16))
    # The kernel takes 10 times its own memory at 8 x 8 points, 4 times at 5 x 5.
    assert tile(6, 512, 1024, 128, ["output", "weight"]) == 3
    assert tile(6, 4096, 4096, 128, ["output", "weight"]) is None


def test_converting_replaces_what_is_supported_and_shares_the_parameters():
    network = nn.Sequential(
        nn.Conv2d(3, 4, **GEOMETRY),
        nn.Sequential(nn.ConvTranspose2d(4, 3, **GEOMETRY, output_padding=1)),
        nn.Conv2d(3, 4, 3, padding=1),
        nn.Conv2d(4, 4, 5, 2, 2, groups=2),
    )
    before = [network[0], network[1][0], network[2], network[3]]
    names = list(network.state_dict())
    assert convert(network) is network
    after = [network[0], network[1][0], network[2], network[3]]
    assert [type(layer).__name__ for layer in after] == [
        *("FastConv2d", "FastConvTranspose2d", "Conv2d", "Conv2d"),
    ]
    assert all(old.weight is new.weight for old, new in zip(before, after, strict=True))
    assert list(network.state_dict()) == names
    assert convert(network)[0] is after[0]


def test_a_transposed_convolution_without_output_padding_stays_torchs():
    layer = convert(nn.Sequential(nn.ConvTranspose2d(4, 3, **GEOMETRY)))[0]
    assert type(layer) is nn.ConvTranspose2d
