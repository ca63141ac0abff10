import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from gan.losses import CrossEntropy, probability_real

LOGIT = st.floats(-29, 29, width=32)
LOGITS = st.lists(st.tuples(LOGIT, LOGIT), min_size=1, max_size=5)
FAKE = torch.tensor([[2.0, -1.0], [0.5, 0.5]])
LOSS = CrossEntropy()


def test_losses_are_finite_and_exact_for_very_confident_logits():
    fake, real = torch.tensor([[800.0, -800.0]]), torch.tensor([[-800.0, 800.0]])
    assert (LOSS.real(fake).item(), LOSS.fake(real).item(), LOSS.generator(fake).item()) == (1600, 1600, 1600)
    assert (LOSS.real(real).item(), LOSS.generator(real).item()) == (0, 0)
    assert LOSS.fake(fake).item() == pytest.approx(0, abs=1e-25)


@given(LOGITS)
def test_losses_are_the_softmax_cross_entropy(logits):
    logits = torch.tensor(logits, dtype=torch.float64)
    classes = [torch.full((len(logits),), label) for label in (0, 1)]
    fake, real = (F.cross_entropy(logits, label).item() for label in classes)
    assert LOSS.real(logits).item() == pytest.approx(real, rel=1e-5, abs=1e-6)
    assert LOSS.fake(logits).item() == pytest.approx(fake, rel=1e-5, abs=1e-6)
    assert LOSS.generator(logits).item() == pytest.approx(real, rel=1e-5, abs=1e-6)


def test_losses_are_computed_in_float32():
    for function in (LOSS.real, LOSS.fake, LOSS.generator, LOSS.generator_gradient_ratio, probability_real):
        assert function(FAKE.bfloat16()).dtype == torch.float32
        assert torch.equal(function(FAKE.bfloat16()), function(FAKE))


def test_the_probability_of_real_is_the_softmax_of_logit_1():
    logits = FAKE.clone().requires_grad_()
    assert probability_real(logits).tolist() == pytest.approx([1 / (1 + math.exp(3)), 0.5])
    assert not probability_real(logits).requires_grad


@pytest.mark.parametrize("lead", [-200, -100, -61, -30, -3, 0, 3, 30, 100, 200])
def test_the_ratio_turns_the_gradient_of_fake_into_that_of_generator(lead):
    """Also for leads at which sigmoid(lead) underflows in float32."""
    logits = torch.tensor([[-lead / 2, lead / 2]], requires_grad=True)
    (of_fake,) = torch.autograd.grad(LOSS.fake(logits), logits)
    (of_generator,) = torch.autograd.grad(LOSS.generator(logits), logits)
    scaled = of_fake * LOSS.generator_gradient_ratio(logits)[:, None]
    assert scaled.isfinite().all()
    torch.testing.assert_close(scaled, of_generator, rtol=1e-5, atol=1e-26)
    assert of_fake[0, 1].item() == pytest.approx(1 / (1 + math.exp(-lead)), rel=1e-5, abs=1e-25)
