"""Optimizers and learning rates of the three ways of learning."""

from __future__ import annotations

import torch

from faces.recognition.networks import Classifier
from faces.recognition.settings import ClassifierSettings
from faces.updater import make_optimizer, warmup_cosine_schedule

PATIENCE, FACTOR = 5, 0.8
"""After so many scores without a better one the learning rate is taken times this."""


def make_classifier_optimizer(network: Classifier, settings: ClassifierSettings) -> torch.optim.Optimizer:
    """The optimizer that resolved settings ask for, over all weights, those that are frozen now included."""
    assert settings.optimizer is not None, "settings are resolved"
    assert settings.weight_decay is not None, "settings are resolved"
    return make_optimizer(
        settings.optimizer, network.parameters(), network.decayed_parameters(), settings.weight_decay
    )


class LearningRate:
    """The learning rate over the steps, which may depend on how the scores go.

    Args:
        settings: resolved.
    """

    def __init__(self, settings: ClassifierSettings) -> None:
        assert settings.learning_rate is not None, "settings are resolved"
        assert settings.steps is not None, "settings are resolved"
        self._highest, self._schedule = settings.learning_rate, settings.schedule
        self._falling = warmup_cosine_schedule(settings.learning_rate, settings.steps)
        self._factor, self._best, self._waited = 1.0, float("inf"), 0

    def __call__(self, step: int) -> float:
        """The rate of a step, from 0."""
        return self._falling(step) if self._schedule == "cosine" else self._highest * self._factor

    def record_score(self, score: float) -> None:
        """Take in a score, of which less is better."""
        if self._schedule != "plateau":
            return
        if score < self._best:
            self._best, self._waited = score, 0
            return
        self._waited += 1
        if self._waited == PATIENCE:
            self._factor, self._waited = self._factor * FACTOR, 0

    def reset_best(self) -> None:
        """Forget the scores of what was trained before; the rate stays as low as it is."""
        self._best, self._waited = float("inf"), 0

    def state(self) -> dict[str, float]:
        """What `load_state` needs to go on from here."""
        return {"factor": self._factor, "best": self._best, "waited": self._waited}

    def load_state(self, state: dict[str, float]) -> None:
        """Go on from what `state` gave."""
        self._factor, self._best, self._waited = state["factor"], state["best"], int(state["waited"])
