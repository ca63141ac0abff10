import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gan.config import IMAGE_SIZES, preset_settings
from gan.losses import CrossEntropy
from gan.networks import Discriminator, Generator, LayerNorm, make_discriminator, make_generator

UNEVEN = (250, 150, 90, 54)
PAPER = (1024, 512, 256, 128)
NARROW = (8, 6, 5, 4)
SIDES = {
    32: (2, 4, 8, 16, 32),
    64: (4, 8, 16, 32, 64),
    96: (6, 12, 24, 48, 96),
    128: (8, 16, 32, 64, 128),
}
NORMALISATIONS = ("batch", "layer", "none")


def seeded(network_type, *args, **kwargs):
    torch.manual_seed(0)
    return network_type(*args, **kwargs)


@pytest.fixture
def zero_weights(monkeypatch):
    """Skip drawing millions of weights that are only counted."""
    monkeypatch.setattr(nn.init, "trunc_normal_", lambda weight, **_: nn.init.zeros_(weight))


def count(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


@torch.no_grad()
def shapes(network: nn.Module, inputs: torch.Tensor) -> list[tuple[str, tuple[int, ...]]]:
    """Type and output shape of every layer, in the order in which they run."""
    rows: list[tuple[str, tuple[int, ...]]] = []

    def add_row(layer: nn.Module, _, output: torch.Tensor) -> None:
        rows.append((type(layer).__name__, tuple(output.shape)))

    for name, layer in network.named_modules():
        if name and name != "layers":
            layer.register_forward_hook(add_row)
    network.eval()(inputs)
    return rows


@pytest.mark.usefixtures("zero_weights")
@pytest.mark.parametrize("size", sorted(SIDES))
def test_layer_shapes_of_the_generator(size):
    first, *sides = SIDES[size]
    network = Generator(UNEVEN, 100, size)
    expected = [("Linear", (2, 250 * first * first))]
    expected += [(layer, (2, 250, first, first)) for layer in ("BatchNorm2d", "ReLU")]
    for width, side in zip((150, 90, 54), sides, strict=False):
        expected += [(layer, (2, width, side, side)) for layer in ("ConvTranspose2d", "BatchNorm2d", "ReLU")]
    # No batch norm after the last layer.
    expected += [(layer, (2, 3, size, size)) for layer in ("ConvTranspose2d", "Tanh")]
    assert shapes(network, torch.zeros(2, 100)) == expected


@pytest.mark.usefixtures("zero_weights")
@pytest.mark.parametrize("normalisation", NORMALISATIONS)
@pytest.mark.parametrize("size", sorted(SIDES))
def test_layer_shapes_of_the_discriminator(size, normalisation):
    network = Discriminator((64, 128, 256, 512), size, normalisation)
    norm, widths = {
        "batch": ("BatchNorm2d", (64, 128, 256, 512)),
        "layer": ("LayerNorm", (128, 256, 512)),
    }.get(normalisation, ("", ()))
    expected = []
    for width, side in zip((64, 128, 256, 512), reversed(SIDES[size][:-1]), strict=True):
        layers = ["Conv2d", norm, "LeakyReLU"] if width in widths else ["Conv2d", "LeakyReLU"]
        expected += [(layer, (2, width, side, side)) for layer in layers]
    expected.append(("Linear", (2, 2)))
    assert shapes(network, torch.zeros(2, 3, size, size)) == expected


@pytest.mark.usefixtures("zero_weights")
def test_parameter_counts():
    uneven, paper = Generator(UNEVEN), Generator(PAPER)
    discriminators = {name: count(Discriminator(normalisation=name)) for name in NORMALISATIONS}
    # Linear, four kernels of 5 x 5, scale and shift of four batch norms, three biases.
    assert count(uneven) == (
        100 * 250 * 36
        + 25 * (250 * 150 + 150 * 90 + 90 * 54 + 54 * 3)
        + 2 * (250 + 150 + 90 + 54)
        + 3
    ) == 2_301_641  # fmt: skip
    assert count(paper) == (
        100 * 1024 * 36
        + 25 * (1024 * 512 + 512 * 256 + 256 * 128 + 128 * 3)
        + 2 * (1024 + 512 + 256 + 128)
        + 3
    ) == 20_903_043  # fmt: skip
    kernels = 25 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512)
    head = 512 * 36 * 2 + 2
    assert kernels + head == 4_342_466
    assert discriminators == {
        "batch": 4_342_466 + 2 * 960,
        "layer": 4_342_466 + 960 + 2 * 896,
        "none": 4_342_466 + 960,
    }


