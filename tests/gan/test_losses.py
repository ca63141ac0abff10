import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from gan.losses import (
    discriminator_loss,
    generator_loss,
    generator_over_discriminator,
    negative_loss,
    probability_real,
)
from gan.networks import Discriminator, Generator

LOGIT = st.floats(-90, 90, width=32)
LOGITS = st.lists(st.tuples(LOGIT, LOGIT), min_size=1, max_size=5)

REAL = torch.tensor([[0.0, 0.0], [1.0, 3.0]])
FAKE = torch.tensor([[2.0, -1.0], [0.5, 0.5]])


def test_losses_are_those_computed_by_hand():
    # -log softmax of the right logit is ln(1 + e^-lead): leads 0 and 2 of logit 1; 3 and 0 of logit 0.
    of_real = (math.log(2) + math.log(1 + math.exp(-2))) / 2
    of_fake = (math.log(1 + math.exp(-3)) + math.log(2)) / 2
    assert of_real + of_fake == pytest.approx(0.780905, abs=1e-6)
    assert discriminator_loss(REAL, FAKE).item() == pytest.approx(0.780905, abs=1e-6)
    # The generator wants logit 1 of the fakes: leads -3 and 0.
    assert generator_loss(FAKE).item() == pytest.approx((3.048587 + 0.693147) / 2, abs=1e-6)


def test_negatives_take_their_share_of_what_is_generated():
    of_real = (math.log(2) + math.log(1 + math.exp(-2))) / 2
    fake, negative = torch.tensor([[1.0, 1.0]]), torch.tensor([[0.0, 0.0], [1.0, -2.0]])
    of_negative = (math.log(2) + math.log(1 + math.exp(-3))) / 2
    found = discriminator_loss(REAL, fake, 0.25) + negative_loss(negative, 0.25)
    assert found.item() == pytest.approx(of_real + 0.75 * math.log(2) + 0.25 * of_negative, abs=1e-6)
    nothing = torch.zeros(3, 2)
    knows_nothing = discriminator_loss(nothing, nothing, 0.4) + negative_loss(nothing, 0.4)
    assert knows_nothing.item() == pytest.approx(2 * math.log(2))
    assert negative_loss(negative.bfloat16(), 0.25).dtype == torch.float32


def test_a_discriminator_that_knows_nothing():
    nothing = torch.full((3, 2), 0.7)
    assert discriminator_loss(nothing, nothing).item() == pytest.approx(2 * math.log(2))
    assert generator_loss(nothing).item() == pytest.approx(math.log(2))


def test_losses_stay_finite_and_exact_where_it_is_very_sure():
    wrong, right = torch.tensor([[800.0, -800.0]]), torch.tensor([[-800.0, 800.0]])
    assert discriminator_loss(real_logits=wrong, fake_logits=right).item() == 3200
    assert discriminator_loss(real_logits=right, fake_logits=wrong).item() == 0
    assert generator_loss(wrong).item() == 1600
    assert generator_loss(right).item() == 0


@given(LOGITS, LOGITS)
def test_losses_are_the_softmax_cross_entropy(real, fake):
    real, fake = (torch.tensor(logits, dtype=torch.float64) for logits in (real, fake))
    one = torch.ones(len(real), dtype=torch.int64)
    expected = F.cross_entropy(real, one) + F.cross_entropy(fake, torch.zeros(len(fake), dtype=torch.int64))
    assert discriminator_loss(real, fake).item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-6)


def test_losses_are_computed_in_float32():
    coarse = FAKE.bfloat16()
    assert generator_loss(coarse).dtype == torch.float32
    assert generator_loss(coarse).item() == generator_loss(FAKE).item()
    assert discriminator_loss(REAL.bfloat16(), coarse).item() == discriminator_loss(REAL, FAKE).item()
    assert generator_over_discriminator(coarse).dtype == torch.float32
    assert probability_real(coarse).dtype == torch.float32


