"""What is done to images in front of the discriminator, to real and generated ones alike.

Differentiable augmentation (Zhao et al. 2020, "Differentiable Augmentation for Data-Efficient GAN
Training"): the discriminator only ever sees augmented images, so it cannot learn the training set by
heart, and the generator is taught through the augmentation, so its images do not show it.

Nothing is drawn here. Amounts are numbers in [0, 1), a row for each image, drawn by the caller for a whole
batch at once: so an image is treated alike whoever works on it, with whichever others beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

BRIGHTNESS = 0.5
"""Largest shift of all values, where black is -1 and white 1."""
SATURATION = (0.0, 2.0)
CONTRAST = (0.5, 1.5)
SHIFT = 1 / 8
"""Largest translation, as a share of the side."""
CUTOUT = 1 / 2
"""Side of the square that is greyed out, as a share of the image's side."""


def flip_half(images: Tensor, amounts: Tensor) -> Tensor:
    """Mirror each image [B, C, H, W], of any dtype, left to right where its amount [B] is below 1/2."""
    return torch.where((amounts < 0.5)[:, None, None, None], images.flip(3), images)


def colour(images: Tensor, amounts: Tensor) -> Tensor:
    """Change brightness, saturation and contrast of each image by amounts [B, 3] of its own."""
    brightness, saturation, contrast = amounts.to(images.dtype)[:, :, None, None, None].unbind(1)
    images = images + _between(-BRIGHTNESS, BRIGHTNESS, brightness)
    grey = images.mean(1, keepdim=True)
    images = (images - grey) * _between(*SATURATION, saturation) + grey
    mean = images.mean((1, 2, 3), keepdim=True)
    return (images - mean) * _between(*CONTRAST, contrast) + mean


def translation(images: Tensor, amounts: Tensor) -> Tensor:
    """Shift each image by up to an eighth of its side either way, by amounts [B, 2]; grey comes in."""
    count, _, height, width = images.shape
    reach = round(height * SHIFT)
    shifts = (amounts * (2 * reach + 1)).long().T[:, :, None]
    rows = shifts[0] + torch.arange(height, device=images.device)
    columns = shifts[1] + torch.arange(width, device=images.device)
    padded = F.pad(images, (reach, reach, reach, reach)).permute(0, 2, 3, 1)
    image = torch.arange(count, device=images.device)
    return padded[image[:, None, None], rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def cutout(images: Tensor, amounts: Tensor) -> Tensor:
    """Grey out one square of half the side in each image, centred anywhere in it, by amounts [B, 2]."""
    _, _, height, width = images.shape
    half = round(height * CUTOUT) // 2
    down, across = amounts.T[:, :, None]
    rows = (torch.arange(height, device=images.device) - down * height).abs() < half
    columns = (torch.arange(width, device=images.device) - across * width).abs() < half
    hidden = rows[:, None, :, None] & columns[:, None, None, :]
    return images.masked_fill(hidden, 0)


class Kind(NamedTuple):
    """One way to augment."""

    apply: Callable[[Tensor, Tensor], Tensor]
    amounts: int
    """That it needs for each image."""


POLICIES = {
    "colour": Kind(colour, 3),
    "translation": Kind(translation, 2),
    "cutout": Kind(cutout, 2),
}


def amounts_needed(policy: tuple[str, ...]) -> int:
    """How many amounts `augment` needs for each image."""
    return sum(POLICIES[name].amounts for name in policy)


def augment(images: Tensor, policy: tuple[str, ...], amounts: Tensor) -> Tensor:
    """Apply the named augmentations in turn, to each image by amounts of its own.

    Args:
        images: float [B, 3, S, S] in [-1, 1]; colour changes may leave that range.
        policy: names from `POLICIES`; none leaves the images as they are.
        amounts: float32 [B, amounts_needed(policy)] in [0, 1), drawn evenly.

    Returns:
        float [B, 3, S, S], differentiable with respect to `images`.
    """
    widths = [POLICIES[name].amounts for name in policy]
    for name, its_amounts in zip(policy, amounts.split(widths, dim=1), strict=True):
        images = POLICIES[name].apply(images, its_amounts)
    return images


def _between(low: float, high: float, share: Tensor) -> Tensor:
    return low + (high - low) * share
