"""Optimizers and learning rates of classifiers."""

from __future__ import annotations

import torch

from faces.recognition.networks import Classifier
from faces.recognition.settings import ClassifierSettings
from faces.updater import make_optimizer, warmup_cosine_schedule

PATIENCE, FACTOR = 5, 0.8
"""A plateau schedule multiplies the rate by this factor after so many scores without an improvement."""


def make_classifier_optimizer(network: Classifier, settings: ClassifierSettings) -> torch.optim.Optimizer:
    """Make the optimizer of resolved settings, over all parameters, including those now frozen."""
    assert settings.optimizer is not None, "settings are resolved"
    assert settings.weight_decay is not None, "settings are resolved"
    decayed = network.decayed_parameters()
    return make_optimizer(settings.optimizer, network.parameters(), decayed, settings.weight_decay)


class LearningRate:
    """The learning rate of each step, which may depend on the scores so far.

    Args:
        settings: resolved settings.
    """

    def __init__(self, settings: ClassifierSettings) -> None:
        assert settings.learning_rate is not None, "settings are resolved"
        assert settings.steps is not None, "settings are resolved"
        self._max_rate, self._schedule = settings.learning_rate, settings.schedule
        self._cosine = warmup_cosine_schedule(settings.learning_rate, settings.steps)
        self._factor, self._best, self._waited = 1.0, float("inf"), 0

    def __call__(self, step: int) -> float:
        """The rate of a step, from 0."""
        return self._cosine(step) if self._schedule == "cosine" else self._max_rate * self._factor

    def record_score(self, score: float) -> None:
        """Record a score; lower is better."""
        if self._schedule != "plateau":
            return
        if score < self._best:
            self._best, self._waited = score, 0
            return
        self._waited += 1
        if self._waited == PATIENCE:
            self._factor, self._waited = self._factor * FACTOR, 0

    def reset_best(self) -> None:
        """Forget the scores so far, but keep the rate."""
        self._best, self._waited = float("inf"), 0

    def state(self) -> dict[str, float]:
        """The state for `load_state`."""
        return {"factor": self._factor, "best": self._best, "waited": self._waited}

    def load_state(self, state: dict[str, float]) -> None:
        """Restore a state from `state`."""
        self._factor, self._best, self._waited = state["factor"], state["best"], int(state["waited"])
