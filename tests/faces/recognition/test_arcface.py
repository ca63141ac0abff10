import math

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch.nn import functional as F

from faces.recognition.arcface import ArcFaceHead


def make_head(weight_rows: list[list[float]], **options) -> ArcFaceHead:
    weight = torch.tensor(weight_rows)
    head = ArcFaceHead(weight.shape[1], len(weight), **options)
    with torch.no_grad():
        head.weight.copy_(weight)
    return head


def unit_vectors(*degrees: float) -> torch.Tensor:
    angles = torch.tensor(degrees).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], -1)


def loss_of(head: ArcFaceHead, features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(head(features, labels), labels)


def cosine(degrees: float) -> float:
    return math.cos(math.radians(degrees))


@pytest.mark.parametrize(
    ("angle", "easy", "expected"),
    [
        (40, False, cosine(40 + 30)),
        (40, True, cosine(40 + 30)),
        (120, False, cosine(120 + 30)),
        (120, True, cosine(120)),
        (160, False, cosine(160) - math.pi / 6 * 0.5),  # beyond 180 - 30: minus m sin m, where sin 30 is 1/2
        (160, True, cosine(160)),
    ],
)
def test_margin_by_hand(angle, easy, expected):
    head = make_head([[1.0, 0.0], [0.0, 1.0]], scale=10, margin=math.pi / 6, easy_margin=easy)
    true, other = head(unit_vectors(angle), torch.tensor([0]))[0].tolist()
    assert true == pytest.approx(10 * expected, abs=1e-5)
    assert other == pytest.approx(10 * cosine(90 - angle), abs=1e-5)
    plain = head(unit_vectors(angle))[0].tolist()
    assert plain == pytest.approx([10 * cosine(angle), 10 * cosine(90 - angle)], abs=1e-5)


def test_loss_by_hand():
    head = make_head([[1.0, 0.0], [0.0, 1.0]], scale=2, margin=0.5)
    angle = math.radians(30)
    right, wrong = 2 * math.cos(angle + 0.5), 2 * math.sin(angle)
    expected = -right + math.log(math.exp(right) + math.exp(wrong))
    assert loss_of(head, unit_vectors(30), torch.tensor([0])).item() == pytest.approx(expected, rel=1e-5)


def test_features_and_weights_are_normalized():
    torch.manual_seed(0)
    head, features, labels = ArcFaceHead(8, 5), torch.randn(6, 8), torch.tensor([0, 1, 2, 3, 4, 0])
    before = head(features, labels)
    with torch.no_grad():
        head.weight.mul_(torch.tensor([0.1, 1.0, 3.0, 20.0, 400.0])[:, None])
    scaled = features * torch.tensor([0.01, 0.5, 1.0, 7.0, 90.0, 3.0])[:, None]
    torch.testing.assert_close(head(scaled, labels), before, atol=1e-4, rtol=1e-4)
    # The result does not depend on the rest of the batch.
    torch.testing.assert_close(head(features[:1], labels[:1]), before[:1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("easy", [False, True])
@pytest.mark.parametrize("angle", [0.0, 180.0])
def test_gradients_are_finite_at_cosines_of_one_and_minus_one(easy, angle):
    head = make_head([[3.0, 0.0], [0.0, 1.0]], easy_margin=easy)
    features = unit_vectors(angle).mul(7).requires_grad_()
    loss_of(head, features, torch.tensor([0])).backward()
    assert torch.isfinite(features.grad).all()
    assert torch.isfinite(head.weight.grad).all()


def test_gradients_of_a_zero_vector_are_finite():
    head, features = ArcFaceHead(4, 3), torch.zeros(2, 4, requires_grad=True)
    loss_of(head, features, torch.tensor([0, 2])).backward()
    assert torch.isfinite(features.grad).all()


@given(st.floats(0, 3.0), st.floats(0, 179), st.floats(0.1, 1))
@example(2.515625, 35.0, 1.0)
def test_logit_falls_with_the_angle(margin, angle, increase):
    head = make_head([[1.0, 0.0]], scale=1, margin=margin)
    first, second = head(unit_vectors(angle, angle + increase), torch.tensor([0, 0]))[:, 0].tolist()
    assert second <= first + 1e-6


def test_without_margin_it_is_softmax_over_cosines():
    torch.manual_seed(1)
    head, features, labels = ArcFaceHead(8, 5, margin=0), torch.randn(6, 8), torch.arange(6) % 5
    logits = 30 * F.cosine_similarity(features[:, None], head.weight[None], dim=-1)
    assert loss_of(head, features, labels).item() == pytest.approx(
        F.cross_entropy(logits, labels).item(), rel=1e-5
    )


@pytest.mark.parametrize(
    "options", [{"scale": 0}, {"scale": math.nan}, {"margin": -0.1}, {"margin": math.pi}]
)
def test_options_out_of_range_raise(options):
    with pytest.raises(ValueError, match="must be positive"):
        ArcFaceHead(4, 2, **options)


@pytest.mark.parametrize("margin", [0.5, 0.2, 1.2])
def test_loss_and_gradients_match_pytorch_metric_learning(margin):
    losses = pytest.importorskip(
        "pytorch_metric_learning.losses", reason="pytorch-metric-learning is not installed"
    )
    torch.manual_seed(2)
    features, labels = torch.randn(40, 16, dtype=torch.float64), torch.arange(40) % 7
    reference = losses.ArcFaceLoss(7, 16, margin=math.degrees(margin), scale=30.0).double()
    head = ArcFaceHead(16, 7, margin=margin).double()
    with torch.no_grad():
        head.weight.copy_(reference.W.T)
        # Put some opposite to their class, where the margin reaches beyond 180 degrees.
        features[:5] = -head.weight[labels[:5]] + 0.01 * features[:5]
    reference_features = features.clone().requires_grad_()
    features.requires_grad_()
    loss, expected = loss_of(head, features, labels), reference(reference_features, labels)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(features.grad, reference_features.grad, atol=1e-7, rtol=1e-6)
    torch.testing.assert_close(head.weight.grad, reference.W.grad.T, atol=1e-7, rtol=1e-6)
