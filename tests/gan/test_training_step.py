"""One step: its gradients and updates, against the definition written out plainly."""

import copy
from collections.abc import Iterator
from statistics import median
from unittest import mock

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from gan.config import Settings
from gan.fast_conv import layers as convolution
from gan.trainer import Trainer
from gan.training_step import STATISTICS, Batch, Updates
from images.sampler import batch_indices
from images.tiles import to_float
from tests.small_trainer import IMAGES, batches_of, trainer, weights

SMOOTH = 2
"""A seed with which no value comes so near a kink of a ReLU that float32 takes its other side."""

FORMS = [
    ("simultaneous", "spectral"),
    ("simultaneous", "none"),
    ("simultaneous", "batch"),
    ("simultaneous", "batch-but-first"),
    ("simultaneous", "layer"),
    ("separate", "spectral"),
    ("separate", "batch"),
]


def lively(**changes) -> Trainer:
    """One whose networks are past their first steps: with the first, tiny weights all logits are alike."""
    made = trainer(**changes)
    with torch.no_grad():
        for network in made.networks().values():
            for weight in network.parameters():
                weight *= 5 if weight.dim() > 1 else 1
    return made


def gradients(of: Trainer) -> list[torch.Tensor]:
    """Those of the first step, which Adam's first moment holds scaled."""
    state = of.state()
    return [
        moments["exp_avg"] / (1 - of.settings.beta1)
        for name in ("generator_optimizer", "discriminator_optimizer")
        for moments in state[name]["state"].values()
    ]


def relative(value: torch.Tensor, truth: torch.Tensor) -> float:
    return float((value - truth).norm() / truth.norm())


class Reference:
    """The step as the definition of the networks' training has it, in float64 and with no cleverness."""

    def __init__(self, of: Trainer) -> None:
        self.settings: Settings = of.settings
        self.generator = copy.deepcopy(of.generator).double()
        self.discriminator = copy.deepcopy(of.discriminator).double()
        settings = of.settings
        options = {"lr": 1e-4, "betas": (0.5, settings.beta2), "weight_decay": settings.weight_decay}
        self.optimizers = [
            torch.optim.Adam(network.parameters(), **options)
            for network in (self.generator, self.discriminator)
        ]

    def parameters(self) -> list[torch.Tensor]:
        return [*self.generator.parameters(), *self.discriminator.parameters()]

    def step(self, batch: Batch) -> tuple[list[torch.Tensor], dict[str, float]]:
        fake = self.generator(batch.z.double())
        real_logits, fake_logits, *more = self.judge([batch.real.double(), fake, batch.negatives.double()])
        if more:
            share = self.settings.negatives
            of_fake = (1 - share) * cross_entropy(fake_logits, 0) + share * cross_entropy(more[0], 0)
        else:
            of_fake = cross_entropy(fake_logits, 0)
        discriminator_loss = cross_entropy(real_logits, 1) + of_fake
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

    def judge(self, kinds: list[torch.Tensor]) -> list[torch.Tensor]:
        kinds = [images for images in kinds if len(images)]
        if self.settings.normalisation.startswith("batch"):
            return [self.discriminator(images) for images in kinds]
        logits = self.discriminator(torch.cat(kinds))  # one look, one spectral norm
        return [*logits.split([len(images) for images in kinds])]

    def apply(self, index: int, its_gradients: tuple[torch.Tensor, ...]) -> None:
        (group,) = self.optimizers[index].param_groups
        for weight, gradient in zip(group["params"], its_gradients, strict=True):
            weight.grad = gradient.clone()
        self.optimizers[index].step()


def cross_entropy(logits: torch.Tensor, label: int) -> torch.Tensor:
    return -logits.log_softmax(1)[:, label].mean()


