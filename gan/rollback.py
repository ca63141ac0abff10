"""How a run recovers from an alarm: which checkpoint it returns to, and how it continues from there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from gan.monitor import Alarm

MAX_ROLLBACKS = 3
"""If three other seeds and an eighth of the learning rate do not help, the data or the settings are at
fault."""
RATE_FACTOR = 0.5
"""Factor on the learning rate for each rollback: Adam's steps are as long as the rate, and steps that are too
long are what the alarms have in common (Heusel et al. 2017: slow enough rates converge)."""


class UnrecoverableError(Exception):
    """Training failed again after the last rollback. The message is one line."""


@dataclass(frozen=True)
class Rollback:
    """How often a run has rolled back, and what follows from it.

    A checkpoint contains it, so a resumed run continues in the same way. A rollback only ever lowers the
    learning rate and changes the random seed.
    """

    times: int = 0
    from_step: int = 0
    """The step returned to the last time; 0 for the start."""

    @property
    def rate_factor(self) -> float:
        """Factor on the learning rate of both networks, in (0, 1]."""
        return RATE_FACTOR**self.times

    def next(self, alarm: Alarm, checkpoints: Iterable[int]) -> Rollback:
        """The rollback for a certain alarm.

        It returns to the newest checkpoint from before the trouble began. A checkpoint after which training
        failed again is skipped in favour of an older one, as it may contain the trouble already. Without a
        checkpoint that is old enough, `from_step` is 0: training starts over.

        Args:
            alarm: the alarm.
            checkpoints: steps of the intact checkpoints, in any order.

        Raises:
            UnrecoverableError: the run has rolled back `MAX_ROLLBACKS` times.
        """
        if self.times >= MAX_ROLLBACKS:
            raise UnrecoverableError(f"{alarm.message}, again after {self.times} rollbacks")
        good = {step for step in checkpoints if step <= alarm.since}
        step = max(good - {self.from_step}, default=max(good, default=0))
        return Rollback(self.times + 1, step)

    def describe(self, learning_rate: float) -> str:
        """One line for the log: how a run whose settings have this learning rate continues."""
        start = f"returning to step {self.from_step}" if self.from_step else "starting over at step 0"
        return (
            f"{start} with another random seed and a learning rate of "
            f"{learning_rate * self.rate_factor:g}: rollback {self.times} of {MAX_ROLLBACKS}"
        )

    def state(self) -> dict[str, Any]:
        """Plain values for a checkpoint; `Rollback(**state)` restores it."""
        return asdict(self)


def rollback_seed(seed: int, times: int) -> int:
    """The seed of all random numbers after so many rollbacks.

    Args:
        seed: the run's, in [0, 2**63).
        times: `Rollback.times`.

    Returns:
        In [0, 2**63): `seed` itself for 0 times, otherwise a different one for each number of times.
    """
    if times == 0:
        return seed
    return int(np.random.SeedSequence((seed, times)).generate_state(1, np.uint64)[0] >> np.uint64(1))
