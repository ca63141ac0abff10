"""What is done to images in front of the discriminator, to real and generated ones alike.

Differentiable augmentation (Zhao et al. 2020, "Differentiable Augmentation for Data-Efficient GAN
Training"): the discriminator only ever sees augmented images, so it cannot learn the training set by
heart, and the generator is taught through the augmentation, so its images do not show it.
"""

from __future__ import annotations

from collections.abc import Callable

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


def flip_half(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each image [B, C, H, W] left to right with probability 1/2; any dtype."""
    flipped = torch.rand(len(images), generator=generator, device=images.device) < 0.5
    return torch.where(flipped[:, None, None, None], images.flip(3), images)


def colour(images: Tensor, generator: torch.Generator) -> Tensor:
    """Change brightness, saturation and contrast of each image by amounts of its own."""
    brightness = _uniform(images, generator, -BRIGHTNESS, BRIGHTNESS)
    saturation = _uniform(images, generator, *SATURATION)
    contrast = _uniform(images, generator, *CONTRAST)
    images = images + brightness
    grey = images.mean(1, keepdim=True)
    images = (images - grey) * saturation + grey
    mean = images.mean((1, 2, 3), keepdim=True)
    return (images - mean) * contrast + mean


def translation(images: Tensor, generator: torch.Generator) -> Tensor:
    """Shift each image by up to an eighth of its side either way; what comes in is grey."""
    count, _, height, width = images.shape
    reach = round(height * SHIFT)
    shifts = torch.randint(0, 2 * reach + 1, (2, count, 1), generator=generator, device=images.device)
    rows = shifts[0] + torch.arange(height, device=images.device)
    columns = shifts[1] + torch.arange(width, device=images.device)
    padded = F.pad(images, (reach, reach, reach, reach)).permute(0, 2, 3, 1)
    image = torch.arange(count, device=images.device)
    return padded[image[:, None, None], rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def cutout(images: Tensor, generator: torch.Generator) -> Tensor:
    """Grey out one square of half the side in each image, centred anywhere in it."""
    count, _, height, width = images.shape
    half = round(height * CUTOUT) // 2
    centre = torch.rand(2, count, 1, generator=generator, device=images.device)
    rows = (torch.arange(height, device=images.device) - centre[0] * height).abs() < half
    columns = (torch.arange(width, device=images.device) - centre[1] * width).abs() < half
    hidden = rows[:, None, :, None] & columns[:, None, None, :]
    return images.masked_fill(hidden, 0)


POLICIES: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "colour": colour,
    "translation": translation,
    "cutout": cutout,
}


def augment(images: Tensor, policy: tuple[str, ...], generator: torch.Generator) -> Tensor:
    """Apply the named augmentations in turn, with amounts drawn anew for every image.

    Args:
        images: float [B, 3, S, S] in [-1, 1]; colour changes may leave that range.
        policy: names from `POLICIES`; none leaves the images as they are.
        generator: source of the random amounts, on the images' device.

    Returns:
        float [B, 3, S, S], differentiable with respect to `images`.
    """
    for name in policy:
        images = POLICIES[name](images, generator)
    return images


def _uniform(images: Tensor, generator: torch.Generator, low: float, high: float) -> Tensor:
    """One value per image, shaped to multiply it: [B, 1, 1, 1]."""
    draws = torch.rand(len(images), 1, 1, 1, generator=generator, device=images.device)
    return low + (high - low) * draws
