import copy

import pytest
import torch
from torch import nn
from torch.nn import Conv2d, ConvTranspose2d

from gan.fast_conv import convert, im2col, winograd
from gan.fast_conv import layers as convolution
from gan.fast_conv.tensors import ConvTensors
from tests.gan.fast_conv.conv_cases import relative_error

GEOMETRY = {"kernel_size": 5, "stride": 2, "padding": 2}


def fast_and_plain(
    layer_type: type, inputs: int, outputs: int, bias: bool = True
) -> tuple[nn.Module, nn.Module]:
    """A converted layer, and one of torch with the same weights."""
    torch.manual_seed(0)
    padding = {} if layer_type is Conv2d else {"output_padding": 1}
    plain = layer_type(inputs, outputs, bias=bias, **GEOMETRY, **padding)
    return convert(nn.Sequential(copy.deepcopy(plain)))[0], plain


def forward_and_backward(
    layer: nn.Module, x: torch.Tensor, autocast: torch.dtype | None = None
) -> list[torch.Tensor]:
    """The output, and the gradients of the input and all parameters."""
    x = x.clone().requires_grad_()
    with torch.autocast("cpu", autocast, enabled=autocast is not None):
        y = layer(x)
    weights = list(layer.parameters())
    return [y, *torch.autograd.grad(y, [x, *weights], torch.sin(3 * y.detach()))]


@pytest.fixture
def by_winograd(monkeypatch) -> list[list[str]]:
    """The derivatives that each call of `winograd.derivatives` computes."""
    calls: list[list[str]] = []
    derivatives = winograd.derivatives

    def record(tiling, tensors, names):
        calls.append(list(names))
        return derivatives(tiling, tensors, names)

    monkeypatch.setattr(winograd, "derivatives", record)
    return calls


@pytest.mark.parametrize("min_gain", [0.0, 1e9])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("layer_type", "inputs", "outputs", "side"),
    [(Conv2d, 3, 8, 12), (Conv2d, 20, 9, 14), (ConvTranspose2d, 8, 3, 5), (ConvTranspose2d, 9, 20, 6)],
)
def test_a_layer_equals_that_of_torch(
    layer_type, inputs, outputs, side, bias, min_gain, monkeypatch, by_winograd
):
    monkeypatch.setattr(convolution, "MIN_GAIN", min_gain)
    fast, plain = fast_and_plain(layer_type, inputs, outputs, bias)
    x = torch.randn(5, inputs, side, side)
    for value, true in zip(
        forward_and_backward(fast, x), forward_and_backward(plain.double(), x.double()), strict=True
    ):
        assert relative_error(value.detach(), true.detach()) < 2e-5
    assert bool(by_winograd) is (min_gain == 0)


@pytest.mark.parametrize("name", ["input", "weight", "bias"])
def test_only_the_requested_gradients_are_computed(name, monkeypatch, by_winograd):
    monkeypatch.setattr(convolution, "MIN_GAIN", 0)
    layer, plain = fast_and_plain(Conv2d, 10, 12)
    x = torch.randn(2, 10, 12, 12, requires_grad=True)
    gradients = []
    for each in (layer, plain):
        leaf = {"input": x, **dict(each.named_parameters())}[name]
        leaf.grad = None
        each(x).sum().backward(inputs=[leaf])
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-3)
    assert by_winograd == [["output"], *([] if name == "bias" else [[name]])]


def test_all_gradients_are_computed_if_torch_does_not_tell_which_are_requested(monkeypatch, by_winograd):
    monkeypatch.setattr(convolution, "MIN_GAIN", 0)
    layer, plain = fast_and_plain(Conv2d, 10, 12)
    x = torch.randn(2, 10, 12, 12, requires_grad=True)
    monkeypatch.setattr(convolution, "_will_execute", lambda node: True)
    layer(x).sum().backward(inputs=[x])
    assert by_winograd == [["output"], ["input", "weight"]]
    (gradient,) = torch.autograd.grad(plain(x).sum(), x)
    torch.testing.assert_close(x.grad, gradient, rtol=1e-4, atol=1e-3)
    assert layer.weight.grad is None


@pytest.mark.parametrize(("autocast", "error"), [(None, 1e-4), (torch.bfloat16, 0.03)])
@pytest.mark.parametrize("layer_type", [Conv2d, ConvTranspose2d])
def test_gradients_have_gradients(layer_type, autocast, error, monkeypatch):
    """As a gradient penalty needs."""
    monkeypatch.setattr(convolution, "MIN_GAIN", 0)
    use_im2col_for(monkeypatch, "input", "weight", "output")
    x = torch.randn(2, 6, 6, 6)
    penalties = []
    for layer in fast_and_plain(layer_type, 6, 9):
        leaf = x.clone().requires_grad_()
        with torch.autocast("cpu", autocast, enabled=autocast is not None):
            y = layer(leaf)
        (gradient,) = torch.autograd.grad(y.square().sum(), leaf, create_graph=True)
        penalties.append(torch.autograd.grad(gradient.square().sum(), list(layer.parameters())))
    for value, true in zip(*penalties, strict=True):
        assert relative_error(value, true) < error


@pytest.fixture
def by_im2col(monkeypatch) -> list[list[str]]:
    """The derivatives that each call of `im2col.derivatives` computes."""
    calls: list[list[str]] = []
    derivatives = im2col.derivatives

    def record(tensors, names):
        assert tensors.dtype == torch.bfloat16
        calls.append(list(names))
        return derivatives(tensors, names)

    monkeypatch.setattr(im2col, "derivatives", record)
    return calls


