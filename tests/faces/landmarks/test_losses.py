"""The losses against values computed by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from faces.landmarks.losses import (
    LOSSES,
    MAX_TRIPLES,
    WING_CURVATURE,
    WING_WIDTH,
    make_loss,
    normalised_mean_errors,
    wing_loss,
)
from faces.landmarks.point_set import PointSet, load_point_set

THREE = PointSet(
    "three", ("a", "b", "c"), (("a", "b"),), {"base": ("a", "b"), "top": ("c",)}, (("a",), ("b",)), ("a", "b")
)
TRUE = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]])
PREDICTED = torch.tensor([[[0.1, 0.0], [1.0, 0.2], [0.0, 1.0]]])
# The errors e are (0.1, 0), (0, 0.2), (0, 0).
DD_0 = (0.01 + 0.04) / 6
DD_1 = (0.01 + 0.04 + 0.04) / 4  # e_1 - e_0 = (-0.1, 0.2), e_2 - e_1 = (0, -0.2)
DD_2 = 0.01 / 2  # e_2 - e_0 = (-0.1, 0)
WING_OFFSET = WING_WIDTH - WING_WIDTH * math.log(6)

BY_HAND = {
    "point": DD_0,
    "distance": DD_0 + DD_1,
    "distances": DD_0 + DD_1 + DD_2,
    # The true triangle has the area 0.5, the predicted one |0.9 * 1 - 0.2 * -0.1| / 2 = 0.46.
    "triangles": DD_0 + DD_1 + DD_2 + 0.04,
    # The base's true points have y = 0; one of its four predicted coordinates is 0.2 beyond.
    "areas": DD_0 + DD_1 + DD_2 + 0.2 / 4,
    "wing": (0.1 - WING_OFFSET + 0.2 - WING_OFFSET) / 6,
}


def test_every_loss_has_a_value_by_hand():
    assert BY_HAND.keys() == LOSSES.keys()


@pytest.mark.parametrize("name", BY_HAND)
def test_loss_by_hand(name):
    loss = make_loss(name, THREE)
    assert loss(PREDICTED, TRUE).item() == pytest.approx(BY_HAND[name], rel=1e-5)
    assert loss(TRUE, TRUE).item() == 0


WITHOUT_B = {
    "point": 0.01 / 4,
    "distance": 0.01 / 4,  # no two points in succession are marked
    "distances": 0.01 / 4 + DD_2,
    "triangles": 0.01 / 4 + DD_2,
    "areas": 0.01 / 4 + DD_2 + 0.1 / 2,  # the base's box is the point a
    "wing": (0.1 - WING_OFFSET) / 4,
}


@pytest.mark.parametrize("name", LOSSES)
def test_loss_with_an_unmarked_point_by_hand(name):
    true, marked = TRUE.clone(), torch.tensor([[True, False, True]])
    true[0, 1] = torch.nan
    predicted = PREDICTED.clone().requires_grad_()
    loss = make_loss(name, THREE)(predicted, true, marked)
    assert loss.item() == pytest.approx(WITHOUT_B[name], rel=1e-5)
    loss.backward()
    assert predicted.grad[0, 1].tolist() == [0, 0]
    assert predicted.grad.isfinite().all()
    assert predicted.grad[0, 0, 0] > 0


@pytest.mark.parametrize("name", LOSSES)
def test_marked_points_count_over_the_whole_batch(name):
    loss, points = make_loss(name, load_point_set("cats-9")), torch.rand(2, 4, 9, 2)
    predicted, true = points.unbind()
    marked = torch.ones(4, 9, dtype=torch.bool)
    assert loss(predicted, true, marked).item() == pytest.approx(loss(predicted, true).item(), rel=1e-5)
    # A face without any marked point does not count, as if it were not in the batch.
    marked[3], without = False, loss(predicted[:3], true[:3]).item()
    true[3] = torch.nan
    assert loss(predicted, true, marked).item() == pytest.approx(without, rel=1e-5)
    assert loss(predicted, true, marked & False).item() == 0


@pytest.mark.parametrize("name", BY_HAND)
def test_batch_mean(name):
    loss = make_loss(name, THREE)
    both = loss(torch.cat([PREDICTED, TRUE]), torch.cat([TRUE, TRUE]))
    assert both.item() == pytest.approx(BY_HAND[name] / 2, rel=1e-5)


def test_wing_is_continuous():
    def at(error):
        return wing_loss(torch.full((1, 2, 2), error, dtype=torch.float64), torch.zeros(1, 2, 2)).item()

    assert at(0.01) == pytest.approx(0.0390625 * math.log(1 + 0.01 / 0.0078125))
    assert at(WING_WIDTH - 1e-9) == pytest.approx(at(WING_WIDTH + 1e-9), abs=1e-8)
    assert (WING_WIDTH, WING_CURVATURE) == (0.0390625, 0.0078125)


@given(st.integers(2, 9), st.integers(0, 1000))
def test_distances_are_the_sum_of_dd(count, seed):
    random = torch.Generator().manual_seed(seed)
    predicted, true = torch.rand(2, 4, count, 2, dtype=torch.float64, generator=random).unbind()
    names = tuple(f"p{number}" for number in range(count))
    points = PointSet("any", names, (), {}, (names[:1], names[1:2]), names[:2])
    total = (predicted - true).square().mean()
    for gap in range(1, count):
        moved = (predicted[:, gap:] - predicted[:, :-gap]) - (true[:, gap:] - true[:, :-gap])
        total += moved.square().mean()
    loss = make_loss("distances", points)
    assert loss(predicted.float(), true.float()).item() == pytest.approx(total.item(), rel=1e-4)


def test_shift_changes_only_dd_0():
    moved = TRUE + torch.tensor([0.3, 0.0])
    assert make_loss("distances", THREE)(moved, TRUE).item() == pytest.approx(0.09 / 2)


def test_triangles_ignore_mirroring():
    square = PointSet("four", tuple("abcd"), (), {}, (("a",), ("b",)), ("a", "b"))
    true = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]])
    turned = true.flip(-1)
    distances = make_loss("distances", square)(turned, true)
    assert make_loss("triangles", square)(turned, true).item() == pytest.approx(distances.item())


def test_selection_of_triples_is_reproducible():
    points = load_point_set("faces-68")
    predicted, true = torch.rand(2, 3, 68, 2, generator=torch.manual_seed(0)).unbind()
    one, other = (make_loss("triangles", points)(predicted, true).item() for _ in range(2))
    assert one == other
    assert math.comb(68, 3) > MAX_TRIPLES


def test_areas_pull_points_into_their_area():
    predicted = TRUE.clone().requires_grad_()
    outside = predicted + torch.tensor([[[0.0, 0.0], [0.5, 0.0], [0.0, 0.0]]])
    make_loss("areas", THREE)(outside, TRUE).backward()
    assert predicted.grad[0, 1, 0] > 0


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("point_set", ["faces-68", "cats-9", "drawn-29"])
def test_gradients_are_finite(name, point_set):
    points = load_point_set(point_set)
    true = torch.rand(2, points.count, 2, generator=torch.manual_seed(1))
    predicted = true.clone()
    predicted[1] += 0.1
    predicted.requires_grad_()
    make_loss(name, points)(predicted, true).backward()
    assert predicted.grad.isfinite().all()
    assert predicted.grad[1].abs().sum() > 0


def test_normalised_mean_error_by_hand():
    # Distances 0.1, 0.2 and 0; the points a and b of `scale` are 1 apart, then 2.
    errors = normalised_mean_errors(torch.cat([PREDICTED, 2 * PREDICTED]), torch.cat([TRUE, 2 * TRUE]), THREE)
    assert errors.tolist() == pytest.approx([0.1, 0.1])


def test_normalised_mean_error_is_over_the_marked_points():
    true = torch.cat([TRUE, TRUE])
    true[0, 2] = torch.nan
    errors = normalised_mean_errors(torch.cat([PREDICTED] * 2), true, THREE, ~true.isnan().any(-1))
    assert errors.tolist() == pytest.approx([0.15, 0.1])


def test_faces_68_is_normalised_by_the_outer_eye_corners():
    points = load_point_set("faces-68")
    assert points.scale_indices == [36, 45]
    true = torch.zeros(1, 68, 2)
    true[0, 45, 0] = 50
    predicted = true.clone()
    predicted[0, 8, 1] = 34
    assert normalised_mean_errors(predicted, true, points).item() == pytest.approx(34 / 68 / 50)
