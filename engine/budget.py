"""Time and steps of one sitting of a training against what its settings allow, and how it ended."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tqdm import tqdm


class Budget(Protocol):
    """The settings of a training that say when it ends."""

    @property
    def steps(self) -> int | None:
        """Steps in all; None for no limit."""

    @property
    def minutes(self) -> float | None:
        """Minutes of a sitting; None for no limit."""

    @property
    def batch_size(self) -> int:
        """Images a step."""


@dataclass(frozen=True)
class TrainingResult:
    """How a sitting ended."""

    step: int
    seconds: float
    checkpoint: Path
    exit_code: int
    """0, or 128 plus the number of the signal that ended it."""


class BudgetTimer:
    """Follows a sitting that begins now, at a step.

    Attributes:
        longest_step: seconds of the longest step with all that was done after it; None before the first
            has ended. The first, in which libraries choose their ways, counts only until there is a second.
    """

    def __init__(self, settings: Budget, step: int) -> None:
        self._settings = settings
        self._start = time.monotonic()
        self._first_step = step
        self._marked_step, self._marked_time = step, self._start
        self.longest_step: float | None = None
        self._turns, self._turned = 0, self._start

    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._start

    def roll_back(self, steps: int) -> None:
        """Take note that so many steps are to be made again."""
        self._first_step -= steps
        self._marked_step -= steps

    def end_step(self) -> None:
        """Take note that a step has ended, with all that is done after it."""
        now = time.monotonic()
        seconds, self._turned = now - self._turned, now
        self.longest_step = max(seconds, self.longest_step or 0.0) if self._turns > 1 else seconds
        self._turns += 1

    def is_exhausted(self, step: int) -> bool:
        """Whether the steps or the minutes are used up."""
        steps, minutes = self._settings.steps, self._settings.minutes
        return (steps is not None and step >= steps) or (
            minutes is not None and self.seconds() >= 60 * minutes
        )

    def images_per_second(self, step: int) -> float:
        """Since the last call, everything included."""
        now = time.monotonic()
        rate = (step - self._marked_step) * self._settings.batch_size / max(now - self._marked_time, 1e-9)
        self._marked_step, self._marked_time = step, now
        return rate

    def expected_steps(self, step: int) -> int | None:
        """The step at which the run will end, as far as can be told; None before the first step."""
        steps, minutes = self._settings.steps, self._settings.minutes
        if minutes is None:
            return steps
        done = step - self._first_step
        if done == 0:
            return None
        left = max(0.0, 60 * minutes - self.seconds())
        expected = step + round(left * done / self.seconds())
        return expected if steps is None else min(expected, steps)

    def progress_bar(self, step: int, *, shown: bool = True) -> tqdm:
        """A progress bar over steps that stands at this one."""
        return tqdm(
            initial=step,
            total=self.expected_steps(step),
            desc="training",
            unit=" steps",
            dynamic_ncols=True,
            smoothing=0.05,
            disable=not shown,
        )
