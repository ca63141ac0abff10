"""Which images of a data set are never trained on, so that a run can be scored against them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ENOUGH = 200
"""Held-out images that are wanted even where the share asked for gives fewer ..."""
MOST_OF_FEW = 0.2
"""... as long as they are no more than this share of all."""


def holdout_mask(fingerprints: NDArray[np.uint64], share: float) -> NDArray[np.bool_]:
    """Which images are held out: at least `share` of the different ones, and `ENOUGH` or a fifth of them.

    An image's own fingerprint decides: it is held out if, read as a fraction, it is below the share
    wanted. So a folder that grows keeps its split: no image that was trained on is held out later, but
    for the few that make up the number where chance gave too small a share. Equal images, which have
    equal fingerprints, are never on both sides.

    Args:
        fingerprints: uint64 [N], for each image the first 64 bits of the digest of its pixels.
        share: of the images, from 0, which holds out none at all, to 0.5.

    Returns:
        bool [N]. Never more than half of the different images.
    """
    ranked = np.unique(fingerprints)
    count = len(ranked)
    if share == 0 or count < 2:
        return np.zeros(len(fingerprints), bool)
    wanted = holdout_share(count, share)
    below = int(np.searchsorted(ranked, np.uint64(wanted * 2**64)))
    held = min(max(below, int(wanted * count)), count // 2)
    return fingerprints < ranked[held]


def holdout_share(count: int, share: float) -> float:
    """The share that is wanted of `count` different images, where `share`, more than 0, is asked for."""
    return max(share, min(ENOUGH / max(count, 1), MOST_OF_FEW)) if share else 0.0
