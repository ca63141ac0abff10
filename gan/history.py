"""What a run remembers beside its networks and optimizers, kept in each checkpoint."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.best import BestTracker
from gan.monitor import Limits, Watch
from gan.rollback import Recovery


class Course:
    """How a run has gone so far.

    Args:
        real: some images of the data set, uint8 [N, 3, S, S], as many as there are samples, to which
            the watch compares those.
        learning_rate: of the run's settings.

    Attributes:
        best: which of its steps had the best score.
        watch: what looks out for trouble.
        recovery: how often the run went back after trouble.
    """

    def __init__(self, real: NDArray[np.uint8], learning_rate: float) -> None:
        self.best = BestTracker()
        self.recovery = Recovery()
        self._real, self._learning_rate = real, learning_rate
        self.watch = self._new_watch()

    def go_back(self, recovery: Recovery, state: dict[str, Any] | None) -> None:
        """Go on from an earlier step after trouble; what was best until then stays the best.

        Args:
            recovery: how often the run has gone back, this time included.
            state: what `state` gave at that step; None for step 0.
        """
        self.recovery = recovery
        self.best.roll_back(state and state["best"])
        self.watch = self._new_watch()
        if state is not None:
            self.watch.load_state(state["watch"])

    def state(self) -> dict[str, Any]:
        """What `load_state` needs to go on from here."""
        return {
            "best": self.best.state(),
            "watch": self.watch.state(),
            "recovery": self.recovery.state(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.best.load_state(state["best"])
        self.recovery = Recovery(**state["recovery"])
        self.watch = self._new_watch()
        self.watch.load_state(state["watch"])

    def _new_watch(self) -> Watch:
        """One with the patience that the present learning rate asks for."""
        return Watch(self._real, Limits().at(self._learning_rate * self.recovery.rate_factor))
