"""The kinds of runs: which score ranks them, and what is plotted of them.

Nothing here imports torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.best import SMOOTHED
from faces.landmarks import curves as landmark_curves
from faces.recognition import curves as classifier_curves
from gan import curves as gan_curves

if TYPE_CHECKING:
    from images.plots import Panels


@dataclass(frozen=True)
class Kind:
    """A kind of run."""

    metric: str
    """The score that ranks the steps, in metrics.jsonl."""
    label: str
    smoothed: int
    """Number of scores in a row whose mean is compared."""
    panels: Panels
    """The metrics that are plotted, in groups."""
    picture_scale: int = 1
    """Side of a tile in its sample grids over the images' side."""


KINDS = {
    "gan": Kind(gan_curves.RANKED_BY, "KID", SMOOTHED, gan_curves.PANELS),
    "landmarks": Kind("score/nme", "NME", 1, landmark_curves.PANELS, 3),
    "classifier": Kind("score/error", "error", 1, classifier_curves.PANELS),
}
"""The kinds by their names in config.json."""
