"""Thumbnails of images, in which a copy stays close to its original after small changes.

At 12 x 12 pixels little is left of noise, blur, compression or a zoom of a few percent. A shift is found by
comparing several crops of one image with the central crop of the other.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

SIDE = 12
"""Side of a thumbnail in pixels."""
SHIFT, MIN_SHIFT = 1 / 48, 2
"""Largest shift of a crop: a fraction of the image side, but at least 2 pixels."""
OFFSETS = (
    (0, 0),
    *((y, x) for y in (-2, 0, 2) for x in (-2, 0, 2) if y or x),
    (-1, -1),
    (-1, 1),
    (1, -1),
    (1, 1),
)
"""Shifts of the crops in halves of the largest one; the central crop comes first."""
BATCH_SIZE = 200


def thumbnails(images: NDArray[np.uint8], *, views: bool = False) -> Tensor:
    """Reduce images to thumbnails of their central crop.

    Args:
        images: uint8 [N, 3, S, S], S at least 16; may be mapped from a file.
        views: also return the thumbnails of 12 shifted crops, and all 13 mirrored.

    Returns:
        float32 [V, N, 432] with values in [-1, 1]. V is 1, or 26 with `views`, of which the first 13 are not
        mirrored; the first view of either half is the central crop.
    """
    side = images.shape[-1]
    shift = max(MIN_SHIFT, round(SHIFT * side))
    steps = (-2, -1, 0, 1, 2) if views else (0,)
    offsets = OFFSETS if views else OFFSETS[:1]
    # One matrix for all steps: a large product is several times faster than many small ones.
    resample = torch.cat([_resampling_matrix(side, shift, round(step * shift / 2)) for step in steps])
    result = torch.empty(len(offsets) * (1 + views), len(images), 3, SIDE, SIDE)
    for start in range(0, len(images), BATCH_SIZE):
        batch = torch.from_numpy(np.array(images[start : start + BATCH_SIZE], np.float32)) / 127.5 - 1
        narrow = (batch @ resample.T).transpose(2, 3).contiguous()
        small = (narrow @ resample.T).unflatten(2, (-1, SIDE)).unflatten(4, (-1, SIDE))
        for view, (y, x) in enumerate(offsets):
            crop = small[:, :, steps.index(x), :, steps.index(y)].transpose(2, 3)
            result[view, start : start + len(batch)] = crop
            if views:
                result[len(offsets) + view, start : start + len(batch)] = crop.flip(-1)
    return result.flatten(2)


def _resampling_matrix(side: int, margin: int, offset: int) -> Tensor:
    """Crop one axis by `margin` on both sides, moved by `offset`, and reduce it: float32 [12, side]."""
    crop = torch.eye(side)[None, None, margin + offset : side - margin + offset]
    return F.interpolate(crop, (SIDE, side), mode="bilinear", antialias=True)[0, 0]
