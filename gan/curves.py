"""Which metrics of a GAN run are plotted together. Imports nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from images.plots import Panels

RANKED_BY = "score/kid"
"""The score that ranks the steps."""
PANELS: Panels = (
    ("loss [nats]", {"loss/discriminator": "D", "loss/generator": "G"}),
    ("probability of being real", {"probability/real": "D(x)", "probability/fake": "D(G(z))"}),
    (
        "accuracy of D, augmentation",
        {"accuracy/real": "real", "accuracy/fake": "generated", "augmentation/share": "share augmented"},
    ),
    ("gradient norm", {"gradient/discriminator": "D", "gradient/generator": "G"}),
    ("KID to held-out images", {"score/kid": "EMA of G", "score/kid_raw": "weights of the last step"}),
    (
        "compared with real images",
        {"score/coverage": "coverage", "score/recall": "recall", "score/diversity": "diversity"},
    ),
)