def test_belief_is_the_softmax_of_logit_1():
    expected = [1 / (1 + math.exp(3)), 0.5]
    assert probability_real(FAKE.requires_grad_()).tolist() == pytest.approx(expected)
    assert not probability_real(FAKE).requires_grad


def test_the_factor_by_hand():
    # -p0 / p1 = -e^(lead of logit 0): leads 3, 0 and -2.
    logits = torch.tensor([[2.0, -1.0], [0.5, 0.5], [0.0, 2.0]])
    expected = [-math.exp(3), -1, -math.exp(-2)]
    assert generator_over_discriminator(logits).tolist() == pytest.approx(expected)
    # Beside a fifth of negatives D's own gradient is four fifths as great.
    expected = [factor / 0.8 for factor in expected]
    assert generator_over_discriminator(logits, 0.2).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("lead", [0, 5, 14, 18, 30, 55, -14, -30])
@pytest.mark.parametrize("normalisation", ["none", "layer", "spectral"])
def test_one_backward_pass_gives_both_gradients(lead, normalisation):
    """Also where D is very sure (`lead` of "generated" on the fakes), against autograd in float64."""
    torch.manual_seed(1)
    generator = Generator((6, 5, 4, 4), 8, 32).double()
    discriminator = Discriminator((4, 5, 6, 8), 32, normalisation).double()
    discriminator(torch.zeros(1, 3, 32, 32, dtype=torch.float64))
    discriminator.eval()  # power iteration would give each pass other weights
    with torch.no_grad():
        discriminator.head.bias.copy_(torch.tensor([lead / 2, -lead / 2]))
    real, z = torch.rand(4, 3, 32, 32).double() - 0.5, torch.rand(4, 8).double() - 0.5
    fake = generator(z)

    seen = fake.detach().requires_grad_()
    fake_logits = discriminator(seen)
    discriminator_loss(discriminator(real), fake_logits).backward()
    factor = generator_over_discriminator(fake_logits)
    by_one_pass = seen.grad * factor[:, None, None, None]
    fake.backward(by_one_pass, retain_graph=True)

    fake_logits, real_logits = _rounded(discriminator(fake)), _rounded(discriminator(real))
    expected, *of_generator = torch.autograd.grad(
        _cross_entropy(fake_logits, 1), [fake, *generator.parameters()], retain_graph=True
    )
    for pixels, exact in zip(by_one_pass, expected, strict=True):
        assert (pixels - exact).norm() <= 1e-6 * exact.norm()
    for weight, exact in zip(generator.parameters(), of_generator, strict=True):
        assert (weight.grad - exact).norm() <= 2e-6 * exact.norm()

    of_discriminator = torch.autograd.grad(
        _cross_entropy(real_logits, 1) + _cross_entropy(fake_logits, 0), list(discriminator.parameters())
    )
    for weight, exact in zip(discriminator.parameters(), of_discriminator, strict=True):
        # At lead 0 the head's bias gets two gradients of 1/2 that cancel but for rounding.
        assert (weight.grad - exact).norm() <= 1e-6 * exact.norm() + 1e-7


def _cross_entropy(logits: torch.Tensor, label: int) -> torch.Tensor:
    """In the form whose gradient float64 keeps however small it is."""
    return torch.log1p((logits[:, 1 - label] - logits[:, label]).exp()).mean()


def _rounded(logits: torch.Tensor) -> torch.Tensor:
    """The logits as losses see them, in float32, while gradients stay in float64."""
    return logits + (logits.float().double() - logits).detach()


def test_beyond_what_float32_resolves_the_factor_is_cut_not_infinite():
    fake_logits = torch.tensor([[300.0, 0.0]], requires_grad=True)
    discriminator_loss(torch.zeros(1, 2), fake_logits).backward()
    factor = generator_over_discriminator(fake_logits)
    assert factor.isfinite().all()
    gradient = fake_logits.grad * factor[:, None]
    assert gradient.isfinite().all()
    assert gradient.abs().max() <= 1
