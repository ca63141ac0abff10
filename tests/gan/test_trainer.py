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
from gan.rollback import Rollback
from gan.trainer import Trainer
from gan.training_step import STATISTICS
from images.tiles import to_uint8
from tests.small_trainer import IMAGES, trainer, weights
from tests.states import assert_equal


def snapshot(of: Trainer) -> dict:
    return copy.deepcopy(of.state())


@pytest.mark.parametrize("plain", [False, True])
def test_sampling_saving_and_asking_leave_the_training_as_it_is(plain):
    quiet, busy = trainer(plain=plain), trainer(plain=plain)
    for _ in range(2):
        quiet.step()
        busy.samples()
        busy.step()
        busy.check_finite()
        busy.state()
        busy.samples()
    assert_equal(snapshot(quiet), snapshot(busy))


def test_the_global_random_state_is_neither_used_nor_touched():
    torch.manual_seed(1)
    one = trainer()
    one.step()
    one.samples()
    drawn = torch.rand(3)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(3), drawn)
    other = trainer()
    torch.rand(5)
    other.step()
    assert_equal(snapshot(one), snapshot(other))


def test_another_seed_is_another_training():
    one, other = trainer(), trainer(seed=1)
    pairs = zip(weights(one), weights(other), strict=True)
    assert not any(torch.equal(w, v) for w, v in pairs if w.dim() > 1)
    assert not np.array_equal(one.samples(), other.samples())


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("plain", [False, True])
def test_a_trainer_goes_on_from_anothers_state_bit_for_bit(plain, precision):
    straight = trainer(plain=plain, precision=precision)
    for _ in range(3):  # 24 of 30 images: in the middle of an epoch
        straight.step()
    resumed = trainer(plain=plain, precision=precision)
    resumed.load_state(snapshot(straight) | {"step": 3})
    assert np.array_equal(straight.samples(), resumed.samples())
    for _ in range(3):
        straight.step()
        resumed.step()
    assert straight.step_count == resumed.step_count == 6
    assert straight.statistics() == resumed.statistics()
    assert_equal(snapshot(straight), snapshot(resumed))


@pytest.mark.parametrize(("way", "precision"), [(winograd, "float32"), (im2col, "bfloat16")])
def test_layers_computed_another_way_go_on_bit_for_bit(way, precision, monkeypatch):
    """As wide ones are; only that the gain is not asked for lets narrow ones take this way."""
    used = []
    derivatives = way.derivatives
    monkeypatch.setattr(way, "derivatives", lambda *of: used.append(of) or derivatives(*of))
    monkeypatch.setattr(im2col, "MIN_CHANNELS", 0)
    monkeypatch.setattr(convolution, "MIN_GAIN", 0)
    straight, resumed = trainer(precision=precision), trainer(precision=precision)
    straight.step()
    resumed.load_state(snapshot(straight) | {"step": 1})
    for _ in range(2):
        straight.step()
        resumed.step()
    assert used
    assert_equal(snapshot(straight), snapshot(resumed))


def test_going_on_with_another_learning_rate_uses_it():
    first = trainer()
    first.step()
    slow = trainer(learning_rate=1e-9)
    slow.load_state(snapshot(first) | {"step": 1})
    slow.step()
    assert all(torch.allclose(w, v, atol=1e-8) for w, v in zip(weights(first), weights(slow), strict=True))
    (group,) = slow.state()["generator_optimizer"]["param_groups"]
    assert group["lr"] == 1e-9


def test_taking_over_networks_takes_them_alone():
    first = trainer()
    for _ in range(2):
        first.step()
    begun = trainer(seed=5)
    begun.initialize_from(snapshot(first) | {"step": 2})
    assert begun.step_count == 0
    assert all(torch.equal(w, v) for w, v in zip(weights(first), weights(begun), strict=True))
    assert begun.state()["generator_optimizer"]["state"] == {}
    assert begun.state()["summed"] == 0
    average = begun.state()["average"]
    assert torch.equal(average["project.weight"], first.state()["average"]["project.weight"])


def test_an_average_begins_with_the_generator_where_there_was_none():
    plain = trainer(plain=True)
    plain.step()
    begun = trainer(normalisation="batch", head_scale=1.0)
    begun.initialize_from(snapshot(plain) | {"step": 1})
    assert torch.equal(begun.state()["average"]["project.weight"], plain.generator.project.weight)


