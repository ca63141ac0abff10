"""Probabilities with strangers among the answers."""

import json

import numpy as np
import pytest

from faces.recognition.calibration import accept_rate
from faces.recognition.open_set import (
    OpenSet,
    fit_temperature,
    from_json,
    gallery_shares,
    load_temperature,
    measure,
    rough,
    sharpen,
    with_unknown,
)


def scores(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Best cosines of known faces and of strangers."""
    random = np.random.default_rng(seed)
    return random.normal(0.6, 0.12, count).clip(-1, 1), random.normal(0.3, 0.1, count).clip(-1, 1)


def test_of_faces_with_a_probability_of_being_known_this_share_is_known():
    open_set = measure("cosine", *scores(3000, seed=1))
    known, strangers = scores(20_000, seed=2)
    predicted = open_set.known(np.concatenate([known, strangers]))
    true = np.repeat([1.0, 0.0], 20_000)
    for low in np.arange(0, 1, 0.1):
        inside = (predicted >= low) & (predicted < low + 0.1)
        assert inside.sum() > 300
        assert abs(true[inside].mean() - predicted[inside].mean()) < 0.06


def test_both_groups_weigh_the_same_however_many_faces_there_are():
    known, strangers = scores(4000, seed=1)
    all_faces, few_strangers = measure("cosine", known, strangers), measure("cosine", known, strangers[:400])
    assert few_strangers.known([0.45]) == pytest.approx(all_faces.known([0.45]), abs=0.06)


def test_probabilities_count_by_their_log_odds():
    random = np.random.default_rng(3)
    known, strangers = (1 / (1 + np.exp(-random.normal(middle, 1.5, 2000))) for middle in (4, 0))
    open_set = measure("probability", known, strangers)
    assert open_set.known([0.5])[0] < 0.2
    assert open_set.known([0.88])[0] == pytest.approx(0.5, abs=0.05)  # log odds of 2
    assert open_set.known([1.0])[0] > 0.99


def test_groups_that_never_overlap_give_finite_probabilities():
    open_set = measure("cosine", np.full(50, 0.9), np.full(50, 0.1))
    low, high = open_set.known([0.1, 0.9])
    assert 0 < low < 0.05
    assert 0.95 < high < 1
    assert measure("cosine", [0.1, 0.2], [0.8, 0.9]).slope == 0  # a better score never makes it less known


def test_the_rate_of_each_kept_threshold_is_that_of_the_strangers():
    known, strangers = scores(5000, seed=4)
    open_set = measure("cosine", known, strangers)
    assert len(open_set.thresholds) <= 300
    assert (np.diff(open_set.thresholds) < 0).all()
    rates = [accept_rate(strangers, threshold) for threshold in open_set.thresholds]
    assert open_set.far == pytest.approx(rates)
    assert open_set.far[0] == pytest.approx(1 / 5000)
    assert open_set.far[-1] == 1


def test_answers_sum_to_one_with_the_unknown_person():
    similarities = np.array([[0.9, 0.1, 0.0], [0.2, 0.2, 0.2]])
    open_set = OpenSet("cosine", 20.0, -10.0, np.empty(0), np.empty(0), 0)
    known = open_set.known(similarities.max(1))
    answers = with_unknown(known, gallery_shares(similarities, open_set))
    assert answers.sum(1) == pytest.approx([1, 1])
    assert answers[0].argmax() == 0
    assert answers[1].argmax() == 3
    assert answers[1, :3] == pytest.approx([answers[1, 0]] * 3)


def test_the_temperature_of_overconfident_probabilities_is_found():
    random = np.random.default_rng(5)
    logits = random.normal(0, 1.5, (4000, 6))
    right, too_sure = (sharpen(np.exp(factor * logits), 1) for factor in (1, 3))
    true = np.array([random.choice(6, p=row) for row in right])
    temperature = fit_temperature(too_sure, true)
    assert temperature == pytest.approx(3, rel=0.1)
    corrected = sharpen(too_sure, temperature)
    assert corrected.max(1).mean() == pytest.approx((corrected.argmax(1) == true).mean(), abs=0.02)
    assert too_sure.max(1).mean() > corrected.max(1).mean() + 0.1


def test_it_survives_json_and_refuses_anything_else():
    open_set = measure("probability", [0.9, 0.99], [0.2, 0.5, 0.7])
    again = from_json(json.loads(json.dumps(open_set.to_json())))
    assert again.known([0.3, 0.95]) == pytest.approx(open_set.known([0.3, 0.95]))
    assert again.far == pytest.approx(open_set.far, abs=1e-6)
    assert from_json(None) is None
    good = open_set.to_json()
    changes = ({"scale": "x"}, {"thresholds": [1]}, {"slope": "x"}, {"offset": 1e999}, {"strangers": None})
    for change in changes:
        with pytest.raises(ValueError, match="no measurement"):
            from_json(good | change)
    with pytest.raises(ValueError, match="no measurement"):  # `known` needs a slope or a threshold
        from_json(good | {"slope": None, "thresholds": [], "false_accept_rates": []})
    for value in ([], "x", 3, {}):
        with pytest.raises(ValueError, match="no measurement"):
            from_json(value)


def test_without_known_faces_there_are_rates_but_only_a_guess_of_what_is_known():
    open_set = measure("probability", [], [0.2, 0.5, 0.7])
    assert open_set.slope is None
    assert open_set.known([0.7]) == pytest.approx([0.5])  # where the fewest strangers are left
    assert open_set.far == pytest.approx([1 / 3, 2 / 3, 1])
    assert rough("cosine", 0.7).known([0.7]) == pytest.approx([0.5])
    assert rough("probability", 0.9).known([0.9]) == pytest.approx([0.5])


def test_the_temperature_is_read_for_the_step_that_it_was_measured_on(tmp_path):
    assert load_temperature(tmp_path, 10) == 1
    for content, expected in (
        ('{"step": 10, "temperature": 1.7}', 1.7),
        ('{"step": 20, "temperature": 1.7}', 1),
        ('{"step": 10}', 1),
        ('{"step": 10, "temperature": 1e9}', 1),
        ("[", 1),
    ):
        (tmp_path / "report.json").write_text(content)
        assert load_temperature(tmp_path, 10) == expected
