"""The training loop of landmarks and classifiers: one network, its scores, and a picture of what it does."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engine.loop import Trainer, TrainingLoop


class SupervisedTrainer(Trainer, Protocol):
    """A training of one network that can be scored and shown."""

    def scores(self) -> dict[str, float]:
        """Scores on images that are never trained on. Only a schedule's state may depend on the call."""

    def picture(self) -> NDArray[np.uint8]:
        """A tiled picture, uint8 [3, H, W], of what the network does; changes no state."""


class SupervisedLoop(TrainingLoop):
    """Trains one network."""

    trainer: SupervisedTrainer
    _progress: tuple[str, str] = ("", "")

    def scores(self) -> dict[str, float]:
        """The trainer's scores."""
        return self.trainer.scores()

    def sample(self) -> NDArray[np.uint8]:
        """The trainer's picture."""
        return self.trainer.picture()

    def progress(self, values: dict[str, float]) -> str:
        """The loss and the score."""
        loss, score = self._progress
        if "loss/training" in values:
            loss = f"loss {values['loss/training']:.4g}"
        if self.trainer.ranked_by in values:
            score = f", {self.trainer.ranked_by} {values[self.trainer.ranked_by]:.4f}"
        self._progress = (loss, score)
        return loss + score