def test_an_average_that_was_given_is_not_forgotten_at_the_first_step():
    first = trainer()
    first.step()
    given, anew = trainer(seed=5), trainer(seed=5)
    for begun, with_average in ((given, True), (anew, False)):
        begun.initialize_from(snapshot(first) | ({} if with_average else {"average": None}))
        begun.step()
    before = snapshot(first)["average"]["project.weight"]
    raw = [begun.generator.project.weight for begun in (given, anew)]
    average = [begun.state()["average"]["project.weight"] for begun in (given, anew)]
    assert (average[0] - before).abs().max() < 0.01 * (raw[0] - before).abs().max()
    assert torch.allclose(average[1], raw[1], atol=1e-6)
    gone_on = trainer(seed=5)
    gone_on.load_state(snapshot(given) | {"step": 1})
    for continued in (given, gone_on):
        continued.step()
    assert_equal(snapshot(given), snapshot(gone_on))


def test_starting_again_is_from_the_networks_that_were_given():
    first = trainer()
    first.step()
    begun = trainer(seed=5)
    begun.initialize_from(snapshot(first))
    begun.step()
    begun.roll_back(Rollback(1), None)
    assert begun.step_count == 0
    assert all(torch.equal(w, v) for w, v in zip(weights(first), weights(begun), strict=True))


def test_samples_are_the_averages_and_the_raw_generators_in_the_plain_form():
    default, plain = trainer(ema_half_life=1e6), trainer(plain=True, learning_rate=1e-2)
    for tried in (default, plain):
        before = tried.samples()
        assert (before.shape, before.dtype) == ((64, 3, 32, 32), np.uint8)
        tried.step()
        assert not np.array_equal(tried.samples(), before)
        assert np.array_equal(tried.samples(), tried.samples())
    plain.generator.eval()
    with torch.no_grad():
        raw = plain.generator(torch.from_numpy(draw(64, 100, plain.settings.seed)))
    assert np.abs(plain.samples().astype(int) - to_uint8(raw).numpy()).max() <= 1


@pytest.mark.parametrize("look", [Trainer.samples, Trainer.state], ids=["samples", "state"])
def test_an_average_gets_its_statistics_once_a_step_and_whenever_it_is_another(monkeypatch, look):
    estimated = mock.Mock(wraps=estimate_batch_norm)
    monkeypatch.setattr("gan.trainer.estimate_batch_norm", estimated)
    tried = trainer()
    tried.step()
    state = snapshot(tried)
    tried.samples()
    assert estimated.call_count == 1
    tried.step()
    look(tried)
    tried.samples()
    assert estimated.call_count == 2
    tried.load_state(state | {"step": 2})
    look(tried)
    assert estimated.call_count == 3
    assert_equal(snapshot(tried)["average"], state["average"])


def test_statistics_are_means_since_they_were_last_asked_for():
    each, all_at_once = trainer(augmentation="none"), trainer(augmentation="none")
    values = []
    for _ in range(3):
        each.step()
        all_at_once.step()
        values.append(each.statistics())
    mean = {name: sum(value[name] for value in values) / 3 for name in STATISTICS}
    assert all_at_once.statistics() == pytest.approx(mean, rel=1e-5)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_the_first_step_that_is_not_finite_is_named_however_late_it_is_asked_for(plain, bad):
    tried = trainer(plain=plain)
    tried.step()
    tried.check_finite()
    with torch.no_grad():
        tried.generator.project.weight[0, 0] = bad
    for _ in range(3):
        tried.step()
    with pytest.raises(DivergedError, match=r"at step 2$"):
        tried.check_finite()


def test_images_may_be_mapped_from_disk(tmp_path):
    np.save(tmp_path / "images.npy", IMAGES)
    held = trainer()
    settings = held.settings
    mapped = Trainer(settings, np.load(tmp_path / "images.npy", mmap_mode="r"), torch.device("cpu"))
    for each in (held, mapped):
        each.step()
    assert_equal(snapshot(held), snapshot(mapped))


@pytest.mark.parametrize("trained", [None, np.arange(1, 30, 2)])
def test_images_held_on_the_device_are_those_that_are_copied_to_it(monkeypatch, trained):
    """On a GPU with room for them; here it is only pretended."""

    def moved() -> Trainer:
        made = Trainer(trainer().settings, IMAGES, torch.device("cpu"), trained)
        for _ in range(5):  # into the second epoch
            made.step()
        return made

    copied = moved()
    monkeypatch.setattr(
        "gan.trainer._copy_to_device", lambda images, device: torch.tensor(images, device=device)
    )
    held = moved()
    assert held._input.dtype == torch.int64
    assert_equal(held.state(), copied.state())
