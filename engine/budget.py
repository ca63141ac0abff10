"""How long a run may take, in steps and minutes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import MAXYEAR, datetime, timedelta
from pathlib import Path
from typing import Protocol

from engine.progress import ProgressBar

TEST_PHASES = ((10, 10.0), (10, 20.0))
"""Steps of a `SpeedTest`'s warm-up and of its measurement, and the seconds after which each ends sooner, but
not before two steps."""


class Budget(Protocol):
    """The settings that decide when a run ends."""

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
    """How a run ended."""

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

    def last_step(self, step: int, step_seconds: float) -> int | None:
        """The step at which training will end if a step takes so many seconds; None without an end."""
        steps, minutes = self._settings.steps, self._settings.minutes
        if minutes is None:
            return steps
        affordable = step + max(1, round((60 * minutes - self.seconds()) / step_seconds))
        return affordable if steps is None else min(affordable, steps)

    def progress_bar(self, step: int, *, shown: bool = True) -> ProgressBar:
        """A progress bar over steps, at this step."""
        return ProgressBar(
            initial=step,
            total=self.expected_steps(step),
            desc="training",
            unit=" steps",
            dynamic_ncols=True,
            smoothing=0.05,
            bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]",
            disable=not shown,
        )


class SpeedTest:
    """Measures how long a step takes, from now on, once libraries have chosen their algorithms.

    Args:
        synchronize: waits until the steps so far have been computed.
    """

    def __init__(self, synchronize: Callable[[], object]) -> None:
        self._synchronize = synchronize
        self._phase, self._steps, self._start = 0, 0, time.monotonic()

    def end_step(self) -> float | None:
        """Record that a step has ended, and return the seconds per step if the test ends with this one."""
        if self._phase == len(TEST_PHASES):
            return None
        self._steps += 1
        steps, seconds = TEST_PHASES[self._phase]
        if self._steps < steps and (self._steps < 2 or time.monotonic() - self._start < seconds):
            return None
        self._synchronize()
        now = time.monotonic()
        step_seconds = (now - self._start) / self._steps
        self._phase, self._steps, self._start = self._phase + 1, 0, now
        return step_seconds if self._phase == len(TEST_PHASES) else None


def clock_time(seconds: float) -> str:
    """The local time in so many seconds, such as 14:05; with the day if that is not today."""
    now = datetime.now()
    try:
        then = now + timedelta(seconds=seconds)
    except OverflowError:  # as with --steps 1000000000000, meant as no limit
        return f"the year {MAXYEAR} or later"
    days = (then.date() - now.date()).days
    return then.strftime("%H:%M" if days == 0 else "%H:%M on %A" if days < 7 else "%H:%M on %Y-%m-%d")


def format_seconds(seconds: float) -> str:
    """A short duration with two digits, such as 0.71 s or 12 s."""
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
