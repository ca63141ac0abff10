"""What a run does about a certain alarm: where it goes back to, and in which gentler form it goes on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from gan.monitor import Alarm

MAX_ROLLBACKS = 3
"""A fault that three other sequences of random numbers and an eighth of the learning rate do not mend
lies in the data or the settings; more tries would only cost time."""
RATE_FACTOR = 0.5
"""On the learning rate, for each recovery: Adam's steps are as long as the rate, and too long a step is
what the alarms have in common (Heusel et al. 2017: slow enough rates converge). Three times make an
eighth, at which a run still learns."""


class UnrecoverableError(Exception):
    """Training went wrong once more after the last recovery. The message is one line."""


@dataclass(frozen=True)
class Recovery:
    """How often a run has gone back, and what follows from that for how it goes on.

    A checkpoint holds it, so that a resumed run goes on in the same form. It never takes a run outside
    its settings: a learning rate is only ever made smaller, and of what is drawn only the seed changes.
    """

    times: int = 0
    from_step: int = 0
    """The checkpoint gone back to the last time; 0 for the start."""

    @property
    def salt(self) -> int:
        """For `rollback_seed`: different after each recovery, 0 before the first."""
        return self.times

    @property
    def rate_factor(self) -> float:
        """On the learning rate of both networks, in (0, 1]."""
        return RATE_FACTOR**self.times

    def next(self, alarm: Alarm, checkpoints: Iterable[int]) -> Recovery:
        """The recovery from an alarm that is certain.

        It goes back to the newest checkpoint of before the trouble began. One from which training went
        wrong again is passed over for an older one where there is one: it may hold the trouble already.
        Where no checkpoint is old enough, `from_step` is 0: training starts again, with other weights or, in
        a run begun from another's networks, with those.

        Args:
            alarm: what was seen.
            checkpoints: the steps of those that are there and whole, in any order.

        Raises:
            UnrecoverableError: this was to be one more than `MAX_ROLLBACKS`.
        """
        if self.times >= MAX_ROLLBACKS:
            raise UnrecoverableError(f"{alarm.message}, once more after {self.times} recoveries")
        good = {step for step in checkpoints if step <= alarm.since}
        step = max(good - {self.from_step}, default=max(good, default=0))
        return Recovery(self.times + 1, step)

    def describe(self, learning_rate: float) -> str:
        """One line for the log: the form in which a run goes on whose settings have this learning rate."""
        start = f"going back to step {self.from_step}" if self.from_step else "starting again from step 0"
        return (
            f"{start} with other random numbers and the learning rate at "
            f"{learning_rate * self.rate_factor:g}: recovery {self.times} of {MAX_ROLLBACKS}"
        )

    def state(self) -> dict[str, Any]:
        """As values JSON and a checkpoint can hold; `Recovery(**state)` makes it again."""
        return asdict(self)


def rollback_seed(seed: int, salt: int) -> int:
    """The seed of everything that training draws: weights, latent vectors, order, flips, augmentation.

    Args:
        seed: the run's, in [0, 2**63).
        salt: `Recovery.salt`.

    Returns:
        In [0, 2**63): `seed` itself where `salt` is 0, otherwise one unlike it and that of any other salt.
    """
    if salt == 0:
        return seed
    return int(np.random.SeedSequence((seed, salt)).generate_state(1, np.uint64)[0] >> np.uint64(1))
