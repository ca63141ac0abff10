import copy
from unittest import mock

import numpy as np
import pytest
import torch

from engine.finite import DivergedError
from gan.fast_conv import im2col, winograd
from gan.fast_conv import layers as convolution
from gan.generator import estimate_batch_norm
from gan.latent.vectors import draw
from gan.losses import probability_real
from gan.rollback import Rollback
from gan.trainer import Trainer
from gan.training_step import STATISTICS
from images.sampler import batch_indices
from images.tiles import to_float, to_uint8
from tests.small_trainer import CPU, IMAGES, record_batches, set_weight, trainer, weights
from tests.states import assert_equal


def snapshot(trainer: Trainer) -> dict:
    """The trainer's state as a checkpoint stores it."""
    return copy.deepcopy(trainer.state()) | {"step": trainer.step_count}


def after_steps(count: int, made: Trainer | None = None, **changes) -> Trainer:
    made = made or trainer(**changes)
    for _ in range(count):
        made.step()
    return made


@pytest.mark.parametrize("textbook", [False, True])
def test_sampling_saving_and_checking_leave_the_next_steps_unchanged(textbook):
    busy = trainer(textbook=textbook)
    for _ in range(2):
        busy.samples()
        busy.step()
        busy.check_finite()
        busy.state()
        busy.samples()
        busy.mean_probability_real(IMAGES)
    assert_equal(snapshot(after_steps(2, textbook=textbook)), snapshot(busy))


def test_the_global_random_state_is_neither_used_nor_changed():
    torch.manual_seed(1)
    first = after_steps(1)
    first.samples()
    drawn = torch.rand(3)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(3), drawn)
    assert_equal(snapshot(first), snapshot(after_steps(1)))


def test_another_seed_gives_other_weights_and_samples():
    first, second = trainer(), trainer(seed=1)
    pairs = zip(weights(first), weights(second), strict=True)
    assert not any(torch.equal(left, right) for left, right in pairs if left.dim() > 1)
    assert not np.array_equal(first.samples(), second.samples())


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("textbook", [False, True])
def test_resuming_from_a_state_is_bit_exact(textbook, precision):
    options = {"textbook": textbook, "precision": precision}
    straight, resumed = after_steps(3, **options), trainer(**options)  # in the middle of an epoch
    resumed.load_state(snapshot(straight))
    assert np.array_equal(straight.samples(), resumed.samples())
    for each in (straight, resumed):
        after_steps(3, each)
    assert straight.statistics() == resumed.statistics()
    assert_equal(snapshot(straight), snapshot(resumed))


@pytest.mark.parametrize(("algorithm", "precision"), [(winograd, "float32"), (im2col, "bfloat16")])
def test_resuming_is_bit_exact_with_fast_convolutions(algorithm, precision, monkeypatch):
    derivatives = mock.Mock(wraps=algorithm.derivatives)
    monkeypatch.setattr(algorithm, "derivatives", derivatives)
    monkeypatch.setattr(im2col, "MIN_CHANNELS", 0)
    monkeypatch.setattr(convolution, "MIN_GAIN", 0)
    straight, resumed = after_steps(1, precision=precision), trainer(precision=precision)
    resumed.load_state(snapshot(straight))
    for each in (straight, resumed):
        after_steps(2, each)
    assert derivatives.called
    assert_equal(snapshot(straight), snapshot(resumed))


def test_resuming_with_other_adam_settings_uses_them():
    first, resumed = after_steps(1), trainer(learning_rate=1e-9, beta2=0.9)
    resumed.load_state(snapshot(first))
    resumed.step()
    assert all(
        torch.allclose(*pair, atol=1e-8) for pair in zip(weights(first), weights(resumed), strict=True)
    )
    (group,) = resumed.state()["generator_optimizer"]["param_groups"]
    assert (group["lr"], group["betas"]) == (1e-9, (0.5, 0.9))


