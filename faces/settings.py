"""What the settings of landmark and classifier training have in common. Nothing here imports torch."""

from __future__ import annotations

from typing import Any, Literal

from engine.errors import UserError
from engine.settings import TrainingSettings, at_least, check_training

OptimizerName = Literal["adam", "adamw", "sgd"]

RESUMABLE = frozenset(
    {
        *("folder", "exclude", "name", "output", "cache", "minutes", "device", "workers", "keep"),
        *("log_every", "sample_every", "checkpoint_every"),
    }
)
"""Settings that may change when a run is resumed, because no step depends on them. `steps` is not among them,
since it determines the learning rate, nor is `score_every`, since the plateau schedule counts scores."""


def check_supervised(settings: TrainingSettings) -> None:
    """Raise `UserError` for the first setting that is out of range."""
    check_training(settings)
    at_least(settings, 2, "batch_size")
    at_least(settings, 32, "image_size")
    if not 0 < settings.held_out <= 0.5:
        raise UserError(f"--held-out must be more than 0 and at most 0.5, not {settings.held_out}")


def upgrade(values: dict[str, Any]) -> dict[str, Any]:
    """Convert the settings of an earlier version, by name, to those of this version."""
    return {"exclude": ()} | {name: value for name, value in values.items() if name != "histogram_every"}
