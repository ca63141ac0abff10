import numpy as np
import pytest
import torch
from torch import nn

from engine.ema import AveragedNetwork, estimate_batch_norm_statistics
from gan.generator import balanced_latents, estimate_batch_norm
from gan.latent.vectors import draw
from gan.networks import Generator

MANY = 1_000_000
"""Images seen: enough for the ramp-up to be over."""


def make(seed: int = 0) -> Generator:
    torch.manual_seed(seed)
    return Generator((6, 5, 4, 3), 8, 32)


def fill(network: Generator, value: float) -> None:
    with torch.no_grad():
        for weight in network.parameters():
            weight.fill_(value)


def value_of(average: AveragedNetwork) -> float:
    """The value that all weights have."""
    low = min(weight.min().item() for weight in average.network.parameters())
    high = max(weight.max().item() for weight in average.network.parameters())
    assert low == pytest.approx(high, abs=1e-6)
    return low


def update(average: AveragedNetwork, generator: Generator, batch_size: int, images_seen: int) -> None:
    average.update(generator, torch.tensor(average.lerp_weight(batch_size, images_seen)))


def from_0_to_1(half_life: float) -> tuple[AveragedNetwork, Generator]:
    """An average of zeros, and a generator of ones."""
    generator = make()
    fill(generator, 0)
    average = AveragedNetwork(generator, half_life)
    fill(generator, 1)
    return average, generator


def test_after_a_half_life_the_average_is_halfway():
    average, generator = from_0_to_1(half_life=1000)
    expected = {1000: 1 / 2, 2000: 3 / 4, 3000: 7 / 8}
    for step in range(1, 31):
        update(average, generator, 100, MANY)
        if 100 * step in expected:
            assert value_of(average) == pytest.approx(expected[100 * step], abs=1e-5)
    assert all((weight == 1).all() for weight in generator.parameters())


