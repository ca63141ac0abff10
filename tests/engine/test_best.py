import pytest

from engine.best import BestTracker


def test_the_best_is_the_lowest_mean_of_three_in_a_row():
    best = BestTracker()
    improved = [best.add(step, score) for step, score in enumerate([9.0, 5.0, 7.0, 3.0, 6.0, 6.0], start=1)]
    # Means: 9, 7, 7, 5, 5.33, 5.
    assert improved == [True, True, False, True, False, False]
    assert (best.step, best.score) == (4, pytest.approx(5.0))


def test_one_lucky_score_is_not_enough():
    best = BestTracker()
    for step, score in enumerate([4.0, 4.0, 4.0], start=1):
        best.add(step, score)
    assert not best.add(4, 9.0)
    assert not best.add(5, 1.0)
    assert best.step == 1


def test_a_score_that_is_no_number_is_never_the_best():
    best = BestTracker()
    best.add(1, 2.0)
    assert not best.add(2, float("nan"))
    assert best.step == 1


def test_it_goes_on_from_its_state():
    best, other = BestTracker(), BestTracker()
    for step, score in enumerate([5.0, 2.0], start=1):
        best.add(step, score)
    other.load_state(best.state())
    assert other.add(3, 1.0) == best.add(3, 1.0)
    assert other.state() == best.state()


def test_a_lucky_score_after_going_back_is_not_enough_either():
    best = BestTracker()
    for step, score in enumerate([4.0, 4.0], start=1):
        best.add(step, score)
    state = best.state()
    best.add(3, 40.0)
    best.roll_back(state)
    assert (best.step, best.score) == (None, 4.0)
    assert not best.add(3, 4.5)  # the mean of 4, 4 and 4.5
    assert best.add(4, 1.0)  # 3.2, that of 4, 4.5 and 1
    assert best.step == 4


def test_before_the_first_step_there_are_no_scores():
    best = BestTracker()
    best.add(1, 4.0)
    best.roll_back(None)
    assert best.add(1, 3.0)


def test_the_trend_is_that_of_the_mean():
    best, trends = BestTracker(), []
    for step, score in enumerate([9.0, 6.0, 6.0, 8.9, 6.05, 20.0], start=1):
        best.add(step, score)
        trends.append(best.trend())
    # Means: 9, 7.5, 7, 6.97, 6.98, 11.65. A single rise is no trend.
    assert trends == ["", "falling", "falling", "steady", "steady", "rising"]


def test_the_trend_survives_an_interruption():
    best, resumed = BestTracker(), BestTracker()
    for step, score in enumerate([9.0, 6.0, 6.0, 3.0], start=1):
        best.add(step, score)
    resumed.load_state(best.state())
    assert resumed.trend() == best.trend() == "falling"
    resumed.load_state(best.state() | {"recent": [6.0, 6.0, 3.0]})  # of an earlier version
    assert resumed.trend() == "falling"