@pytest.mark.parametrize("training", [False, True])
def test_the_generator_equals_its_definition_in_functions(training):
    network = seeded(Generator, NARROW, 7, 32).train(training)
    norms = [layer for layer in network.layers if isinstance(layer, nn.BatchNorm2d)]
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.uniform_(norm.bias, -0.5, 0.5)
        norm.running_mean.uniform_(-0.1, 0.1)
        norm.running_var.uniform_(0.001, 0.1)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    z = torch.rand(5, 7) * 2 - 1

    def norm_and_relu(index: int, x: torch.Tensor) -> torch.Tensor:
        mean, var, weight, bias = (
            state[f"layers.{index}.{name}"] for name in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(x, mean, var, weight, bias, training).relu()

    x = norm_and_relu(0, (z @ state["project.weight"].T).view(5, 8, 2, 2))
    for convolution, norm in ((2, 3), (5, 6), (8, 9)):
        weight = state[f"layers.{convolution}.weight"]
        assert weight.shape[2:] == (5, 5)
        x = norm_and_relu(norm, F.conv_transpose2d(x, weight, None, 2, 2, 1))
    x = F.conv_transpose2d(x, state["layers.11.weight"], state["layers.11.bias"], 2, 2, 1).tanh()
    torch.testing.assert_close(network(z), x, rtol=1e-5, atol=1e-6)


def test_the_discriminator_equals_its_definition_in_functions():
    network = seeded(Discriminator, (4, 5, 6, 8), 32, "none", 0.25)
    for layer in network.layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.uniform_(layer.bias, -0.5, 0.5)
    nn.init.uniform_(network.head.bias, -0.5, 0.5)
    state = network.state_dict()
    x = images = torch.rand(3, 3, 32, 32) * 2 - 1
    for index in (0, 2, 4, 6):
        weight = state[f"layers.{index}.weight"]
        assert weight.shape[2:] == (5, 5)
        x = F.leaky_relu(F.conv2d(x, weight, state[f"layers.{index}.bias"], 2, 2), 0.2)
    logits = F.linear(x.flatten(1), state["head.weight"], state["head.bias"]) * 0.25
    torch.testing.assert_close(network(images), logits, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", IMAGE_SIZES)
def test_both_networks_support_every_image_size(size):
    images = Generator((4, 3, 2, 2), 5, size)(torch.rand(2, 5))
    assert images.shape == (2, 3, size, size)
    assert Discriminator((2, 2, 3, 4), size)(images).shape == (2, 2)


@pytest.mark.parametrize("normalisation", ["layer", "none"])
def test_a_pack_is_judged_by_all_of_its_images_and_no_others(normalisation):
    network = seeded(Discriminator, NARROW, 32, normalisation, 0.25, 2)
    images = torch.rand(6, 3, 32, 32) * 2 - 1
    logits = network(images)
    assert logits.shape == (3, 2)
    torch.testing.assert_close(network(images[2:4]), logits[1:2])
    for position in (2, 3):
        changed = images.clone()
        changed[position] *= -1
        differences = (network(changed) - logits).abs().sum(1)
        assert differences[1] > 1e-6
        torch.testing.assert_close(differences[[0, 2]], torch.zeros(2))


def test_images_stay_in_range_for_large_features():
    network = seeded(Generator, NARROW, 10, 32)
    with torch.no_grad():
        usual = network(torch.rand(8, 10))
        network.layers[-2].weight *= 1000
        images = network(torch.rand(8, 10))
    assert usual.abs().max() < 0.9
    assert 0.99 < images.max() <= 1
    assert -1 <= images.min() < -0.99


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_logits_depend_on_one_image_alone_without_batch_norm(normalisation):
    network = seeded(Discriminator, (8, 8, 8, 8), 32, normalisation)
    images = torch.rand(6, 3, 32, 32) * 2 - 1
    alone, together = network(images[:2]), network(images)[:2]
    assert network.independent is torch.allclose(alone, together, rtol=1e-4, atol=1e-6)
    assert network.independent is (normalisation != "batch")


def test_layer_norm_normalises_each_image():
    network = seeded(Discriminator, (4, 5, 6, 8), 32, "layer")
    normed: list[torch.Tensor] = []
    for layer in network.layers:
        if isinstance(layer, nn.Conv2d):
            layer.weight.data *= 10  # so that the epsilon of the norm is negligible
        if isinstance(layer, nn.GroupNorm):
            layer.register_forward_hook(lambda layer, _, features: normed.append(features.detach().clone()))
    network(torch.rand(3, 3, 32, 32) * torch.tensor([1.0, 3, 10]).view(3, 1, 1, 1))
    assert [tuple(features.shape[1:]) for features in normed] == [(5, 8, 8), (6, 4, 4), (8, 2, 2)]
    for features in normed:
        mean, variance = features.mean((1, 2, 3)), features.var((1, 2, 3), correction=0)
        torch.testing.assert_close(mean, torch.zeros(3), rtol=0, atol=1e-5)
        torch.testing.assert_close(variance, torch.ones(3), rtol=0.02, atol=0)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_the_composed_layer_norm_equals_group_norm(dtype, tolerance):
    norm = LayerNorm(6)
    nn.init.uniform_(norm.weight, 0.5, 1.5)
    nn.init.uniform_(norm.bias, -0.5, 0.5)
    features = (torch.randn(3, 6, 5, 5) * 4 + 3).to(dtype, memory_format=torch.channels_last)
    composed = norm.composed(features)
    assert composed.dtype == dtype
    assert composed.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(composed.float(), norm(features.float()), rtol=tolerance, atol=tolerance)


def test_the_projection_is_computed_in_float32_under_autocast():
    network = seeded(Generator, (8, 8, 8, 8), 100, 32)
    z, projected = torch.rand(4, 100), []
    network.project.register_forward_hook(lambda *call: projected.append(call[-1]))
    with torch.autocast("cpu", torch.bfloat16):
        images = network(z)
    assert torch.equal(projected[0], z @ network.project.weight.T)
    assert images.dtype == torch.bfloat16


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_gradients_reach_every_weight(normalisation):
    generator = seeded(Generator, NARROW, 10, 32)
    discriminator = Discriminator((4, 5, 6, 8), 32, normalisation)
    real, loss = torch.rand(16, 3, 32, 32) * 2 - 1, CrossEntropy()
    fake = generator(torch.rand(16, 10) * 2 - 1)
    (loss.real(discriminator(real)) + loss.fake(discriminator(fake.detach()))).backward()
    of_discriminator = {name: weight.grad for name, weight in discriminator.named_parameters()}
    loss.generator(discriminator(fake)).backward()
    of_generator = {name: weight.grad for name, weight in generator.named_parameters()}
    for name, gradient in {**of_discriminator, **of_generator}.items():
        assert gradient is not None, name
        assert gradient.isfinite().all(), name
        assert gradient.ne(0).float().mean() > 0.99, name


@pytest.mark.parametrize("make", [make_generator, make_discriminator])
@pytest.mark.parametrize(("preset", "before_norms"), [("quick", 0.01), ("evening", 0.02), ("textbook", 0.02)])
def test_weights_start_from_a_truncated_normal(make, preset, before_norms):
    network = seeded(make, preset_settings(preset))
    # Cut at two standard deviations, a normal has sqrt(1 - 4 phi(2) / (2 Phi(2) - 1)) of its deviation.
    shrinkage = math.sqrt(1 - 4 * math.exp(-2) / math.sqrt(2 * math.pi) / math.erf(math.sqrt(2)))
    weights = [(name, weight.detach()) for name, weight in network.named_parameters()]
    kernels = [(name, weight) for name, weight in weights if weight.ndim > 1]
    assert len(kernels) == 5
    # The layers that no norm follows: G's last, and D's first and last.
    unscaled = {kernels[-1][0]} if make is make_generator else {kernels[0][0], kernels[-1][0]}
    for name, weight in kernels:
        std = 0.02 if name in unscaled else before_norms
        spread = 1 / math.sqrt(weight.numel())
        assert weight.std().item() == pytest.approx(std * shrinkage, rel=4 * spread), name
        assert weight.mean().item() == pytest.approx(0, abs=5 * std * spread), name
        assert weight.abs().max() <= 2 * std, name
        assert weight.abs().max() > 1.95 * std, name
    assert all(not weight.any() for name, weight in weights if name.endswith("bias"))
