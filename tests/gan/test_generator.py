from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from engine.checkpoint import load
from engine.errors import UserError
from engine.runs import checkpoint_path
from gan.config import preset_settings
from gan.generator import LoadedGenerator, load_generator
from gan.latent.vectors import draw
from gan.networks import Generator


def batch_norms(network: nn.Module) -> list[nn.BatchNorm2d]:
    return [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]


def test_an_image_depends_on_its_own_latent_vector_alone(tiny_run):
    generator = load_generator(tiny_run)
    z = draw(64, 100, seed=9)
    images = generator.images(z)
    assert (images.shape, images.dtype) == ((64, 3, 32, 32), np.uint8)
    images = images.astype(int)
    assert images.std(axis=0).mean() > 1  # they differ enough to notice a wrong order
    for rows in (slice(1), slice(3), slice(17), slice(63), slice(5, 6), slice(63, 64)):
        assert abs(generator.images(z[rows]) - images[rows]).max() <= 1
    assert abs(generator.images(z[::-1])[::-1] - images).max() <= 1


def test_the_full_size_generator_treats_each_latent_vector_alike():
    """Libraries may choose another algorithm for another batch size, and wide layers offer more of them."""
    settings = preset_settings("evening")
    torch.manual_seed(0)
    network = Generator(settings.generator_widths, settings.latent_size, settings.image_size)
    z = draw(18, settings.latent_size, seed=1)
    for layer in batch_norms(network):
        layer.momentum = 1.0  # one batch gives the statistics
    with torch.no_grad():
        network(torch.from_numpy(z))
    generator = LoadedGenerator(network.eval(), Path("run"), Path("none.pt"), 0, "raw", settings)
    images = generator.images(z).astype(int)
    assert images.std(axis=0).mean() > 5
    for index in (0, 3, 17):
        assert abs(generator.images(z[index : index + 1]) - images[index]).max() <= 1


def test_images_are_computed_in_float32(tiny_run):
    generator = load_generator(tiny_run)
    assert {weight.dtype for weight in generator.network.parameters()} == {torch.float32}
    dtypes = []
    generator.network.layers.register_forward_hook(lambda _, inputs, output: dtypes.append(output.dtype))
    generator.images(draw(3, 100, 0).astype(np.float64))
    assert dtypes == [torch.float32]


def test_averaged_weights_are_loaded_unless_raw_ones_are_requested(tiny_run):
    averaged, raw = load_generator(tiny_run), load_generator(tiny_run, raw=True)
    assert (averaged.weights, raw.weights) == ("ema", "raw")
    z = draw(4, 100, 0)
    assert not np.array_equal(averaged.images(z), raw.images(z))
    stored = load(averaged.checkpoint)
    assert torch.equal(averaged.network.project.weight, stored["average"]["project.weight"])
    assert torch.equal(raw.network.project.weight, stored["generator"]["project.weight"])


def test_the_average_has_its_own_batch_norm_statistics(tiny_run):
    network, raw = load_generator(tiny_run).network, load_generator(tiny_run, raw=True).network
    statistics: dict[nn.Module, tuple[torch.Tensor, torch.Tensor]] = {}

    def measure(layer, inputs):
        statistics[layer] = inputs[0].mean((0, 2, 3)), inputs[0].var((0, 2, 3))

    for layer in batch_norms(network):
        layer.register_forward_pre_hook(measure)
    with torch.no_grad():
        network(torch.from_numpy(draw(500, 100, seed=77)))
    for layer, raw_layer in zip(batch_norms(network), batch_norms(raw), strict=True):
        mean, variance = statistics[layer]
        assert torch.allclose(layer.running_var, variance, rtol=0.2)
        assert (layer.running_mean - mean).abs().max() < 0.2 * variance.max().sqrt()
        assert not torch.equal(layer.running_var, raw_layer.running_var)


def test_a_checkpoint_is_chosen_by_step_or_file(tiny_run):
    newest = load_generator(tiny_run)
    assert (newest.step, newest.run, newest.seed, newest.image_size) == (6, tiny_run, 3, 32)
    assert load_generator(tiny_run, 2).step == 2
    assert load_generator(tiny_run, newest.checkpoint).step == 6
    with pytest.raises(UserError, match="2, 4, 6"):
        load_generator(tiny_run, 3)


def test_networks_that_do_not_fit_the_settings_are_refused(tiny_run, tmp_path):
    config = (tiny_run / "config.json").read_text(encoding="utf-8")
    edited = config.replace('"image_size": 32', '"image_size": 64')
    (tmp_path / "config.json").write_text(edited, encoding="utf-8")
    with pytest.raises(UserError, match="shapes differ"):
        load_generator(tmp_path, checkpoint_path(tiny_run, 6))


@pytest.mark.parametrize("missing", ["generator", "discriminator"])
def test_a_checkpoint_without_a_network_is_refused(tiny_run, tmp_path, missing):
    state = load(checkpoint_path(tiny_run, 6), mapped=False)
    del state[missing]
    torch.save(state, tmp_path / "other.pt")
    with pytest.raises(UserError, match=r"other\.pt contains networks whose shapes differ"):
        load_generator(tiny_run, tmp_path / "other.pt")


def test_an_unknown_device_is_refused(tiny_run):
    with pytest.raises(UserError, match="nonsense"):
        load_generator(tiny_run, device="nonsense")