def test_initializing_copies_networks_and_nothing_else():
    source, new = after_steps(2), trainer(seed=5)
    new.initialize_from(snapshot(source))
    assert new.step_count == 0
    assert_equal(weights(source), weights(new))
    assert new.state()["generator_optimizer"]["state"] == {}
    assert new.state()["summed"] == 0
    average = new.state()["average"]
    assert torch.equal(average["project.weight"], source.state()["average"]["project.weight"])


def test_a_missing_average_starts_with_the_generator():
    source, new = after_steps(1, textbook=True), trainer(normalisation="batch", head_scale=1.0, pack=1)
    new.initialize_from(snapshot(source))
    assert torch.equal(new.state()["average"]["project.weight"], source.generator.project.weight)


def test_an_average_of_the_source_continues_at_its_full_half_life():
    source = snapshot(after_steps(1))
    with_average, without = trainer(seed=5), trainer(seed=5)
    with_average.initialize_from(source)
    without.initialize_from(source | {"average": None})
    before = source["average"]["project.weight"]
    changes = []
    for new in (with_average, without):
        new.step()
        average, raw = new.state()["average"]["project.weight"], new.generator.project.weight.detach()
        changes.append((average - before).abs().max() / (raw - before).abs().max())
    assert float(changes[0]) < 0.01
    assert float(changes[1]) > 0.99
    resumed = trainer(seed=5)
    resumed.load_state(snapshot(with_average))
    for each in (with_average, resumed):
        each.step()
    assert_equal(snapshot(with_average), snapshot(resumed))


def test_starting_over_uses_the_networks_of_the_source():
    source, new = after_steps(1), trainer(seed=5)
    new.initialize_from(snapshot(source))
    new.step()
    new.roll_back(Rollback(1), None)
    assert new.step_count == 0
    assert_equal(weights(source), weights(new))


def test_a_rollback_restores_the_state_with_other_random_numbers_and_a_smaller_learning_rate():
    rolled_back, resumed = after_steps(2), trainer()
    state, before = snapshot(rolled_back), weights(rolled_back)
    rolled_back.step()
    rolled_back.roll_back(Rollback(1, 2), state)
    resumed.load_state(state)
    assert rolled_back.step_count == 2
    assert_equal(before, weights(rolled_back))
    batches = [record_batches(each) for each in (rolled_back, resumed)]
    for each in (rolled_back, resumed):
        each.step()
    assert not torch.equal(batches[0][0].z, batches[1][0].z)
    assert not torch.equal(batches[0][0].real, batches[1][0].real)
    rates = [
        each.state()[f"{name}_optimizer"]["param_groups"][0]["lr"]
        for each in (rolled_back, resumed)
        for name in ("generator", "discriminator")
    ]
    assert rates == [5e-5, 5e-5, 1e-4, 1e-4]


@pytest.mark.parametrize("half_life", [0.0, 1e6])
def test_samples_are_repeatable_and_change_with_every_step(half_life):
    tested = trainer(ema_half_life=half_life, learning_rate=1e-2)
    before = tested.samples()
    assert (before.shape, before.dtype) == ((64, 3, 32, 32), np.uint8)
    tested.step()
    after = tested.samples()
    assert not np.array_equal(after, before)
    assert np.array_equal(tested.samples(), after)
    network = tested.average.network if half_life else tested.generator
    with torch.no_grad():
        images = network.eval()(torch.from_numpy(draw(64, 100, tested.settings.seed)))
    assert np.abs(after.astype(int) - to_uint8(images).numpy()).max() <= 1


@pytest.mark.parametrize("use", [Trainer.samples, Trainer.state], ids=["samples", "state"])
def test_statistics_of_the_average_are_estimated_once_a_step_and_after_loading(monkeypatch, use):
    estimate = mock.Mock(wraps=estimate_batch_norm)
    monkeypatch.setattr("gan.trainer.estimate_batch_norm", estimate)
    tested = after_steps(1)
    state = snapshot(tested)
    tested.samples()
    assert estimate.call_count == 1
    tested.step()
    use(tested)
    tested.samples()
    assert estimate.call_count == 2
    tested.load_state(state | {"step": 2})
    use(tested)
    assert estimate.call_count == 3
    assert_equal(snapshot(tested)["average"], state["average"])


