"""The split into training and held-out images. Runs are scored against the held-out images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

MIN_HELD_OUT = 200
"""Minimum number of images to hold out, as long as it is at most `MAX_RAISED_SHARE` of all."""
MAX_RAISED_SHARE = 0.2
"""Largest share of all images to which `MIN_HELD_OUT` raises the requested one."""


def split_keys(fingerprints: NDArray[np.uint64], groups: Iterable[Sequence[int]]) -> NDArray[np.uint64]:
    """The fingerprints, but the same for all near-duplicates: the largest of their group.

    The largest, so that a large group, such as the frames of a video, is hardly ever held out.

    Args:
        fingerprints: uint64 [N], see `holdout_mask`.
        groups: from `images.near_duplicates.near_duplicate_groups`.
    """
    keys = fingerprints.copy()
    for group in groups:
        keys[group] = keys[group].max()
    return keys


def holdout_mask(fingerprints: NDArray[np.uint64], share: float) -> NDArray[np.bool_]:
    """Select the held-out images: at least `share` of the distinct ones; see also `holdout_share`.

    An image is held out if its fingerprint, read as a fraction, is below the effective share. So the split
    is stable when the folder grows: no training image becomes a held-out one, except for the few that are
    added where chance alone gives too small a share. Equal images are always on the same side.

    Args:
        fingerprints: uint64 [N], the first 64 bits of the digest of each image's pixels, or `split_keys`.
        share: share of the images to hold out, from 0 (none) to 0.5.

    Returns:
        bool [N], True for at most half of the distinct images.
    """
    distinct = np.unique(fingerprints)
    count = len(distinct)
    if share == 0 or count < 2:
        return np.zeros(len(fingerprints), bool)
    effective = holdout_share(count, share)
    below = int(np.searchsorted(distinct, np.uint64(effective * 2**64)))
    held_out = min(max(below, int(effective * count)), count // 2)
    return fingerprints < distinct[held_out]


def holdout_share(count: int, share: float) -> float:
    """The effective share of `count` distinct images: `share`, raised for small sets; 0 stays 0."""
    return max(share, min(MIN_HELD_OUT / max(count, 1), MAX_RAISED_SHARE)) if share else 0.0
