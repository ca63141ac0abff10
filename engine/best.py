"""Which of a run's checkpoints is the best so far, by a smoothed score that a lucky draw cannot win."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

SMOOTHED = 3
"""Number of scores in the mean where a single one depends on a few random draws."""
STEADY = 0.02
"""Relative change of the mean below which it counts as steady."""


class BestTracker:
    """Follows a score, of which lower is better.

    Args:
        smoothed: number of consecutive scores in the mean that is compared.

    Attributes:
        step: the step of the best mean; None before the first score and after a rollback.
        score: the best mean, infinite before the first.
    """

    def __init__(self, smoothed: int = SMOOTHED) -> None:
        self._smoothed = smoothed
        self.step: int | None = None
        self.score = float("inf")
        self._recent: list[float] = []

    def add(self, step: int, score: float) -> bool:
        """Add a step's score; True if the mean with the scores before it is the best so far.

        The first means are over the scores there are.
        """
        self._recent = [*self._recent, score][-self._smoothed - 1 :]
        mean = self._mean(self._recent)
        if not mean < self.score:
            return False
        self.step, self.score = step, mean
        return True

    @classmethod
    def of(cls, steps: Iterable[int], scores: Iterable[float], smoothed: int = SMOOTHED) -> BestTracker:
        """The best step of logged scores.

        After a rollback, best.pt may be of another: it had to beat scores that are no longer logged.
        """
        best = cls(smoothed)
        for step, score in zip(steps, scores, strict=True):
            best.add(step, score)
        return best

    def trend(self) -> str:
        """Whether the mean is falling, steady or rising; an empty string before the second score."""
        if len(self._recent) < 2:
            return ""
        before, now = self._mean(self._recent[:-1]), self._mean(self._recent)
        if abs(now - before) < STEADY * abs(before):
            return "steady"
        return "falling" if now < before else "rising"

    def _mean(self, scores: list[float]) -> float:
        """The mean of the last scores that are smoothed."""
        last = scores[-self._smoothed :]
        return sum(last) / len(last)

    def roll_back(self, state: dict[str, Any] | None) -> None:
        """Forget the step of the best score, and the scores of steps that will be repeated.

        The best score itself still has to be beaten: its checkpoint is kept.

        Args:
            state: what `state` returned at the step to resume from, whose scores still count; None for the
                start.
        """
        self.step, self._recent = None, list(state["recent"]) if state else []

    def state(self) -> dict[str, Any]:
        """What `load_state` needs to resume from here."""
        return {"step": self.step, "score": self.score, "recent": self._recent}

    def load_state(self, state: dict[str, Any]) -> None:
        """Resume from what `state` returned."""
        self.step, self.score, self._recent = state["step"], state["score"], list(state["recent"])
