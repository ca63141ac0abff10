"""One training step: its gradients and updates, compared with its definition written out in float64."""

import contextlib
import copy
from collections.abc import Iterator
from statistics import median
from unittest import mock

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from engine.distributed import World
from gan import losses
from gan.augment import translate
from gan.config import BETA1
from gan.fast_conv import layers
from gan.rollback import Rollback
from gan.trainer import Trainer
from gan.training_step import STATISTICS, Batch
from images.sampler import batch_indices
from images.tiles import to_float
from tests.gan.other_losses import LOSSES, reference_losses
from tests.processes import run_processes
from tests.small_trainer import (
    IMAGES,
    first_gradients,
    record_batches,
    relative_error,
    set_weight,
    trainer,
    trainer_with_large_weights,
    weights,
)

SEED = 2
"""With this seed no value is so close to the kink of a ReLU that float32 rounds it to the other side."""
NORMALISATIONS = ["none", "layer", "batch"]


class Reference:
    """The step as defined, in float64 and without shortcuts."""

    def __init__(self, trainer: Trainer, loss: str = "cross-entropy") -> None:
        self.settings = trainer.settings
        self.loss = loss
        self.generator = copy.deepcopy(trainer.generator).double()
        self.discriminator = copy.deepcopy(trainer.discriminator).double()
        options = {"lr": 1e-4, "betas": (0.5, trainer.settings.beta2)}
        networks = (self.generator, self.discriminator)
        self.optimizers = [torch.optim.Adam(network.parameters(), **options) for network in networks]

    def parameters(self) -> list[torch.Tensor]:
        return [*self.generator.parameters(), *self.discriminator.parameters()]

    def step(self, batch: Batch) -> tuple[list[torch.Tensor], dict[str, float]]:
        """Update both networks; G's gradients, D's gradients, and the `STATISTICS`."""
        fake = self.generator(batch.z.double())
        sets = [batch.real.double(), fake, batch.negatives.double()]
        real_logits, *fake_logits = [self.discriminator(images) for images in sets if len(images)]
        share = self.settings.negatives if len(fake_logits) > 1 else 0.0
        weighted = list(zip((1 - share, share), fake_logits, strict=False))
        discriminator_loss, generator_loss = reference_losses(self.loss, real_logits, weighted)
        weights = list(self.discriminator.parameters())
        of_discriminator = torch.autograd.grad(discriminator_loss, weights, retain_graph=True)
        of_generator = torch.autograd.grad(generator_loss, list(self.generator.parameters()))
        for weight, gradient in zip(self.parameters(), (*of_generator, *of_discriminator), strict=True):
            weight.grad = gradient.clone()
        for optimizer in self.optimizers:
            optimizer.step()
        real, fake = real_logits.softmax(1)[:, 1], fake_logits[0].softmax(1)[:, 1]
        norms = [torch.cat([g.flatten() for g in part]).norm() for part in (of_discriminator, of_generator)]
        values = [
            *(discriminator_loss, generator_loss, real.mean(), fake.mean()),
            *((real > 0.5).double().mean(), (fake < 0.5).double().mean(), *norms),
        ]
        statistics = dict(zip(STATISTICS, [value.item() for value in values], strict=True))
        return [*of_generator, *of_discriminator], statistics


def check_two_steps(loss: str = "cross-entropy", **changes) -> None:
    options = {"augmentation": "none", "flip": False, "seed": SEED}
    tested = trainer_with_large_weights(**options | changes)
    reference, batches = Reference(tested, loss), record_batches(tested)
    before = weights(tested)
    for step in range(2):
        tested.step()
        real = to_float(torch.from_numpy(IMAGES[batch_indices(len(IMAGES), 8, step, SEED)]))
        assert torch.equal(batches[-1].real, real)
        assert len(batches[-1].negatives) == 8 * tested.settings.negatives
        true_gradients, true_statistics = reference.step(batches[-1])
        assert tested.statistics() == pytest.approx(true_statistics, rel=1e-4), step
        if step == 0:
            for gradient, true_gradient in zip(first_gradients(tested), true_gradients, strict=True):
                assert relative_error(gradient, true_gradient) < 1e-4
    for now, true, first in zip(weights(tested), reference.parameters(), before, strict=True):
        # Rounding decides the sign of a gradient near 0, for which Adam's first steps are as long: the mean.
        assert (now - true).abs().mean() <= 1e-3 * (now - first).abs().mean()
    assert not torch.equal(batches[0].z, batches[1].z)


