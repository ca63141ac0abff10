"""The training loop of landmarks and classifiers: one network, its scores, and a picture of what it does."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
from numpy.typing import NDArray
from torch import nn

from engine.loop import Trainer, TrainingLoop
from faces.updater import WEIGHT_KEYS, Updater


class SupervisedTrainer(Trainer):
    """Trains one network with an `Updater`.

    Attributes:
        updater: of the network.
        score_label: name of the score, for people.
    """

    updater: Updater
    score_label = "error"
    weight_keys = WEIGHT_KEYS

    @property
    def network(self) -> nn.Module:
        """The trained network."""
        return self.updater.network

    @property
    def step_count(self) -> int:
        """Steps done so far."""
        return self.updater.step_count

    def check_finite(self) -> None:
        """Raise `engine.finite.DivergedError` if a loss or gradient of any step so far was not finite."""
        self.updater.check_finite()

    def statistics(self) -> dict[str, float]:
        """Means since the last call, and the learning rate; see `Updater.statistics`."""
        return self.updater.statistics()

    @property
    @abstractmethod
    def outlook(self) -> str:
        """A line about which scores are normal."""

    @abstractmethod
    def scores(self) -> dict[str, float]:
        """Scores on held-out images. The call may change a schedule's state, and keep the best weights."""

    @abstractmethod
    def picture(self) -> NDArray[np.uint8]:
        """A tiled picture, uint8 [3, H, W], of what the network does. The call changes no state."""


class SupervisedLoop(TrainingLoop):
    """Trains one network."""

    trainer: SupervisedTrainer
    _progress = ""

    @property
    def score_label(self) -> str:
        """The trainer's."""
        return self.trainer.score_label

    def scores(self) -> dict[str, float]:
        """The trainer's scores."""
        return self.trainer.scores()

    def sample(self) -> NDArray[np.uint8]:
        """The trainer's picture."""
        return self.trainer.picture()

    def progress(self, values: dict[str, float]) -> str:
        """The last logged loss."""
        if "loss/training" in values:
            self._progress = f"loss {values['loss/training']:.4g}"
        return self._progress
