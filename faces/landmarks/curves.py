"""Which metrics of a landmark run are plotted together. Imports nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from images.plots import Panels

PANELS: Panels = (
    ("loss", {"loss/training": "training"}),
    ("normalised mean error (NME)", {"score/nme": "held out"}),
    ("share of failures", {"score/failures": "held out"}),
    ("gradient norm", {"gradient/norm": "all weights"}),
)
