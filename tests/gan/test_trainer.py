import copy
from collections.abc import Iterator
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from gan.batches import batch_indices
from gan.config import Settings, base
from gan.health import DivergedError
from gan.images import to_float, to_uint8
from gan.latent import draw
from gan.trainer import STATISTICS, Trainer

IMAGES = np.random.default_rng(0).integers(0, 256, (30, 3, 32, 32), np.uint8)
SMALL = {
    "image_size": 32,
    "batch_size": 8,
    "generator_widths": (12, 10, 8, 6),
    "discriminator_widths": (6, 8, 10, 12),
    "precision": "float32",
}
SMOOTH = 1
"""A seed with which no value comes so near a kink of a ReLU that float32 takes its other side."""
FORMS = [
    ("simultaneous", "spectral"),
    ("simultaneous", "none"),
    ("simultaneous", "batch"),
    ("simultaneous", "batch-but-first"),
    ("separate", "spectral"),
    ("separate", "batch"),
]


def trainer(*, plain: bool = False, **changes) -> Trainer:
    return Trainer(replace(base("light", plain), **SMALL | changes), IMAGES, torch.device("cpu"))


def lively(**changes) -> Trainer:
    """One whose networks are past their first steps: with the first, tiny weights all logits are alike."""
    made = trainer(**changes)
    with torch.no_grad():
        for network in made.networks().values():
            for weight in network.parameters():
                weight *= 5 if weight.dim() > 1 else 1
    return made


def weights(of: Trainer) -> list[torch.Tensor]:
    return [weight.detach().clone() for network in of.networks().values() for weight in network.parameters()]


def gradients(of: Trainer) -> list[torch.Tensor]:
    """Those of the first step, which Adam's first moment holds scaled."""
    state = of.state()
    return [
        moments["exp_avg"] / (1 - of.settings.beta1)
        for name in ("generator_optimizer", "discriminator_optimizer")
        for moments in state[name]["state"].values()
    ]


def snapshot(of: Trainer) -> dict:
    return copy.deepcopy(of.state())


def assert_same(left, right) -> None:
    """Nested states, equal to the last bit."""
    assert type(left) is type(right)
    if isinstance(left, dict):
        assert left.keys() == right.keys()
        for key in left:
            assert_same(left[key], right[key])
    elif isinstance(left, list | tuple):
        assert len(left) == len(right)
        for one, other in zip(left, right, strict=True):
            assert_same(one, other)
    elif isinstance(left, torch.Tensor):
        assert torch.equal(left, right)
    else:
        assert left == right


def relative(value: torch.Tensor, truth: torch.Tensor) -> float:
    return float((value - truth).norm() / truth.norm())


