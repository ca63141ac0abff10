"""Which metrics of a classifier's run are plotted together. Imports nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from images.plots import Panels

PANELS: Panels = (
    ("loss [nats]", {"loss/training": "training", "score/loss": "held out"}),
    ("accuracy", {"accuracy/training": "training", "score/accuracy": "held out"}),
    ("balanced accuracy", {"score/balanced_accuracy": "held out"}),
    ("gradient norm", {"gradient/norm": "all weights"}),
)