def test_statistics_are_means_since_the_last_call():
    values, tested = [], trainer(augmentation="none")
    for _ in range(3):
        tested.step()
        values.append(tested.statistics())
    means = {name: sum(value[name] for value in values) / 3 for name in STATISTICS}
    assert after_steps(3, augmentation="none").statistics() == pytest.approx(means, rel=1e-5)


@pytest.mark.parametrize("normalisation", ["layer", "batch"])
def test_the_probability_is_the_mean_over_whole_batches_without_augmentation(normalisation):
    """30 images are three batches of 8; with batch norm, each has its own statistics."""
    tested = after_steps(1, normalisation=normalisation, augmentation="always", pack=1)
    batches = to_float(torch.from_numpy(IMAGES[:24])).split(8)
    with torch.no_grad():
        expected = torch.stack([probability_real(tested.discriminator(batch)).mean() for batch in batches])
    assert tested.mean_probability_real(IMAGES) == pytest.approx(float(expected.mean()), abs=1e-6)


def test_the_probability_is_of_packs_of_distant_images():
    tested = after_steps(1, pack=2)
    images = to_float(torch.from_numpy(IMAGES[:24]))
    order = [0, 4, 1, 5, 2, 6, 3, 7]
    with torch.no_grad():
        expected = torch.stack(
            [probability_real(tested.discriminator(batch[order])).mean() for batch in images.split(8)]
        )
    assert tested.mean_probability_real(IMAGES) == pytest.approx(float(expected.mean()), abs=1e-6)


@pytest.mark.parametrize("textbook", [False, True])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_the_first_step_that_is_not_finite_is_named_at_any_later_check(textbook, bad):
    tested = after_steps(1, textbook=textbook)
    tested.check_finite()
    set_weight(tested.generator.project.weight, bad)
    after_steps(3, tested)
    with pytest.raises(DivergedError, match=r"at step 2$"):
        tested.check_finite()


@pytest.mark.parametrize("indices", [None, np.arange(1, 30, 2)])
def test_images_in_memory_mapped_or_on_the_device_give_the_same_networks(tmp_path, monkeypatch, indices):
    np.save(tmp_path / "images.npy", IMAGES)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")

    def state(images: np.ndarray) -> dict:
        """After five steps, in the second epoch."""
        return after_steps(5, Trainer(trainer().settings, images, CPU, indices)).state()

    expected = state(IMAGES)
    assert_equal(state(mapped), expected)
    monkeypatch.setattr("gan.trainer._copy_to_device", lambda images, _: torch.tensor(images))
    assert_equal(state(IMAGES), expected)


def test_half_of_a_batch_is_mirrored_and_latent_vectors_fill_the_prior():
    tested = trainer(batch_size=30)
    batches = record_batches(tested)
    tested.step()
    (batch,) = batches
    images = to_float(torch.from_numpy(IMAGES[batch_indices(30, 30, 0, tested.settings.seed)]))
    pairs = list(zip(batch.real, images, strict=True))
    mirrored = sum(torch.equal(real, image.flip(2)) for real, image in pairs)
    assert 5 < mirrored < 25
    assert sum(torch.equal(real, image) for real, image in pairs) == 30 - mirrored
    assert -1 <= batch.z.min() < -0.9 < 0.9 < batch.z.max() < 1
    assert abs(batch.z.mean()) < 0.05


def test_only_the_training_indices_are_trained_on():
    indices = np.arange(1, 30, 2)
    tested = Trainer(trainer(flip=False).settings, IMAGES, CPU, indices)
    batches = record_batches(tested)
    after_steps(2, tested)
    training = {image.numpy().tobytes() for image in to_float(torch.from_numpy(IMAGES[indices]))}
    trained = {image.numpy().tobytes() for batch in batches for image in batch.real}
    assert len(trained) == 15
    assert trained == training