@pytest.mark.parametrize(
    ("updates", "normalisation", "weight_decay", "negatives"),
    [*((*form, 0.0, 0.25) for form in FORMS), (*FORMS[0], 0.3, 0.25), *((*form, 0.0, 0.0) for form in FORMS)],
)
def test_a_step_is_the_one_defined(updates, normalisation, weight_decay, negatives):
    tried = lively(
        updates=updates,
        normalisation=normalisation,
        weight_decay=weight_decay,
        negatives=negatives,
        augmentation=(),
        head_scale=0.25,
        flip=False,
        seed=SMOOTH,
    )
    reference = Reference(tried)
    before = weights(tried)
    batches = batches_of(tried)
    for step in range(2):
        tried.step()
        real = to_float(torch.from_numpy(IMAGES[batch_indices(len(IMAGES), 8, step, SMOOTH)]))
        assert torch.equal(batches[-1].real, real)
        assert len(batches[-1].negatives) == 8 * negatives
        true_gradients, true_values = reference.step(batches[-1])
        values = tried.statistics()
        assert values == pytest.approx(true_values, rel=1e-4), step
        if step == 0:
            truth = [g + weight_decay * w for g, w in zip(true_gradients, before, strict=True)]
            for gradient, true_gradient in zip(gradients(tried), truth, strict=True):
                assert relative(gradient, true_gradient) < 1e-4
    for now, true, first in zip(weights(tried), reference.parameters(), before, strict=True):
        # Adam's first steps are as long for a gradient near 0, which rounding turns around: the mean.
        assert (now - true).abs().mean() < 1e-3 * (now - first).abs().mean()
    latents = [batch.z for batch in batches]
    assert all(z.shape == (8, 100) and z.min() >= -1 and z.max() <= 1 for z in latents)
    assert min(z.min() for z in latents) < -0.98
    assert max(z.max() for z in latents) > 0.98
    assert not torch.equal(latents[0], latents[1])


@pytest.mark.parametrize(("updates", "normalisation"), [("simultaneous", "layer"), ("separate", "batch")])
def test_a_step_by_minimal_filtering_is_the_one_defined(updates, normalisation, monkeypatch):
    monkeypatch.setattr(convolution, "LEAST_GAIN", 0)  # these networks are too small to gain by it
    test_a_step_is_the_one_defined(updates, normalisation, 0.0, 0.25)


@pytest.mark.parametrize("normalisation", ["layer", "spectral", "none"])
@pytest.mark.parametrize("lead", [0, 8, 15, 30])
def test_one_backward_pass_gives_the_gradients_of_two(normalisation, lead):
    """Also where the discriminator is all but sure (`lead` of one logit), and through augmentation."""
    options = {"normalisation": normalisation, "head_scale": 0.25, "augmentation": ("colour", "translation")}
    one, two = (trainer(**options) for _ in range(2))
    for each in (one, two):
        with torch.no_grad():
            each.discriminator.head.bias[0] = lead / each.settings.head_scale
    one.step()
    with mock.patch.object(Updates, "_one_backward", Updates._two_backwards):
        two.step()
    for gradient, other in zip(gradients(one), gradients(two), strict=True):
        assert relative(gradient, other) < 1e-4
    assert one.statistics() == pytest.approx(two.statistics(), rel=1e-4)


@pytest.mark.parametrize("updates", ["separate", "simultaneous"])
@pytest.mark.parametrize("parts", [2, 3])
def test_a_batch_in_parts_gives_the_gradients_of_the_whole_but_for_norms(updates, parts):
    """Also where the parts cannot be equal: 8 images are 3, 3 and 2, and 2 negatives 1, 1 and none."""
    options = {"updates": updates, "normalisation": "none", "augmentation": ("translation", "cutout")}
    whole, in_parts = (lively(accumulate=count, **options) for count in (1, parts))
    for each in (whole, in_parts):
        without_batch_norm(each.generator)
        each.step()
    for gradient, other in zip(gradients(in_parts), gradients(whole), strict=True):
        assert relative(gradient, other) < 1e-4
    assert in_parts.statistics() == pytest.approx(whole.statistics(), rel=1e-4)


