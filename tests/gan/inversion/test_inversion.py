import math
import os

import numpy as np
import pytest
import torch

from gan.inversion import encoder_file
from gan.inversion.coordinates import to_u, to_z
from gan.inversion.distance import Distance
from gan.inversion.encoder import train_encoder
from gan.inversion.encoder_file import encoder_path, load_encoder, save_encoder
from gan.inversion.features import RandomFeatures
from gan.inversion.inversion import FAST, Effort, Inverter, negative_log_prior
from gan.inversion.tuning import tune
from gan.latent.gaussian import to_gaussian
from gan.latent.vectors import draw
from images.tiles import to_float
from tests.small_generator import small_generator

QUICK = Effort(draws=6, adam_steps=15, evaluations=80)


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    return small_generator(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def encoder(generator):
    return train_encoder(generator.network, steps=40)


def test_the_coordinate_is_that_of_the_directions():
    z = torch.tensor([-1.0, -0.999, -0.3, 0.0, 0.7, 1.0])
    inside = z[1:-1]
    np.testing.assert_allclose(to_u(inside), to_gaussian(inside.numpy()), rtol=1e-4)
    torch.testing.assert_close(to_z(to_u(z)), z, atol=2e-6, rtol=0)


def test_the_generators_own_images_are_recovered(generator):
    z = draw(1, generator.latent_size, seed=5)
    progress = []
    found = Inverter(generator).invert(generator.images(z), effort=QUICK, progress=progress.append)
    assert np.abs(found.z - z).max() < 0.05
    assert np.array_equal(found.images, generator.images(found.z))
    assert progress == sorted(progress)
    assert progress[-1] == 1.0


def test_the_encoder_estimates_vectors_and_shortens_the_search(generator, encoder):
    z = draw(6, generator.latent_size, seed=5)
    images = generator.images(z)
    inverter = Inverter(generator, encoder)
    assert np.square(inverter.estimate(images) - z).mean() < 0.5 * np.square(z).mean()
    fast = inverter.invert(images, effort=FAST)
    assert np.median(np.abs(fast.z - z).max(1)) < 0.1


def test_pixels_of_low_weight_may_be_anything(generator):
    z = draw(1, generator.latent_size, seed=6)
    images = generator.images(z)
    weights = np.ones((1, 32, 32), np.float32)
    weights[:, :, 20:] = 0
    damaged = images.copy()
    damaged[..., 20:] = 0
    both = np.concatenate([damaged, damaged])
    found = Inverter(generator).invert(both, np.concatenate([weights, np.ones_like(weights)]), QUICK)
    errors = np.abs(found.z - z).max(1)
    assert errors[0] < 0.05
    assert errors[1] > 0.1


def test_the_prior_is_that_of_the_length_of_a_normal_vector():
    random = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(50, 100, generator=random))
    lengths = torch.linspace(1, 20, 50)
    densities = 99 * lengths.log() - lengths.square() / 2  # of the chi distribution, up to a constant
    values = negative_log_prior(directions * lengths[:, None])
    torch.testing.assert_close(values, 99 / 2 * math.log(99) - 99 / 2 - densities, atol=1e-2, rtol=1e-4)
    assert negative_log_prior(torch.zeros(1, 100)).isfinite().all()
    single = torch.tensor([[0.0], [2.0]])
    torch.testing.assert_close(negative_log_prior(single), torch.tensor([0.0, 2.0]), atol=1e-5, rtol=0)


def test_the_result_of_an_image_does_not_depend_on_the_others(generator):
    images = generator.images(draw(2, generator.latent_size, seed=8))
    effort = Effort(draws=2, adam_steps=10, evaluations=80)
    inverter = Inverter(generator)
    together, alone = (inverter.invert(part, effort=effort).z for part in (images, images[1:2]))
    np.testing.assert_allclose(together[1:2], alone, atol=0.02)


def test_a_search_is_cancelled_by_its_progress(generator):
    class CancelledError(Exception):
        pass

    def cancel(share):
        if share > 0.1:
            raise CancelledError

    with pytest.raises(CancelledError):
        Inverter(generator).invert(generator.images(draw(1, generator.latent_size, 0)), progress=cancel)


def test_without_encoder_and_draws_there_is_no_start(generator):
    with pytest.raises(ValueError, match="needs draws"):
        Inverter(generator).invert(generator.images(draw(1, generator.latent_size, 0)), effort=FAST)


def test_an_encoder_is_kept_beside_its_generator_and_belongs_to_it(generator, encoder, tmp_path):
    mine = small_generator(tmp_path / "run")
    assert load_encoder(mine) is None
    save_encoder(encoder, mine)
    images = to_float(torch.from_numpy(mine.images(draw(2, mine.latent_size, 1))))
    assert torch.equal(load_encoder(mine).estimate(images), encoder.estimate(images))
    assert load_encoder(small_generator(tmp_path / "run", seed=1)) is None
    encoder_path(mine).write_bytes(b"damaged")
    with pytest.raises(Exception, match="delete it"):
        load_encoder(mine)


def test_encoders_of_several_checkpoints_of_a_run_do_not_replace_each_other(encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(encoder_file, "KEPT", 2)
    generators = [small_generator(tmp_path / "run", seed=seed) for seed in range(3)]
    for age, generator in enumerate(generators):
        os.utime(save_encoder(encoder, generator), (age, age))
        if age == 1:
            assert load_encoder(generators[0]) is not None  # so it was used after the other
    assert [load_encoder(generator) is None for generator in generators] == [False, True, False]


def test_random_features_are_differentiable_and_see_differences(generator):
    images = to_float(torch.from_numpy(generator.images(draw(4, generator.latent_size, 2))))
    distance = Distance([RandomFeatures(images.device)], images, 1.0)
    changed = images.clone().requires_grad_()
    same = distance.feature_maps(images)
    value = distance.between_features(distance.feature_maps(changed.roll(1, 0)), same)
    assert (value > 0.05).all()
    value.sum().backward()
    assert changed.grad.abs().sum() > 0
    assert distance.between_features(same, same).max() == 0


def test_tuning_reaches_a_face_outside_and_keeps_the_others(generator):
    other = small_generator(generator.run)
    other.network.project.weight.data.mul_(
        1 + 0.3 * torch.randn(10, generator=torch.Generator().manual_seed(0))
    )
    pivot = draw(1, generator.latent_size, 3)
    target, before = other.images(pivot), generator.images(pivot)
    distance = Inverter(generator).distance_to(target, np.ones((1, 32, 32), np.float32))
    tuned = tune(generator, distance, pivot, steps=60)

    def error(first, second):
        return np.square(first.astype(float) - second).mean()

    assert error(tuned.images(pivot), target) < 0.25 * error(before, target)
    others = draw(16, generator.latent_size, 9)
    change = error(tuned.images(others), generator.images(others))
    assert change < 0.25 * error(generator.images(others[:8]), generator.images(others[8:]))
    assert tuned.digest != generator.digest
    assert np.array_equal(generator.images(pivot), before)
