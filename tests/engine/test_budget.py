from datetime import datetime
from types import SimpleNamespace

import pytest

from engine import budget
from engine.budget import BudgetTimer, SpeedTest, clock_time, format_seconds
from gan.config import Settings


def test_the_first_step_counts_only_until_the_second_ends(monkeypatch):
    now = 0.0
    monkeypatch.setattr(budget.time, "monotonic", lambda: now)
    timer = BudgetTimer(Settings(), 0)
    assert timer.longest_step is None
    for seconds, longest in [(50.0, 50.0), (3.0, 3.0), (8.0, 8.0), (2.0, 8.0)]:
        now += seconds
        timer.end_step()
        assert timer.longest_step == pytest.approx(longest)


@pytest.mark.parametrize(
    ("durations", "ended_at", "expected"),
    [
        ([5.0] + 9 * [0.1] + 10 * [0.2] + [9.0], 20, 0.2),  # ten to warm up, ten timed
        ([30.0, 12.0, 10.0, 10.0, 10.0], 4, 10.0),  # slow steps: known within the first minutes
        (12 * [0.1], None, None),
    ],
)
def test_a_speed_test_measures_steps_once_libraries_have_chosen_their_algorithms(
    monkeypatch, durations, ended_at, expected
):
    now, waits = 0.0, []
    monkeypatch.setattr(budget.time, "monotonic", lambda: now)
    test = SpeedTest(lambda: waits.append(now))
    results = {}
    for step, seconds in enumerate(durations, start=1):
        now += seconds
        if (result := test.end_step()) is not None:
            results[step] = result
    assert results == ({} if ended_at is None else {ended_at: pytest.approx(expected)})
    assert len(waits) == (1 if ended_at is None else 2)  # for a GPU, which computes later


@pytest.mark.parametrize(
    ("steps", "minutes", "last"), [(None, None, None), (50, None, 50), (None, 2.0, 70), (50, 2.0, 50)]
)
def test_the_last_step_follows_from_the_speed(monkeypatch, steps, minutes, last):
    monkeypatch.setattr(budget.time, "monotonic", lambda: 0.0)
    timer = BudgetTimer(Settings(steps=steps, minutes=minutes), 10)
    assert timer.last_step(10, 2.0) == last


def test_clock_times_have_a_day_if_that_is_not_today(monkeypatch):
    noon = datetime(2026, 3, 2, 12, 0)
    monkeypatch.setattr(budget, "datetime", SimpleNamespace(now=lambda: noon))
    hours = {3: "15:00", 14: "02:00 on Tuesday", 24 * 8: "12:00 on 2026-03-10"}
    assert {hour: clock_time(3600 * hour) for hour in hours} == hours
    assert clock_time(1e12) == clock_time(1e18) == "the year 9999 or later"


def test_seconds_have_two_digits():
    assert [format_seconds(seconds) for seconds in (0.00812, 0.714, 12.4)] == ["0.0081 s", "0.71 s", "12 s"]