def test_batch_norm_takes_the_statistics_of_each_part():
    seen = []
    whole = trainer(accumulate=4)
    whole.generator.layers[0].register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    whole.step()
    assert seen == [2, 2, 2, 2]


def without_batch_norm(network: torch.nn.Module) -> None:
    """With stored statistics, which treat each image by itself."""
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.eval()


@pytest.mark.parametrize(("updates", "normalisation"), FORMS)
def test_bfloat16_computes_nearly_the_same_and_keeps_its_weights_in_float32(updates, normalisation):
    options = {"updates": updates, "normalisation": normalisation}
    coarse, fine = (lively(precision=precision, **options) for precision in ("bfloat16", "float32"))
    for each in (coarse, fine):
        each.step()
    assert {weight.dtype for weight in weights(coarse)} == {torch.float32}
    got, true = (torch.cat([g.flatten() for g in gradients(each)]) for each in (coarse, fine))
    assert 1e-5 < relative(got, true) < 0.2


@pytest.mark.parametrize(
    ("updates", "normalisation"),
    [("simultaneous", "layer"), ("simultaneous", "batch"), ("separate", "spectral")],
)
def test_in_bfloat16_each_gradient_points_where_that_of_float64_does(updates, normalisation):
    """In networks of some width, where roundings average out; docs/speed.md has those of `light`."""
    tried = trainer(
        updates=updates,
        normalisation=normalisation,
        augmentation=(),
        flip=False,
        precision="bfloat16",
        batch_size=24,
        generator_widths=(48, 40, 32, 24),
        discriminator_widths=(24, 32, 40, 48),
    )
    reference, batches = Reference(tried), batches_of(tried)
    tried.step()
    truth, _ = reference.step(batches[0])
    pairs = [
        (one.flatten().double(), other.flatten()) for one, other in zip(gradients(tried), truth, strict=True)
    ]
    cosines = [float(torch.cosine_similarity(*pair, dim=0)) for pair in pairs]
    assert min(cosines) > 0.97
    assert median(cosines) > 0.99


def test_both_networks_have_the_adam_of_the_settings():
    tried = trainer(plain=True)
    tried.step()
    for name in ("generator_optimizer", "discriminator_optimizer"):
        (group,) = tried.state()[name]["param_groups"]
        assert (group["lr"], group["betas"], group["weight_decay"]) == (1e-4, (0.5, 0.999), 0)


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
@pytest.mark.parametrize("network", ["generator", "discriminator"])
def test_on_given_gradients_adam_is_the_one_of_its_paper(network, weight_decay):
    """Kingma and Ba (2015), written out in float64."""
    tried = trainer(weight_decay=weight_decay)
    settings, random = tried.settings, torch.Generator().manual_seed(0)
    tracked = list(tried.networks()[network].parameters())
    true = [weight.detach().double() for weight in tracked]
    means, squares = ([torch.zeros_like(weight) for weight in true] for _ in range(2))
    for step in (1, 2, 3):
        for weight, exact, mean, square in zip(tracked, true, means, squares, strict=True):
            weight.grad = torch.empty_like(weight).normal_(generator=random)
            gradient = weight.grad.double() + weight_decay * exact
            mean.lerp_(gradient, 1 - settings.beta1)
            square.lerp_(gradient**2, 1 - settings.beta2)
            size = (square / (1 - settings.beta2**step)).sqrt() + 1e-8
            exact -= settings.learning_rate * mean / (1 - settings.beta1**step) / size
        getattr(tried._updates, f"{network}_optimizer").step()
    for weight, exact in zip(tracked, true, strict=True):
        # A thousandth of a step.
        torch.testing.assert_close(weight.double(), exact, rtol=0, atol=1e-3 * settings.learning_rate)


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
