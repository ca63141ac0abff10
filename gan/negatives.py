"""Negatives: photos that are wrong, made of real ones, which D is told are generated too.

Negative data augmentation (Sinha et al. 2021): D tells generated images from real ones by their finest
textures first, and hardly minds a blotch or two halves that do not belong together; so nothing teaches G
to avoid those. Two real faces blended in patches have the textures of real ones and just these faults.
As no such image is in the data set, what G is to come to stays the same.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gan.config import Settings

PATCHES = 6
"""Along a side: at 96 px, patches of 16 px or several together, the size of an eye or of a cheek."""
AMOUNTS = PATCHES**2
"""That `blend` needs for each image."""
SHARPNESS = 12.0
"""How steep the edges are: from one image to the other within about a third of a patch."""


def count_negatives(settings: Settings, processes: int) -> int:
    """How many a batch of all processes has: its share, or none where a part of it would have none."""
    batch = settings.batch_size
    count = min(round(settings.negatives * batch), batch // 2)  # each is made of two images of the batch
    return count if count >= settings.accumulate * processes else 0


def blend(images: Tensor, others: Tensor, amounts: Tensor) -> Tensor:
    """Put patches of other images into images, with soft edges.

    Args:
        images: float [N, 3, S, S].
        others: the same.
        amounts: float32 [N, AMOUNTS] in [0, 1), drawn evenly.

    Returns:
        float [N, 3, S, S]; every value lies between those of the two.
    """
    coarse = amounts.view(-1, 1, PATCHES, PATCHES)
    field = F.interpolate(coarse, images.shape[2:], mode="bicubic", align_corners=False)
    return torch.lerp(others, images, torch.sigmoid((field - 0.5) * SHARPNESS))
