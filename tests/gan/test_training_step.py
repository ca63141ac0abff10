"""One step: its gradients and updates, against the definition written out in float64."""

import copy
from collections.abc import Iterator
from statistics import median
from unittest import mock

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from engine.distributed import World
from gan import losses
from gan.config import BETA1, Settings
from gan.fast_conv import layers
from gan.rollback import Rollback
from gan.trainer import Trainer
from gan.training_step import STATISTICS, Batch
from images.sampler import batch_indices
from images.tiles import to_float
from tests.gan.other_losses import LOSSES, reference_losses
from tests.small_trainer import (
    IMAGES,
    first_gradients,
    record_batches,
    relative_error,
    trainer,
    trainer_with_large_weights,
    weights,
)
from tests.together import together

SMOOTH = 2
"""A seed with which no value comes so near a kink of a ReLU that float32 takes its other side."""
NORMALISATIONS = ["none", "layer", "batch"]


class Reference:
    """The step as its definition has it, in float64 and without any shortcut."""

    def __init__(self, of: Trainer, loss: str = "cross-entropy") -> None:
        self.settings: Settings = of.settings
        self.loss = loss
        self.generator = copy.deepcopy(of.generator).double()
        self.discriminator = copy.deepcopy(of.discriminator).double()
        options = {"lr": 1e-4, "betas": (0.5, of.settings.beta2)}
        networks = (self.generator, self.discriminator)
        self.optimizers = [torch.optim.Adam(network.parameters(), **options) for network in networks]

    def parameters(self) -> list[torch.Tensor]:
        return [*self.generator.parameters(), *self.discriminator.parameters()]

    def step(self, batch: Batch) -> tuple[list[torch.Tensor], dict[str, float]]:
        fake = self.generator(batch.z.double())
        sets = [batch.real.double(), fake, batch.negatives.double()]
        real_logits, *fake_logits = [self.discriminator(images) for images in sets if len(images)]
        share = self.settings.negatives if len(fake_logits) > 1 else 0.0
        weighted = list(zip((1 - share, share), fake_logits, strict=False))
        discriminator_loss, generator_loss = reference_losses(self.loss, real_logits, weighted)
        of_discriminator = torch.autograd.grad(
            discriminator_loss, list(self.discriminator.parameters()), retain_graph=True
        )
        of_generator = torch.autograd.grad(generator_loss, list(self.generator.parameters()))
        for optimizer, gradients in zip(self.optimizers, (of_generator, of_discriminator), strict=True):
            (group,) = optimizer.param_groups
            for weight, gradient in zip(group["params"], gradients, strict=True):
                weight.grad = gradient.clone()
            optimizer.step()
        real, fake = real_logits.softmax(1)[:, 1], fake_logits[0].softmax(1)[:, 1]
        values = [
            *(discriminator_loss, generator_loss, real.mean(), fake.mean()),
            *((real > 0.5).double().mean(), (fake < 0.5).double().mean()),
            *(torch.cat([g.flatten() for g in one]).norm() for one in (of_discriminator, of_generator)),
        ]
        return [*of_generator, *of_discriminator], dict(
            zip(STATISTICS, [value.item() for value in values], strict=True)
        )


def check_two_steps(loss: str = "cross-entropy", **changes) -> None:
    options = {"augmentation": "none", "head_scale": 0.25, "flip": False, "seed": SMOOTH}
    tested = trainer_with_large_weights(**options | changes)
    reference = Reference(tested, loss)
    before = weights(tested)
    batches = record_batches(tested)
    for step in range(2):
        tested.step()
        real = to_float(torch.from_numpy(IMAGES[batch_indices(len(IMAGES), 8, step, SMOOTH)]))
        assert torch.equal(batches[-1].real, real)
        assert len(batches[-1].negatives) == 8 * tested.settings.negatives
        true_gradients, true_values = reference.step(batches[-1])
        assert tested.statistics() == pytest.approx(true_values, rel=1e-4), step
        if step == 0:
            for gradient, true_gradient in zip(first_gradients(tested), true_gradients, strict=True):
                assert relative_error(gradient, true_gradient) < 1e-4
    for now, true, first in zip(weights(tested), reference.parameters(), before, strict=True):
        # Adam's first steps are as long for a gradient near 0, whose sign rounding may change: the mean.
        assert (now - true).abs().mean() <= 1e-3 * (now - first).abs().mean()
    assert not torch.equal(batches[0].z, batches[1].z)


@pytest.mark.parametrize("negatives", [0.0, 0.25])
@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_a_step_matches_its_definition(normalisation, negatives):
    check_two_steps(normalisation=normalisation, negatives=negatives)


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
@pytest.mark.parametrize("loss", LOSSES)
def test_another_loss_trains_both_networks(loss, normalisation, monkeypatch):
    monkeypatch.setattr(losses, "adversarial_loss", LOSSES[loss])
    check_two_steps(loss, normalisation=normalisation)


