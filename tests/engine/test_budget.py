"""What a clock tells of a sitting, with another clock behind it."""

from __future__ import annotations

import pytest

from engine import budget as clock
from engine.budget import BudgetTimer
from gan.config import Settings


def test_the_longest_turn_counts_the_first_only_until_there_is_a_second(monkeypatch):
    now = 0.0
    monkeypatch.setattr(clock.time, "monotonic", lambda: now)
    followed = BudgetTimer(Settings(), 0)
    assert followed.longest_step is None
    for seconds, longest in [(50.0, 50.0), (3.0, 3.0), (8.0, 8.0), (2.0, 8.0)]:
        now += seconds
        followed.end_step()
        assert followed.longest_step == pytest.approx(longest)