def test_d_judges_each_set_augmented_by_its_own_numbers():
    tested, fakes, judged = trainer(augmentation="always", negatives=0.25), [], []
    batches = record_batches(tested)
    tested.generator.register_forward_hook(lambda *call: fakes.append(call[-1].detach().clone()))
    tested.discriminator.register_forward_pre_hook(lambda _, given: judged.append(given[0].detach().clone()))
    tested.step()
    (batch,) = batches
    sets = [
        (batch.real, batch.real_uniform),
        (fakes[0], batch.fake_uniform),
        (batch.negatives, batch.negative_uniform),
    ]
    assert torch.equal(judged[0], torch.cat([translate(*each) for each in sets]))
    assert not torch.equal(batch.real_uniform, batch.fake_uniform)


@pytest.mark.parametrize("pack", [1, 2, 4])
@pytest.mark.parametrize("negatives", [0.0, 0.5])
@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_a_step_matches_its_definition(normalisation, negatives, pack):
    check_two_steps(normalisation=normalisation, negatives=negatives, pack=pack)


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
@pytest.mark.parametrize("loss", LOSSES)
def test_another_loss_trains_both_networks(loss, normalisation, monkeypatch):
    monkeypatch.setattr(losses, "adversarial_loss", LOSSES[loss])
    check_two_steps(loss, normalisation=normalisation)


def test_a_step_with_fast_convolutions_matches_its_definition(monkeypatch):
    monkeypatch.setattr(layers, "MIN_GAIN", 0)  # networks this small gain nothing
    check_two_steps(normalisation="layer")


@pytest.mark.parametrize("normalisation", ["layer", "batch"])
@pytest.mark.parametrize("loss", ["cross-entropy", *LOSSES])
def test_two_processes_compute_the_gradients_of_the_definition(loss, normalisation, monkeypatch, tmp_path):
    if loss in LOSSES:
        monkeypatch.setattr(losses, "adversarial_loss", LOSSES[loss])
    options = {"normalisation": normalisation, "seed": SEED, "negatives": 0.5, "augmentation": "none"}

    def work(world: World) -> list[torch.Tensor]:
        tested = trainer_with_large_weights(world=world, **options)
        tested.step()
        return first_gradients(tested)

    alone = trainer_with_large_weights(**options)
    reference, batches = Reference(alone, loss), record_batches(alone)
    alone.step()
    truth, _ = reference.step(batches[0])
    for gradients in run_processes(work, tmp_path).results:
        for gradient, true in zip(gradients, truth, strict=True):
            assert relative_error(gradient, true) < 1e-3


def uses_one_backward(trainer: Trainer) -> bool:
    return trainer._training_step.keywords["options"].one_backward


@pytest.mark.parametrize("normalisation", ["layer", "none"])
@pytest.mark.parametrize("lead", [0, 8, 30, 100, 200])
def test_one_backward_pass_gives_the_gradients_of_two(normalisation, lead, monkeypatch):
    """Also through augmentation, and where D is almost certain: the fake logit leads by `lead`."""
    options = {"normalisation": normalisation, "augmentation": "always"}
    one = trainer(**options)
    monkeypatch.delattr(losses.CrossEntropy, "generator_gradient_ratio")
    two = trainer(**options)
    monkeypatch.undo()
    assert (uses_one_backward(one), uses_one_backward(two)) == (True, False)
    for tested in (one, two):
        set_weight(tested.discriminator.head.bias, lead / tested.settings.head_scale)
        tested.step()
    assert all(gradient.norm() > 0 for gradient in first_gradients(two))
    for gradient, other in zip(first_gradients(one), first_gradients(two), strict=True):
        assert relative_error(gradient, other) < 1e-4
    assert one.statistics() == pytest.approx(two.statistics(), rel=1e-4)


def test_a_discriminator_without_independence_gets_two_backward_passes():
    assert not uses_one_backward(trainer(normalisation="batch"))
    tested = trainer()
    del tested.discriminator.independent  # as in someone's own network
    tested.apply_rollback(Rollback())
    assert not uses_one_backward(tested)
    tested.step()