@pytest.mark.parametrize("normalisation", ["layer", "batch"])
@pytest.mark.parametrize("loss", ["cross-entropy", *LOSSES])
def test_two_processes_take_the_gradients_of_the_definition(loss, normalisation, monkeypatch, tmp_path):
    """The reference gets the whole batch, as one process draws it."""
    if loss in LOSSES:
        monkeypatch.setattr(losses, "adversarial_loss", LOSSES[loss])
    options = {"normalisation": normalisation, "seed": SMOOTH, "negatives": 0.5, "augmentation": "none"}

    def work(world: World) -> list[torch.Tensor]:
        made = trainer_with_large_weights(world=world, **options)
        made.step()
        return first_gradients(made)

    alone = trainer_with_large_weights(**options)
    reference, batches = Reference(alone, loss), record_batches(alone)
    alone.step()
    truth, _ = reference.step(batches[0])
    for gradients in (*together(work, tmp_path).results, first_gradients(alone)):
        for gradient, true in zip(gradients, truth, strict=True):
            assert relative_error(gradient, true) < 1e-3


def test_a_step_by_minimal_filtering_matches_its_definition(monkeypatch):
    monkeypatch.setattr(layers, "MIN_GAIN", 0)  # these networks are too small to gain by it
    check_two_steps(normalisation="layer")


@pytest.mark.parametrize("normalisation", ["layer", "none"])
@pytest.mark.parametrize("lead", [0, 8, 30, 100, 200])
def test_one_backward_pass_gives_the_gradients_of_two(normalisation, lead, monkeypatch):
    """Also where D is all but certain (`lead` of the logit for fake), and through augmentation."""
    options = {"normalisation": normalisation, "head_scale": 0.25, "augmentation": "always"}
    quick = trainer(**options)
    monkeypatch.delattr(losses.CrossEntropy, "generator_gradient_ratio")
    slow = trainer(**options)
    monkeypatch.undo()
    assert quick._training_step.keywords["options"].one_backward
    assert not slow._training_step.keywords["options"].one_backward
    for each in (quick, slow):
        with torch.no_grad():
            each.discriminator.head.bias[0] = lead / each.settings.head_scale
        each.step()
    assert all(gradient.norm() > 0 for gradient in first_gradients(slow))
    for gradient, other in zip(first_gradients(quick), first_gradients(slow), strict=True):
        assert relative_error(gradient, other) < 1e-4
    assert quick.statistics() == pytest.approx(slow.statistics(), rel=1e-4)


def test_a_discriminator_that_does_not_claim_independence_gets_two_backward_passes():
    made = trainer()
    del made.discriminator.independent
    made.apply_rollback(Rollback())
    assert not made._training_step.keywords["options"].one_backward
    made.step()


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_bfloat16_computes_nearly_the_same_and_keeps_weights_in_float32(normalisation):
    coarse, fine = (
        trainer_with_large_weights(precision=name, normalisation=normalisation)
        for name in ("bfloat16", "float32")
    )
    for each in (coarse, fine):
        each.step()
    assert {weight.dtype for weight in weights(coarse)} == {torch.float32}
    got, true = (torch.cat([g.flatten() for g in first_gradients(each)]) for each in (coarse, fine))
    assert 1e-5 < relative_error(got, true) < 0.2


@pytest.mark.parametrize("normalisation", ["layer", "batch"])
def test_in_bfloat16_each_gradient_points_where_that_of_float64_does(normalisation):
    """In networks of some width, where roundings average out; docs/speed.md has those of `light`."""
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
    cosines = [
        float(torch.cosine_similarity(gradient.flatten().double(), true.flatten(), dim=0))
        for gradient, true in zip(first_gradients(tested), truth, strict=True)
    ]
    assert min(cosines) > 0.97
    assert median(cosines) > 0.99


def test_both_networks_have_the_adam_of_the_settings():
    tested = trainer(plain=True)
    tested.step()
    for name in ("generator_optimizer", "discriminator_optimizer"):
        (group,) = tested.state()[name]["param_groups"]
        assert (group["lr"], group["betas"], group["weight_decay"]) == (1e-4, (0.5, 0.999), 0)


@pytest.mark.parametrize("network", ["generator", "discriminator"])
def test_on_given_gradients_adam_is_the_one_of_its_paper(network):
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
        # A thousandth of a step.
        torch.testing.assert_close(weight.double(), exact, rtol=0, atol=1e-3 * settings.learning_rate)


class ReadBack(TorchDispatchMode):
    """Records whatever makes the host wait for a tensor's value."""

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

    names = ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__", "__array__")
    patches = [recording(name) for name in names]
    for patch in patches:
        patch.start()
    with mode:
        yield mode.calls
    for patch in patches:
        patch.stop()


@pytest.mark.parametrize("plain", [False, True])
def test_a_step_reads_nothing_back_from_the_device(plain, read_back):
    tested = trainer(plain=plain, augmentation="adaptive")
    tested.step()
    read_back.clear()
    tested.step()
    assert read_back == []
    tested.statistics()
    tested.check_finite()
    assert read_back  # the recording works
