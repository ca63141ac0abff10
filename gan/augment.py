"""Augmentation of what the discriminator sees, of real and generated images alike.

Differentiable augmentation (Zhao et al. 2020, "Differentiable Augmentation for Data-Efficient GAN Training"):
D only sees augmented images, so it cannot memorise the training set, and G is trained through the
augmentation, so its images do not show it.

This module draws no random numbers. The caller draws uniform numbers for the whole batch at once, one row per
image, so an image is augmented identically whichever process handles it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gan.config import Augmentation

MAX_SHIFT = 1 / 8
"""Largest translation, as a share of the side."""
TARGET = 0.7
"""Target of `adaptive` for (correct - wrong) / all of D's answers on real images."""
ADAPTATION_IMAGES = 50_000
"""Images in which the augmented share can go from 0 to 1: about a thousand batches of 48."""


def flip(images: Tensor, uniform: Tensor) -> Tensor:
    """Mirror each image [B, C, H, W] left to right where its number, [B] in [0, 1), is below 1/2."""
    return torch.where((uniform < 0.5)[:, None, None, None], images.flip(3), images)


def translate(images: Tensor, uniform: Tensor) -> Tensor:
    """Shift each image by up to an eighth of its side either way, filling with grey.

    Args:
        images: float [B, C, S, S].
        uniform: float32 [B, 2] in [0, 1), for the vertical and the horizontal shift.
    """
    count, _, height, width = images.shape
    reach = round(height * MAX_SHIFT)
    shifts = (uniform * (2 * reach + 1)).long().T[:, :, None]
    rows = shifts[0] + torch.arange(height, device=images.device)
    columns = shifts[1] + torch.arange(width, device=images.device)
    padded = F.pad(images, (reach, reach, reach, reach)).permute(0, 2, 3, 1)
    image = torch.arange(count, device=images.device)
    return padded[image[:, None, None], rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


class Augmenter:
    """Translates a share of the images.

    The share adapts as in Karras et al. 2020 ("Training Generative Adversarial Networks with Limited Data"):
    it grows while D classifies real images too well. In the paper it starts at 0, and its growth keeps D
    from memorising a small data set. Here it starts at 1, because a new D is far ahead of a new G; as G
    catches up, D gets more images unchanged.

    Args:
        mode: `none`, `always` (a share of 1), or `adaptive`.
        device: where the share is stored, so that nothing has to be read back.

    Attributes:
        share: float32 [] in [0, 1], always the same tensor.
        numbers_per_image: uniform numbers that a call needs for each image.
    """

    def __init__(self, mode: Augmentation, device: torch.device) -> None:
        self.adaptive = mode == "adaptive"
        self.numbers_per_image = {"none": 0, "always": 2, "adaptive": 3}[mode]
        self.share = torch.ones((), device=device)

    def __call__(self, images: Tensor, uniform: Tensor) -> Tensor:
        """Augment images.

        Args:
            images: float [B, 3, S, S].
            uniform: float32 [B, numbers_per_image] in [0, 1).

        Returns:
            float [B, 3, S, S], differentiable with respect to `images`.
        """
        if not self.numbers_per_image:
            return images
        if not self.adaptive:
            return translate(images, uniform)
        chosen = (uniform[:, 0] < self.share)[:, None, None, None]
        return torch.where(chosen, translate(images, uniform[:, 1:]), images)

    def adapt(self, accuracy: Tensor, images: int) -> None:
        """Move the share towards the target.

        Args:
            accuracy: share of a batch's real packs that D classified as real, float32 [].
            images: number of images in the batch.
        """
        if self.adaptive:
            ahead = torch.sign(2 * accuracy - 1 - TARGET)
            self.share.add_(ahead * (images / ADAPTATION_IMAGES)).clamp_(0, 1)