def test_a_loss_that_inherits_an_invalid_ratio_gets_two_backward_passes(monkeypatch):
    class Saturating(losses.CrossEntropy):
        """Goodfellow et al. 2014, equation 1: G minimises what D maximises."""

        def generator(self, logits: torch.Tensor) -> torch.Tensor:
            return -self.fake(logits)

    assert losses.has_valid_ratio(losses.CrossEntropy())
    assert not losses.has_valid_ratio(Saturating())
    monkeypatch.setattr(losses, "adversarial_loss", Saturating())
    assert not uses_one_backward(trainer())


@pytest.mark.parametrize("normalisation", ["layer", "batch"])
def test_in_bfloat16_gradients_have_the_direction_of_float64(normalisation):
    """In networks wide enough for rounding errors to average out; docs/speed.md has those of `evening`."""
    tested = trainer(
        normalisation=normalisation,
        augmentation="none",
        flip=False,
        precision="bfloat16",
        batch_size=24,
        generator_widths=(48, 40, 32, 24),
        discriminator_widths=(24, 32, 40, 48),
    )
    reference, batches = Reference(tested), record_batches(tested)
    tested.step()
    truth, _ = reference.step(batches[0])
    assert {weight.dtype for weight in weights(tested)} == {torch.float32}
    gradients = first_gradients(tested)
    assert max(map(relative_error, gradients, truth)) > 1e-4  # it did compute in bfloat16
    cosines = [
        float(torch.cosine_similarity(gradient.flatten().double(), true.flatten(), dim=0))
        for gradient, true in zip(gradients, truth, strict=True)
    ]
    assert min(cosines) > 0.97
    assert median(cosines) > 0.99


@pytest.mark.parametrize("network", ["generator", "discriminator"])
def test_the_optimizer_is_adam_as_published(network):
    """Kingma and Ba (2015), written out in float64."""
    tested = trainer()
    settings, random = tested.settings, torch.Generator().manual_seed(0)
    tracked = list(tested.networks()[network].parameters())
    true = [weight.detach().double() for weight in tracked]
    means, squares = ([torch.zeros_like(weight) for weight in true] for _ in range(2))
    for step in (1, 2, 3):
        for weight, exact, mean, square in zip(tracked, true, means, squares, strict=True):
            weight.grad = torch.empty_like(weight).normal_(generator=random)
            gradient = weight.grad.double()
            mean.lerp_(gradient, 1 - BETA1)
            square.lerp_(gradient**2, 1 - settings.beta2)
            size = (square / (1 - settings.beta2**step)).sqrt() + 1e-8
            exact -= settings.learning_rate * mean / (1 - BETA1**step) / size
        tested._optimizers()[f"{network}_optimizer"].step()
    for weight, exact in zip(tracked, true, strict=True):
        torch.testing.assert_close(weight.double(), exact, rtol=0, atol=1e-3 * settings.learning_rate)


class ReadBack(TorchDispatchMode):
    """Records operations that make the host wait for a tensor's value."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        if any(name in str(function) for name in ("_local_scalar_dense", "nonzero")):
            self.calls.append(str(function))
        return function(*arguments, **(options or {}))


@pytest.fixture
def read_back() -> Iterator[list[str]]:
    """The functions that read tensors back while a test runs."""
    mode = ReadBack()

    def recording(name: str):
        original = getattr(torch.Tensor, name)

        def recorded(self, *arguments, **options):
            mode.calls.append(name)
            return original(self, *arguments, **options)

        return mock.patch.object(torch.Tensor, name, recorded)

    with contextlib.ExitStack() as stack:
        for name in ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__", "__array__"):
            stack.enter_context(recording(name))
        stack.enter_context(mode)
        yield mode.calls


@pytest.mark.parametrize("textbook", [False, True])
def test_a_step_reads_nothing_back_from_the_device(textbook, read_back):
    tested = trainer(textbook=textbook, augmentation="adaptive")
    tested.step()
    read_back.clear()
    tested.step()
    assert read_back == []
    tested.statistics()
    tested.check_finite()
    assert read_back  # the recording works
