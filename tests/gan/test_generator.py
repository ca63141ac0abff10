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


def test_an_image_depends_on_its_own_vector_alone(tiny_run):
    generator = load_generator(tiny_run)
    z = draw(64, 100, seed=9)
    grid = generator.images(z).astype(int)
    assert (grid.shape, generator.images(z).dtype) == ((64, 3, 32, 32), np.uint8)
    assert grid.std(axis=0).mean() > 1  # they differ, so that a mix-up would show
    for count in (1, 2, 3, 16, 17, 63):
        assert abs(generator.images(z[:count]) - grid[:count]).max() <= 1
    for index in (5, 63):
        assert abs(generator.images(z[index : index + 1]) - grid[index]).max() <= 1
    assert abs(generator.images(z[::-1])[::-1] - grid).max() <= 1


def test_sampling_is_in_float32(tiny_run):
    generator = load_generator(tiny_run)
    assert {weight.dtype for weight in generator.network.parameters()} == {torch.float32}
    z = draw(3, 100, 0)
    seen = []
    generator.network.layers.register_forward_hook(lambda _, inputs, output: seen.append(output.dtype))
    generator.images(z.astype(np.float64))
    assert seen == [torch.float32]


def test_averaged_weights_are_the_default_and_raw_ones_the_choice(tiny_run):
    averaged, raw = load_generator(tiny_run), load_generator(tiny_run, raw=True)
    assert (averaged.weights, raw.weights) == ("ema", "raw")
    z = draw(4, 100, 0)
    assert not np.array_equal(averaged.images(z), raw.images(z))
    stored = load(averaged.checkpoint)
    assert torch.equal(averaged.network.project.weight, stored["average"]["project.weight"])
    assert torch.equal(raw.network.project.weight, stored["generator"]["project.weight"])


def test_the_average_is_stored_with_batch_norm_statistics_of_its_own(tiny_run):
    generator = load_generator(tiny_run).network
    raw = load_generator(tiny_run, raw=True).network
    found: dict[nn.Module, tuple[torch.Tensor, torch.Tensor]] = {}

    def measure(layer, inputs):
        found[layer] = inputs[0].mean((0, 2, 3)), inputs[0].var((0, 2, 3))

    norms = [layer for layer in generator.layers if isinstance(layer, nn.BatchNorm2d)]
    for layer in norms:
        layer.register_forward_pre_hook(measure)
    with torch.no_grad():
        generator(torch.from_numpy(draw(500, 100, seed=77)))
    raw_norms = [layer for layer in raw.layers if isinstance(layer, nn.BatchNorm2d)]
    for layer, raw_layer in zip(norms, raw_norms, strict=True):
        mean, variance = found[layer]
        assert torch.allclose(layer.running_var, variance, rtol=0.2)
        assert (layer.running_mean - mean).abs().max() < 0.2 * variance.max().sqrt()
        assert not torch.equal(layer.running_var, raw_layer.running_var)


def test_which_checkpoint(tiny_run):
    newest = load_generator(tiny_run)
    assert (newest.step, newest.run, newest.seed, newest.image_size) == (6, tiny_run, 3, 32)
    by_step, by_file = load_generator(tiny_run, 2), load_generator(tiny_run, newest.checkpoint)
    assert (by_step.step, by_file.step) == (2, 6)
    with pytest.raises(UserError, match="2, 4, 6"):
        load_generator(tiny_run, 3)


def test_networks_that_do_not_fit_the_runs_settings_are_told(tiny_run, tmp_path):
    info = (tiny_run / "config.json").read_text(encoding="utf-8")
    other = info.replace('"image_size": 32', '"image_size": 64')
    (tmp_path / "config.json").write_text(other, encoding="utf-8")
    with pytest.raises(UserError, match="another shape"):
        load_generator(tmp_path, checkpoint_path(tiny_run, 6))


@pytest.mark.parametrize("missing", ["generator", "discriminator"])
def test_a_checkpoint_of_another_kind_of_run_is_told(tiny_run, tmp_path, missing):
    state = load(checkpoint_path(tiny_run, 6), mapped=False)
    del state[missing]
    torch.save(state, tmp_path / "other.pt")
    with pytest.raises(UserError, match=r"other\.pt contains networks whose shapes differ"):
        load_generator(tiny_run, tmp_path / "other.pt")


def test_a_device_that_is_not_there_is_told(tiny_run):
    with pytest.raises(UserError, match="nonsense"):
        load_generator(tiny_run, device="nonsense")


def test_the_full_size_generator_too_makes_each_image_by_itself():
    """Libraries may choose another way for another number of images, and wide layers leave them more ways."""
    settings = preset_settings("light")
    torch.manual_seed(0)
    network = Generator(settings.generator_widths, settings.latent_size, settings.image_size)
    z = draw(18, settings.latent_size, seed=1)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0  # so that one batch gives statistics by which the faces differ
    with torch.no_grad():
        network(torch.from_numpy(z))
    generator = LoadedGenerator(network.eval(), Path("run"), Path("none.pt"), 0, "raw", settings)
    grid = generator.images(z).astype(int)
    assert grid.std(axis=0).mean() > 5
    for index in (0, 3, 17):
        assert abs(generator.images(z[index : index + 1]) - grid[index]).max() <= 1
