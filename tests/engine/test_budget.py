import pytest

from engine import budget
from engine.budget import BudgetTimer
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
