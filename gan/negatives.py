"""Negatives: pictures that are wrong, made of real ones, which D is told are generated.

Negative data augmentation (Sinha et al. 2021). By itself D tells generated images from real ones by their
finest textures first, and hardly minds a blotch or two halves that do not belong together, so nothing
teaches G to avoid those; experiments/planted_faults.py shows it. Two real faces blended in patches have just
these faults and the textures of real ones, softened where both are seen. What G is to come to stays the
same, as far as no such picture is in the data set.
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
"""How steep the edges are. They are about a patch wide: in half of the picture one of the two images counts
for less than a tenth, and in the other half both can be seen."""


def count_negatives(settings: Settings) -> int:
    """How many a batch of all processes has: each is made of two of its images."""
    return min(round(settings.negatives * settings.batch_size), settings.batch_size // 2)


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