def use_im2col_for(monkeypatch, *names: str) -> None:
    """Have im2col compute these derivatives and no others."""
    monkeypatch.setattr(im2col, "gain", lambda *sizes: 2.0 * (sizes[-1] in names))


@pytest.mark.parametrize("layer_type", [Conv2d, ConvTranspose2d])
def test_sampling_and_images_that_are_not_square_use_torch(layer_type, monkeypatch, by_winograd, by_im2col):
    monkeypatch.setattr(convolution, "MIN_GAIN", 0)
    fast, plain = fast_and_plain(layer_type, 6, 9)
    x = torch.randn(2, 6, 6, 6)
    with torch.no_grad():
        assert torch.equal(fast(x), plain(x))
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(fast(x), plain(x))
    for sides in ((7, 5), (6, 8)):
        odd = torch.randn(2, 6, *sides)
        assert all(map(torch.equal, forward_and_backward(fast, odd), forward_and_backward(plain, odd)))
    assert not by_winograd
    assert not by_im2col


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("names", [["output"], ["input"], ["weight"], ["input", "weight", "output"]])
@pytest.mark.parametrize(("layer_type", "inputs", "outputs"), [(Conv2d, 20, 9), (ConvTranspose2d, 9, 20)])
def test_in_bfloat16_a_layer_equals_that_of_torch(
    layer_type, inputs, outputs, names, bias, monkeypatch, by_winograd, by_im2col
):
    use_im2col_for(monkeypatch, *names)
    fast, plain = fast_and_plain(layer_type, inputs, outputs, bias)
    x = torch.randn(5, inputs, 6, 6)
    values = forward_and_backward(fast, x, torch.bfloat16)
    assert [value.dtype for value in values] == [torch.bfloat16] + [torch.float32] * (len(values) - 1)
    for value, true in zip(values, forward_and_backward(plain.double(), x.double()), strict=True):
        assert relative_error(value.detach(), true.detach()) < 0.02
    assert {name for call in by_im2col for name in call} == set(names)
    assert not by_winograd


@pytest.mark.parametrize("name", ["input", "weight", "bias"])
def test_in_bfloat16_only_the_requested_gradients_are_computed(name, monkeypatch, by_im2col):
    use_im2col_for(monkeypatch, "input", "weight", "output")
    layer, _ = fast_and_plain(Conv2d, 10, 12)
    x = torch.randn(2, 10, 12, 12, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    y.sum().backward(inputs=[{"input": x, **dict(layer.named_parameters())}[name]])
    assert by_im2col == [["output"], *([] if name == "bias" else [[name]])]


@pytest.mark.parametrize("autocast", [torch.bfloat16, torch.float16])
def test_in_low_precision_layers_without_gain_use_torch(autocast, monkeypatch, by_im2col):
    use_im2col_for(monkeypatch, *([] if autocast == torch.bfloat16 else ["input", "weight", "output"]))
    for layer_type in (Conv2d, ConvTranspose2d):
        fast, plain = fast_and_plain(layer_type, 6, 9)
        x = torch.randn(2, 6, 6, 6)
        assert all(
            map(
                torch.equal, forward_and_backward(fast, x, autocast), forward_and_backward(plain, x, autocast)
            )
        )
    assert not by_im2col


@pytest.mark.parametrize(
    ("image_size", "last_but_one", "last"),
    [
        (32, "input output weight", "input output weight"),
        (64, "weight", "input output weight"),
        (96, "", "output weight"),
    ],
)
def test_in_bfloat16_large_weights_on_small_images_gain(image_size, last_but_one, last):
    sides = [image_size // 2**depth for depth in (1, 2, 3, 4)]
    channels = [(3, 64), (64, 128), (128, 256), (256, 512)]
    chosen = [
        convolution._by_im2col(192, *widths, side) for widths, side in zip(channels, sides, strict=True)
    ]
    assert [" ".join(sorted(names)) for names in chosen] == ["", "", last_but_one, last]


def test_results_are_repeatable_bit_for_bit(by_winograd):
    layer, _ = fast_and_plain(Conv2d, 64, 512, bias=False)
    x = torch.randn(64, 64, 12, 12)
    assert all(map(torch.equal, forward_and_backward(layer, x), forward_and_backward(layer, x)))
    assert ["input", "weight"] in by_winograd


def tile(side: int, inputs: int, outputs: int, batch: int, names: list[str]) -> int | None:
    """The tile chosen for a layer, None if it is left to torch."""
    needed = frozenset(other for name in names for other in ConvTensors._fields if other != name)
    best, gain = winograd.best_tile(batch, inputs, outputs, side, needed, frozenset(names))
    return best if gain >= convolution.MIN_GAIN else None


def test_winograd_is_used_for_layers_that_gain():
    shapes = [(48, 3, 64), (24, 64, 128), (12, 128, 256), (6, 256, 512)]
    forward, backward = (
        [tile(*shape, 96, names) is not None for shape in shapes]
        for names in (["output"], ["input", "weight"])
    )
    assert forward == [False, False, True, True]
    assert backward == [False, True, True, True]
    # The transforms of the weight cost too much for a few images, and those of a small network always.
    assert not tile(6, 256, 512, 2, ["input", "weight"])
    assert not any(tile(side, 12, 12, 96, ["weight"]) for side in (2, 4, 8, 16))
    # The weight takes 10 times its memory at 8 x 8 points, 4 times at 5 x 5.
    assert tile(6, 512, 1024, 128, ["output", "weight"]) == 3
    assert tile(6, 4096, 4096, 128, ["output", "weight"]) is None


def test_convert_replaces_supported_layers_and_shares_their_parameters():
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
