"""Settings that the trainings of landmarks and classifiers share. Nothing here imports torch."""

from __future__ import annotations

from typing import Any, Literal

from engine.errors import UserError
from engine.settings import TrainingSettings, at_least, check_training

OptimizerName = Literal["adam", "adamw", "sgd"]

RESUMABLE = frozenset(
    {
        *("folder", "name", "output", "cache", "minutes", "device", "workers", "keep"),
        *("log_every", "sample_every", "checkpoint_every"),
    }
)
"""Settings that may change when a run is resumed, as none changes what a step computes. The number of steps
does, because the learning rate depends on it, and so does `score_every`, because a plateau is one of
scores."""


def check_supervised(settings: TrainingSettings) -> None:
    """Raise `UserError` for the first setting that is out of range."""
    check_training(settings)
    at_least(settings, 2, "batch_size")
    at_least(settings, 32, "image_size")
    if not 0 < settings.held_out <= 0.5:
        raise UserError(f"--held-out must be more than 0 and at most 0.5, not {settings.held_out}")


def upgrade(values: dict[str, Any]) -> dict[str, Any]:
    """The settings of a run of an earlier version, by name, as this version names them."""
    return {name: value for name, value in values.items() if name != "histogram_every"}
