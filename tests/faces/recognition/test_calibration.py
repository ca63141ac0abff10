import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import UserError
from faces.recognition.calibration import (
    Identification,
    accept_rate,
    has_enough_trials,
    pair_similarities,
    roc_curve,
    score_identification,
    threshold_at_far,
)

SIMILARITIES = st.lists(st.floats(-1, 1), min_size=1, max_size=40)


def test_roc_curve_by_hand():
    curve = roc_curve(genuine=[0.9, 0.5], impostor=[0.5, 0.1, 0.0, -0.2])
    assert curve.thresholds.tolist() == [np.inf, 0.9, 0.5, 0.1, 0.0, -0.2]
    assert curve.far.tolist() == [0, 0, 0.25, 0.5, 0.75, 1]
    assert curve.tar.tolist() == [0, 0.5, 1, 1, 1, 1]
    # Seven of the eight pairs are in the right order, and one is a tie.
    assert curve.area() == pytest.approx(7.5 / 8)


def test_thinned_curve_keeps_its_ends_and_its_strict_part():
    random = np.random.default_rng(1)
    curve = roc_curve(random.normal(0.6, 0.1, 20_000), random.normal(0, 0.2, 100_000))
    thin = curve.thinned(100)
    assert 60 <= len(thin.far) <= 100
    for values, full in ((thin.far, curve.far), (thin.tar, curve.tar)):
        assert (values[0], values[-1]) == (full[0], full[-1])
        assert (np.diff(values) >= 0).all()
    assert np.isin(thin.thresholds, curve.thresholds).all()
    strict = thin.far[(thin.far > 0) & (thin.far < 1e-3)]
    assert len(strict) >= 15, "two of the five decades"
    assert np.diff(thin.tar).max() < 0.05
    assert thin.thinned(100) is thin


def test_threshold_by_hand():
    impostor = [0.5, 0.4, 0.3, 0.2, 0.1]
    assert 0.4 < threshold_at_far(impostor, 0.2) < 0.4 + 1e-9
    assert 0.4 < threshold_at_far(impostor, 0.39) < 0.4 + 1e-9
    assert 0.5 < threshold_at_far(impostor, 0.0) < 0.5 + 1e-9
    assert 0.3 < threshold_at_far([0.3] * 9 + [0.1], 0.5) < 0.3 + 1e-9, "equal similarities are all rejected"
    assert threshold_at_far([1.0, 0.5], 0.0) == 1.0


def test_rate_needs_thirty_false_accepts():
    assert [has_enough_trials(0.1, count) for count in (299, 300)] == [False, True]
    assert [has_enough_trials(0.001, count) for count in (29_999, 30_000)] == [False, True]
    assert not has_enough_trials(0.0, 10**9)


@given(SIMILARITIES, st.floats(0, 0.99))
def test_threshold_is_the_lowest_at_the_requested_rate(impostor, far):
    threshold = threshold_at_far(impostor, far)
    if threshold < 1:
        assert accept_rate(impostor, threshold) <= far + 1e-9
    assert accept_rate(impostor, np.nextafter(threshold, -np.inf)) > far - 1e-9 or threshold == -1


@given(SIMILARITIES, SIMILARITIES)
def test_curves_rise_from_zero_to_one(genuine, impostor):
    curve = roc_curve(genuine, impostor)
    assert (np.diff(curve.far) >= 0).all()
    assert (np.diff(curve.tar) >= 0).all()
    assert (curve.far[0], curve.tar[0], curve.far[-1], curve.tar[-1]) == (0, 0, 1, 1)
    by_pairs = np.mean([(g > i) + (g == i) / 2 for g in genuine for i in impostor])
    assert curve.area() == pytest.approx(by_pairs, abs=1e-9)


@pytest.mark.parametrize("far", [-0.1, 1.0, float("nan")])
def test_invalid_rates(far):
    with pytest.raises(UserError, match="false-accept rate must be"):
        threshold_at_far([0.1], far)


def test_too_few_people():
    with pytest.raises(UserError, match="two people"):
        roc_curve([0.5], [])
    with pytest.raises(UserError, match="two people"):
        threshold_at_far([], 0.01)


def test_pair_similarities_by_hand():
    vectors = [[1, 0], [0, 1], [0.6, 0.8]]
    genuine, impostor = pair_similarities(vectors, ["a", "b", "a"])
    assert genuine.tolist() == [0.6]
    assert impostor.tolist() == [0.0, 0.8]


def test_identification_by_hand():
    table = [[0.9, 0.2, 0.1], [0.3, 0.6, 0.7], [0.4, 0.5, 0.2], [0.0, 0.1, 0.8]]
    result = score_identification(table, ["a", "c", "a", "c"], ["a", "b", "c"])
    assert result.genuine.tolist() == [0.9, 0.7, 0.4, 0.8]
    assert result.impostor.tolist() == [0.2, 0.6, 0.5, 0.1]
    assert result.rank_1() == 0.75
    assert result.balanced_rank_1() == 0.75, "a: one of two, c: both"
    uneven = score_identification(table, ["c", "c", "a", "c"], ["a", "b", "c"])
    assert uneven.rank_1() == 0.5
    assert uneven.balanced_rank_1() == pytest.approx((2 / 3 + 0) / 2)
    assert result.identification_rate(0.75) == 0.5
    assert result.identification_rate(0.0) == 0.75
    assert result.false_accept_rate(0.55) == 0.25
    curve = result.curve()
    at = curve.thresholds.tolist().index(0.5)
    assert (curve.far[at], curve.tar[at]) == (0.5, 0.75)
    assert curve.tar[-1] == 0.75, "a face that is more similar to another person is never correct"


def test_false_accept_rate_ignores_the_enrolled_person():
    result = Identification(genuine=np.array([1.0]), impostor=np.array([-0.5]), people=("a",))
    assert result.false_accept_rate(0.0) == 0
