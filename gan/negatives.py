"""Negatives: images made wrong from real ones, which D is trained to classify as fake.

Negative data augmentation (Sinha et al. 2021). Left to itself, D tells generated images from real ones by
their finest textures and hardly reacts to a blotch or to two halves that do not match
(experiments/planted_faults.py shows it), so nothing teaches G to avoid those. Two real faces blended in
patches have exactly these faults, and the textures of real faces.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

PATCHES = 6
"""Patches along a side: 16 px each at 96 px, about the size of an eye."""
NUMBERS_PER_IMAGE = PATCHES**2
"""Uniform numbers that `blend` needs for each image."""
SHARPNESS = 12.0
"""Steepness of the edges, which are about a patch wide. In about half of the picture one image has a weight
below 0.1; elsewhere both are visible."""


def count_negatives(share: float, batch_size: int, pack: int = 1) -> int:
    """Negatives in a batch of all processes, in whole packs. Each is made from two images of the batch."""
    return min(round(share * batch_size / pack), batch_size // (2 * pack)) * pack


def first_images(negatives: int, batch_size: int) -> Tensor:
    """The position in the batch of each negative's first image, int64 [negatives]; the second one follows it.

    The pairs are spread evenly over the batch, so that a process finds its negatives' images in, or next to,
    its own share of the batch.
    """
    return torch.arange(negatives) * batch_size // max(negatives, 1)


def blend(images: Tensor, others: Tensor, uniform: Tensor) -> Tensor:
    """Put patches of other images into images, with soft edges.

    Args:
        images: float [N, 3, S, S].
        others: float [N, 3, S, S].
        uniform: float32 [N, NUMBERS_PER_IMAGE] in [0, 1).

    Returns:
        float [N, 3, S, S]; every value lies between those of the two images.
    """
    coarse = uniform.view(-1, 1, PATCHES, PATCHES)
    field = F.interpolate(coarse, images.shape[2:], mode="bicubic", align_corners=False)
    return torch.lerp(others, images, torch.sigmoid((field - 0.5) * SHARPNESS))