def test_the_average_is_independent_of_the_batch_size():
    values = []
    for batch_size in (24, 96, 480):
        average, generator = from_0_to_1(half_life=700)
        for _ in range(480 // batch_size):
            update(average, generator, batch_size, MANY)
        values.append(value_of(average))
    # 480 images of a half-life of 700.
    assert values == pytest.approx([1 - 0.5 ** (480 / 700)] * 3, abs=1e-5)


def test_early_averages_forget_the_initial_weights():
    """The half-life is at most a tenth of the images seen: 10 after 100, 20 after 200."""
    average, generator = from_0_to_1(half_life=25)
    update(average, generator, 100, 100)
    assert value_of(average) == pytest.approx(1 - 2**-10, abs=1e-6)
    fill(generator, 0)
    update(average, generator, 100, 200)
    assert value_of(average) == pytest.approx((1 - 2**-10) * 2**-5, abs=1e-6)
    fill(generator, 1)
    update(average, generator, 50, 250)  # the half-life stays 25 from here on
    before = (1 - 2**-10) * 2**-5
    assert value_of(average) == pytest.approx(before + (1 - before) * (1 - 2**-2), abs=1e-6)
    update(average, generator, 50, 10_000)
    assert value_of(average) == pytest.approx(1 - (1 - before) * 2**-4, abs=1e-6)


def test_the_average_starts_as_a_copy_without_gradients():
    generator = make()
    average = AveragedNetwork(generator, 1000)
    for averaged, weight in zip(average.network.parameters(), generator.parameters(), strict=True):
        assert torch.equal(averaged, weight)
        assert averaged.data_ptr() != weight.data_ptr()
        assert averaged.dtype == torch.float32
        assert not averaged.requires_grad
        assert weight.requires_grad


@pytest.mark.parametrize("size", [8, 100, 300])
def test_latents_for_statistics_have_the_moments_of_their_distribution(size):
    z = balanced_latents(size, seed=4)
    assert z.dtype == torch.float32
    assert z.shape == (500 if size <= 100 else 1200, size)
    batches = z.double().split(100)
    assert max(batch.mean(0).abs().max() for batch in batches) < 1e-7
    torch.testing.assert_close(
        z.double().T @ z.double() / len(z), torch.eye(size, dtype=torch.float64) / 3, rtol=0, atol=1e-6
    )
    assert (z.abs() > 1).float().mean() < 0.15
    assert not torch.equal(z, balanced_latents(size, seed=5))


def test_statistics_of_the_first_layer_are_those_of_the_distribution():
    network = make()
    estimate_batch_norm(network, seed=4)
    weight = network.project.weight.detach().double()
    first = network.layers[0]
    torch.testing.assert_close(first.running_mean, torch.zeros(6), rtol=0, atol=1e-6)
    # Each feature is a sum of independent values of variance 1/3; a channel has features of 2 x 2 places.
    exact = (weight**2).sum(1).view(6, 4).mean(1) / 3
    torch.testing.assert_close(first.running_var.double(), exact, rtol=0.01, atol=0)


def test_statistics_hardly_depend_on_the_seed():
    """With independent latent vectors, they depend on it more than twice as much."""
    network, z = make(), torch.from_numpy(draw(64, 8, seed=0))

    def spread(estimate):
        images = []
        for seed in range(4):
            estimate(network, seed)
            images.append(network.eval()(z).detach())
        return torch.stack(images).std(0).mean()

    def from_independent_latents(network, seed):
        draws = torch.Generator().manual_seed(seed)
        batches = [torch.rand(100, 8, generator=draws) * 2 - 1 for _ in range(5)]
        estimate_batch_norm_statistics(network, batches)

    assert spread(estimate_batch_norm) < 0.5 * spread(from_independent_latents)


def test_statistics_of_every_layer_are_those_of_its_inputs():
    network = make()
    inputs_of: dict[nn.Module, list[np.ndarray]] = {}
    norms = [layer for layer in network.layers if isinstance(layer, nn.BatchNorm2d)]
    for norm in norms:
        inputs_of[norm] = []
        norm.register_forward_pre_hook(lambda norm, args: inputs_of[norm].append(args[0].numpy().copy()))
    estimate_batch_norm(network, seed=4)
    assert len(norms) == 4
    for norm in norms:
        inputs = np.stack(inputs_of[norm]).astype(np.float64)
        np.testing.assert_allclose(norm.running_mean, inputs.mean((0, 1, 3, 4)), atol=1e-6)
        np.testing.assert_allclose(norm.running_var, inputs.var((1, 3, 4), ddof=1).mean(0), rtol=1e-5)


@pytest.mark.parametrize("training", [False, True])
def test_only_the_statistics_change(training):
    network = make().train(training)
    network.layers[3].momentum = 0.37
    before = {name: value.clone() for name, value in network.state_dict().items()}
    estimate_batch_norm(network, seed=0)
    assert network.training is training
    assert network.layers[0].training is training
    norms = [layer for layer in network.layers if isinstance(layer, nn.BatchNorm2d)]
    assert [norm.momentum for norm in norms] == [0.1, 0.37, 0.1, 0.1]
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert {name.split(".")[-1] for name in changed} == {"running_mean", "running_var", "num_batches_tracked"}
    assert all(weight.grad is None for weight in network.parameters())


def test_statistics_depend_only_on_weights_and_seed():
    first, second = make(), make()
    estimate_batch_norm(first, seed=7)
    second.train()(torch.rand(16, 8) * 5)  # other statistics before
    torch.manual_seed(99)
    state = torch.get_rng_state()
    estimate_batch_norm(second, seed=7)
    assert torch.equal(torch.get_rng_state(), state)
    statistics = [name for name in first.state_dict() if "running" in name]
    assert len(statistics) == 8
    for name in statistics:
        assert torch.equal(first.state_dict()[name], second.state_dict()[name])
    estimate_batch_norm(second, seed=8)
    assert not torch.equal(first.layers[0].running_mean, second.layers[0].running_mean)
