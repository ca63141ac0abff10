"""How long a training may take, in steps and minutes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tqdm import tqdm


class Budget(Protocol):
    """The settings that decide when a training ends."""

    @property
    def steps(self) -> int | None:
        """Number of steps, including those before a resume; None for no limit."""

    @property
    def minutes(self) -> float | None:
        """Minutes since the start or the resume; None for no limit."""

    @property
    def batch_size(self) -> int:
        """Images per step."""


@dataclass(frozen=True)
class TrainingResult:
    """How a training ended."""

    step: int
    seconds: float
    checkpoint: Path
    exit_code: int
    """0, or 128 plus the number of the signal that ended it."""


class BudgetTimer:
    """Measures steps and time from now on, starting or resuming at a step.

    Attributes:
        longest_step: seconds of the longest step, including everything done after it; None before the first
            one ends. The first, in which libraries choose algorithms, counts only until the second ends.
    """

    def __init__(self, settings: Budget, step: int) -> None:
        self._settings = settings
        self._start = self._last_rate_time = self._last_step_time = time.monotonic()
        self._first_step = self._last_rate_step = step
        self._steps_ended = 0
        self.longest_step: float | None = None

    def seconds(self) -> float:
        """Seconds since the start or the resume."""
        return time.monotonic() - self._start

    def roll_back(self, steps: int) -> None:
        """Record that this many steps will be repeated."""
        self._first_step -= steps
        self._last_rate_step -= steps

    def end_step(self) -> None:
        """Record that a step has ended, with everything done after it."""
        now = time.monotonic()
        seconds, self._last_step_time = now - self._last_step_time, now
        self.longest_step = max(seconds, self.longest_step or 0.0) if self._steps_ended > 1 else seconds
        self._steps_ended += 1

    def is_exhausted(self, step: int) -> bool:
        """Whether no steps or no minutes are left."""
        steps, minutes = self._settings.steps, self._settings.minutes
        return (steps is not None and step >= steps) or (
            minutes is not None and self.seconds() >= 60 * minutes
        )

    def images_per_second(self, step: int) -> float:
        """The rate since the last call, with everything included."""
        now = time.monotonic()
        images = (step - self._last_rate_step) * self._settings.batch_size
        rate = images / max(now - self._last_rate_time, 1e-9)
        self._last_rate_step, self._last_rate_time = step, now
        return rate

    def expected_steps(self, step: int) -> int | None:
        """An estimate of the step at which training will end; None if unknown before the first step."""
        steps, minutes = self._settings.steps, self._settings.minutes
        if minutes is None:
            return steps
        completed = step - self._first_step
        if completed == 0:
            return None
        seconds_left = max(0.0, 60 * minutes - self.seconds())
        expected = step + round(seconds_left * completed / self.seconds())
        return expected if steps is None else min(expected, steps)

    def progress_bar(self, step: int, *, shown: bool = True) -> tqdm:
        """A progress bar over steps, at this step."""
        return tqdm(
            initial=step,
            total=self.expected_steps(step),
            desc="training",
            unit=" steps",
            dynamic_ncols=True,
            smoothing=0.05,
            disable=not shown,
        )
