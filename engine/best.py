"""Which of a run's networks were its best so far, by a score that single lucky draws cannot win."""

from __future__ import annotations

from typing import Any

SMOOTHED = 3
"""Scores over which a mean is taken where each is of a few random draws."""


class BestTracker:
    """Follows a score, of which less is better, and knows when its smoothed value is the best so far.

    Args:
        smoothed: scores over which a mean is taken.

    Attributes:
        step: the step of the best; None before the first score, and after going back.
        score: the best mean of so many scores in a row, infinite before the first.
    """

    def __init__(self, smoothed: int = SMOOTHED) -> None:
        self._smoothed = smoothed
        self.step: int | None = None
        self.score = float("inf")
        self._recent: list[float] = []

    def add(self, step: int, score: float) -> bool:
        """Take in a step's score; whether the mean with those before it is the best there was.

        The first scores, which have fewer before them, are means of what there is.
        """
        self._recent = [*self._recent, score][-self._smoothed :]
        mean = sum(self._recent) / len(self._recent)
        if not mean < self.score:
            return False
        self.step, self.score = step, mean
        return True

    def roll_back(self, state: dict[str, Any] | None) -> None:
        """Forget of which step the best was, and the scores of those that will now be made otherwise.

        The best itself stays one to be beaten: it is kept.

        Args:
            state: what `state` gave at the step gone back to, whose scores still count; None for the start.
        """
        self.step, self._recent = None, list(state["recent"]) if state else []

    def state(self) -> dict[str, Any]:
        """What `load_state` needs to go on from here."""
        return {"step": self.step, "score": self.score, "recent": self._recent}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.step, self.score, self._recent = state["step"], state["score"], list(state["recent"])