class Reference:
    """The step as the definition of the networks' training has it, in float64 and with no cleverness."""

    def __init__(self, of: Trainer) -> None:
        self.settings: Settings = of.settings
        self.generator = copy.deepcopy(of.generator).double()
        self.discriminator = copy.deepcopy(of.discriminator).double()
        options = {"lr": 1e-4, "betas": (0.5, 0.999), "weight_decay": of.settings.weight_decay}
        self.optimizers = [
            torch.optim.Adam(network.parameters(), **options)
            for network in (self.generator, self.discriminator)
        ]

    def parameters(self) -> list[torch.Tensor]:
        return [*self.generator.parameters(), *self.discriminator.parameters()]

    def step(self, real: torch.Tensor, z: torch.Tensor) -> tuple[list[torch.Tensor], dict[str, float]]:
        fake = self.generator(z.double())
        real_logits, fake_logits = self.judge(real.double(), fake)
        discriminator_loss = cross_entropy(real_logits, 1) + cross_entropy(fake_logits, 0)
        of_discriminator = torch.autograd.grad(
            discriminator_loss, list(self.discriminator.parameters()), retain_graph=True
        )
        if self.settings.updates == "separate":
            self.apply(1, of_discriminator)
            generator_loss = cross_entropy(self.discriminator(fake), 1)
        else:
            generator_loss = cross_entropy(fake_logits, 1)
        of_generator = torch.autograd.grad(generator_loss, list(self.generator.parameters()))
        if self.settings.updates == "simultaneous":
            self.apply(1, of_discriminator)
        self.apply(0, of_generator)
        real_p, fake_p = real_logits.softmax(1)[:, 1], fake_logits.softmax(1)[:, 1]
        values = [
            *(discriminator_loss, generator_loss, real_p.mean(), fake_p.mean()),
            *((real_p > 0.5).double().mean(), (fake_p < 0.5).double().mean()),
            *(torch.cat([g.flatten() for g in one]).norm() for one in (of_discriminator, of_generator)),
        ]
        told = dict(zip(STATISTICS, [value.item() for value in values], strict=True))
        return [*of_generator, *of_discriminator], told

    def judge(self, real: torch.Tensor, fake: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if self.settings.normalisation.startswith("batch"):
            return self.discriminator(real), self.discriminator(fake)
        return self.discriminator(torch.cat([real, fake])).chunk(2)  # one look, one spectral norm

    def apply(self, index: int, its_gradients: tuple[torch.Tensor, ...]) -> None:
        (group,) = self.optimizers[index].param_groups
        for weight, gradient in zip(group["params"], its_gradients, strict=True):
            weight.grad = gradient.clone()
        self.optimizers[index].step()


def cross_entropy(logits: torch.Tensor, label: int) -> torch.Tensor:
    return -logits.log_softmax(1)[:, label].mean()


@pytest.mark.parametrize(
    ("updates", "normalisation", "weight_decay"), [*((*form, 0.0) for form in FORMS), (*FORMS[0], 0.3)]
)
def test_a_step_is_the_one_defined(updates, normalisation, weight_decay):
    tried = lively(
        updates=updates,
        normalisation=normalisation,
        weight_decay=weight_decay,
        augmentation=(),
        head_scale=0.25,
        flip=False,
        seed=SMOOTH,
    )
    reference = Reference(tried)
    before = weights(tried)
    latents = []
    tried.generator.register_forward_pre_hook(lambda _, inputs: latents.append(inputs[0]))
    for step in range(2):
        real = to_float(torch.from_numpy(IMAGES[batch_indices(len(IMAGES), 8, step, SMOOTH)]))
        tried.step()
        true_gradients, true_values = reference.step(real, latents[-1])
        values = tried.statistics()
        assert values == pytest.approx(true_values, rel=1e-4), step
        if step == 0:
            truth = [g + weight_decay * w for g, w in zip(true_gradients, before, strict=True)]
            for gradient, true_gradient in zip(gradients(tried), truth, strict=True):
                assert relative(gradient, true_gradient) < 1e-4
    for now, true, first in zip(weights(tried), reference.parameters(), before, strict=True):
        # Adam's first steps are as long for a gradient near 0, which rounding turns around: the mean.
        assert (now - true).abs().mean() < 1e-3 * (now - first).abs().mean()
    assert all(z.shape == (8, 100) and z.min() >= -1 and z.max() <= 1 for z in latents)
    assert min(z.min() for z in latents) < -0.98
    assert max(z.max() for z in latents) > 0.98
    assert not torch.equal(latents[0], latents[1])


@pytest.mark.parametrize("normalisation", ["spectral", "none"])
@pytest.mark.parametrize("lead", [0, 8, 15, 30])
def test_one_backward_pass_gives_the_gradients_of_two(normalisation, lead):
    """Also where the discriminator is all but sure (`lead` of one logit), and through augmentation."""
    options = {"normalisation": normalisation, "head_scale": 0.25, "augmentation": ("colour", "translation")}
    one, two = (trainer(**options) for _ in range(2))
    for each in (one, two):
        with torch.no_grad():
            each.discriminator.head.bias[0] = lead / each.settings.head_scale
    one.step()
    with mock.patch.object(Trainer, "_update_by_one_backward", Trainer._update_together):
        two.step()
    for gradient, other in zip(gradients(one), gradients(two), strict=True):
        assert relative(gradient, other) < 1e-4
    assert one.statistics() == pytest.approx(two.statistics(), rel=1e-4)


@pytest.mark.parametrize(("updates", "normalisation"), FORMS)
def test_bfloat16_computes_nearly_the_same_and_keeps_its_weights_in_float32(updates, normalisation):
    options = {"updates": updates, "normalisation": normalisation}
    coarse, fine = (lively(precision=precision, **options) for precision in ("bfloat16", "float32"))
    for each in (coarse, fine):
        each.step()
    assert {weight.dtype for weight in weights(coarse)} == {torch.float32}
    got, true = (torch.cat([g.flatten() for g in gradients(each)]) for each in (coarse, fine))
    assert 1e-5 < relative(got, true) < 0.2


def test_both_networks_have_the_adam_of_the_settings():
    tried = trainer(plain=True)
    tried.step()
    for name in ("generator_optimizer", "discriminator_optimizer"):
        (group,) = tried.state()[name]["param_groups"]
        assert (group["lr"], group["betas"], group["weight_decay"]) == (1e-4, (0.5, 0.999), 0)


def test_weight_decay_shrinks_a_weight_that_has_no_gradient():
    decayed, free = trainer(weight_decay=1.0), trainer()
    for each in (decayed, free):
        each.step()
    # Adam moves by the learning rate whatever the gradient's size: decayed weights go to 0 by it.
    pairs = zip(weights(decayed), weights(free), strict=True)
    assert all(w.norm() < v.norm() for w, v in pairs if w.dim() > 1)


class ReadBack(TorchDispatchMode):
    """Notes whatever makes the host wait for a tensor's value."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        if any(name in str(function) for name in ("_local_scalar_dense", "nonzero")):
            self.seen.append(str(function))
        return function(*arguments, **(options or {}))


@pytest.fixture
def read_back() -> Iterator[list[str]]:
    """What reads tensors back while a test runs, by the function called."""
    watch = ReadBack()

    def noting(name: str):
        original = getattr(torch.Tensor, name)

        def noted(self, *arguments, **options):
            watch.seen.append(name)
            return original(self, *arguments, **options)

        return mock.patch.object(torch.Tensor, name, noted)

    names = ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__", "__array__")
    patches = [noting(name) for name in names]
    for patch in patches:
        patch.start()
    with watch:
        yield watch.seen
    for patch in patches:
        patch.stop()


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("updates", ["separate", "simultaneous"])
def test_a_step_reads_nothing_back_from_the_device(plain, updates, read_back):
    tried = trainer(plain=plain, updates=updates, augmentation=("colour", "translation", "cutout"))
    tried.step()
    read_back.clear()
    tried.step()
    assert read_back == []
    tried.statistics()
    tried.check_finite()
    assert read_back  # the watch sees what it is there to see


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
    assert_same(snapshot(quiet), snapshot(busy))


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
    assert_same(snapshot(one), snapshot(other))


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
    assert_same(snapshot(straight), snapshot(resumed))


def test_going_on_with_another_learning_rate_uses_it():
    first = trainer()
    first.step()
    slow = trainer(learning_rate=1e-9, weight_decay=0.5)
    slow.load_state(snapshot(first) | {"step": 1})
    slow.step()
    assert all(torch.allclose(w, v, atol=1e-8) for w, v in zip(weights(first), weights(slow), strict=True))
    (group,) = slow.state()["generator_optimizer"]["param_groups"]
    assert (group["lr"], group["weight_decay"]) == (1e-9, 0.5)


def test_taking_over_networks_takes_them_alone():
    first = trainer()
    for _ in range(2):
        first.step()
    begun = trainer(seed=5)
    begun.load_networks(snapshot(first) | {"step": 2})
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
    begun.load_networks(snapshot(plain) | {"step": 1})
    assert torch.equal(begun.state()["average"]["project.weight"], plain.generator.project.weight)


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


def test_statistics_are_means_since_they_were_last_asked_for():
    each, all_at_once = trainer(), trainer()
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
    assert_same(snapshot(held), snapshot(mapped))
