"""Augmentation of training images: crop, mirror image, brightness, contrast and colour, on whole batches."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from faces.recognition.settings import TILE_RATIO
from images.tiles import centre_crop, to_float

Range = tuple[float, float]


@dataclass(frozen=True)
class Augmentation:
    """Ranges of the augmentation; values are drawn uniformly.

    Attributes:
        crop_side: side of the crop over the side of the image; beyond 1, the image's edge is repeated.
        shift: maximum offset of the crop's centre, over the side of the image; None for anywhere inside.
        mirror: whether to mirror half of the images.
        brightness: maximum change of levels in [0, 1].
        contrast: factor on the distance of levels from their mean, per channel.
        saturation: factor on the saturation in HSV.
        hue: maximum change of the hue, in turns.
    """

    crop_side: Range = (1.0, 1.0)
    shift: float | None = 0.0
    mirror: bool = False
    brightness: float = 0.0
    contrast: Range = (1.0, 1.0)
    saturation: Range = (1.0, 1.0)
    hue: float = 0.0


def crop_and_colour(mirror: bool) -> Augmentation:
    """Augmentation for training from scratch: random crops, brightness, contrast and colour."""
    return Augmentation(
        crop_side=(1 / TILE_RATIO, 1.0),
        shift=None,
        mirror=mirror,
        brightness=0.4,
        contrast=(0.6, 1.4),
        saturation=(0.6, 1.4),
        hue=0.04,
    )


def shift_and_zoom(mirror: bool) -> Augmentation:
    """Augmentation for a pretrained network: shifts of up to 0.1, and a zoom of up to 0.2."""
    return Augmentation(crop_side=(0.8, 1.2), shift=0.1, mirror=mirror)


def augment(images: Tensor, size: int, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """Augment a batch of images.

    Args:
        images: uint8 [B, 3, T, T].
        size: side S of the result.
        augmentation: ranges of all values.
        generator: source of the random values, on the images' device.

    Returns:
        float32 [B, 3, S, S] in [-1, 1].
    """
    ranges = augmentation
    uniform = torch.rand(8, len(images), generator=generator, device=images.device)
    augmented = _crop(to_float(images), size, ranges, uniform[:4])
    if ranges.brightness or ranges.hue or ranges.contrast != (1, 1) or ranges.saturation != (1, 1):
        levels = augmented * 0.5 + 0.5
        levels = levels + _scale((-ranges.brightness, ranges.brightness), uniform[4])
        mean = levels.mean((2, 3), keepdim=True)
        levels = ((levels - mean) * _scale(ranges.contrast, uniform[5]) + mean).clamp(0, 1)
        saturation, hue = _scale(ranges.saturation, uniform[6]), _scale((-ranges.hue, ranges.hue), uniform[7])
        augmented = adjust_colours(levels, saturation, hue) * 2 - 1
    return augmented


def central_input(images: Tensor, size: int) -> Tensor:
    """The network's input from the centre of images, without augmentation.

    Args:
        images: levels from 0 to 255, uint8 or float, [B, 3, T, T].
        size: side S of the input, at most T.

    Returns:
        float32 [B, 3, S, S] in [-1, 1]; differentiable with respect to float images.
    """
    return to_float(centre_crop(images, size))


def adjust_colours(levels: Tensor, saturation: Tensor, hue: Tensor) -> Tensor:
    """Change the saturation and hue of images, in HSV.

    Args:
        levels: float [B, 3, H, W] in [0, 1].
        saturation: factors, float [B, 1, 1, 1]; the result is clamped to 1.
        hue: turns to add, float [B, 1, 1, 1].

    Returns:
        As `levels`.
    """
    value = levels.amax(1, keepdim=True)
    chroma = value - levels.amin(1, keepdim=True)
    red, green, blue = levels.split(1, 1)
    divisor = chroma.clamp(min=1e-8)
    sixths = torch.where(
        value == red,
        (green - blue) / divisor,
        torch.where(value == green, (blue - red) / divisor + 2, (red - green) / divisor + 4),
    )
    sixths = sixths + 6 * hue
    chroma = torch.minimum(chroma * saturation, value)
    # Each channel is the value minus the chroma, weighted by the distance of the hue from that channel.
    distance = (sixths + sixths.new_tensor([5, 3, 1])[:, None, None]).remainder(6)
    return value - chroma * torch.minimum(distance, 4 - distance).clamp(0, 1)


def _crop(images: Tensor, size: int, ranges: Augmentation, uniform: Tensor) -> Tensor:
    count = len(images)
    side = _scale(ranges.crop_side, uniform[0]).view(count, 1)
    reach = (1 - side) / 2 if ranges.shift is None else ranges.shift
    # affine_grid's coordinates run from -1 to 1, so distances are twice those in sides of the image.
    offset = 2 * reach * (uniform[1:3].T * 2 - 1)
    flip = torch.where(uniform[3] < (0.5 if ranges.mirror else 0.0), -1.0, 1.0)
    theta = images.new_zeros(count, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = side[:, 0] * flip, side[:, 0], offset
    grid = F.affine_grid(theta, [count, 3, size, size], align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def _scale(range_: Range, uniform: Tensor) -> Tensor:
    """Map uniform values in [0, 1) to a range, [B, 1, 1, 1]."""
    low, high = range_
    return (low + (high - low) * uniform)[:, None, None, None]
