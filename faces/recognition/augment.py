"""How training images vary: place and size, mirror images, light and colours; a batch at a time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from faces.recognition.settings import TILE_RATIO
from images.tiles import middle, to_float

Span = tuple[float, float]


@dataclass(frozen=True)
class Augmentation:
    """How images vary; every value is drawn evenly from its range.

    Attributes:
        side: of the square that is cut out, in sides of the image; where that is more than 1, the image's
            edge is repeated.
        shift: how far its centre may lie from the image's, in sides of the image; None for anywhere inside.
        mirror: whether half of the images are mirrored.
        brightness: what is added to levels in [0, 1], at most, up or down.
        contrast: factor on the distance of levels from their mean, of each colour by itself.
        saturation: factor on the saturation (of hue, saturation, value).
        hue: what is added to the hue, in turns, at most, either way.
    """

    side: Span = (1.0, 1.0)
    shift: float | None = 0.0
    mirror: bool = False
    brightness: float = 0.0
    contrast: Span = (1.0, 1.0)
    saturation: Span = (1.0, 1.0)
    hue: float = 0.0


def crop_and_colour(mirror: bool) -> Augmentation:
    """For learning from scratch: crops from anywhere in the image, and light and colours."""
    return Augmentation(
        side=(1 / TILE_RATIO, 1.0),
        shift=None,
        mirror=mirror,
        brightness=0.4,
        contrast=(0.6, 1.4),
        saturation=(0.6, 1.4),
        hue=0.04,
    )


def shift_and_zoom(mirror: bool) -> Augmentation:
    """For a network that has learnt colours already: shifts of 0.1 and a zoom of 0.2."""
    return Augmentation(side=(0.8, 1.2), shift=0.1, mirror=mirror)


def augment(images: Tensor, size: int, how: Augmentation, random: torch.Generator) -> Tensor:
    """Vary images.

    Args:
        images: uint8 [B, 3, T, T].
        size: side S of the result.
        how: the variation.
        random: draws it; on the images' device.

    Returns:
        float32 [B, 3, S, S] in [-1, 1].
    """
    drawn = torch.rand(8, len(images), generator=random, device=images.device)
    varied = _cut(to_float(images), size, how, drawn[:4])
    if how.brightness or how.hue or how.contrast != (1, 1) or how.saturation != (1, 1):
        levels = varied * 0.5 + 0.5
        levels = levels + _between((-how.brightness, how.brightness), drawn[4])
        mean = levels.mean((2, 3), keepdim=True)
        levels = ((levels - mean) * _between(how.contrast, drawn[5]) + mean).clamp(0, 1)
        saturation, hue = _between(how.saturation, drawn[6]), _between((-how.hue, how.hue), drawn[7])
        varied = adjust_colours(levels, saturation, hue) * 2 - 1
    return varied


def centre_crop(images: Tensor, size: int) -> Tensor:
    """The middle of images: of uint8 [B, 3, T, T] with T of at least S float32 [B, 3, S, S] in [-1, 1]."""
    return to_float(middle(images, size))


def adjust_colours(levels: Tensor, saturation: Tensor, hue: Tensor) -> Tensor:
    """Images with other saturations and hues (of hue, saturation, value).

    Args:
        levels: float [B, 3, H, W] in [0, 1].
        saturation: factors, float [B, 1, 1, 1]; no saturation becomes more than 1.
        hue: turns to add, float [B, 1, 1, 1].

    Returns:
        As `levels`.
    """
    value, span = levels.amax(1, keepdim=True), levels.amax(1, keepdim=True) - levels.amin(1, keepdim=True)
    red, green, blue = levels.split(1, 1)
    divisor = span.clamp(min=1e-8)
    sixths = torch.where(
        value == red,
        (green - blue) / divisor,
        torch.where(value == green, (blue - red) / divisor + 2, (red - green) / divisor + 4),
    )
    sixths = sixths + 6 * hue
    chroma = torch.minimum(span * saturation, value)
    # Each colour is the value less the chroma, weighted by how far the hue is from that colour.
    away = (sixths + sixths.new_tensor([5, 3, 1])[:, None, None]).remainder(6)
    return value - chroma * torch.minimum(away, 4 - away).clamp(0, 1)


def _cut(images: Tensor, size: int, how: Augmentation, drawn: Tensor) -> Tensor:
    count = len(images)
    side = _between(how.side, drawn[0]).view(count, 1)
    reach = (1 - side) / 2 if how.shift is None else how.shift
    # In affine_grid's coordinates the image reaches from -1 to 1: twice as far as in sides.
    offset = 2 * reach * (drawn[1:3].T * 2 - 1)
    flip = torch.where(drawn[3] < (0.5 if how.mirror else 0.0), -1.0, 1.0)
    theta = images.new_zeros(count, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = side[:, 0] * flip, side[:, 0], offset
    grid = F.affine_grid(theta, [count, 3, size, size], align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def _between(span: Span, drawn: Tensor) -> Tensor:
    """Numbers in [0, 1) to numbers in a range, [B, 1, 1, 1]."""
    low, high = span
    return (low + (high - low) * drawn)[:, None, None, None]
