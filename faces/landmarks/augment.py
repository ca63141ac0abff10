"""Crops out of tiles, as they differ from one look to the next: boxes, turns, mirror images, colours."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from faces.landmarks.crops import ENLARGE
from faces.landmarks.tiles import TILE
from images.tiles import to_float

PIXELS = 200_000
"""From so many pixels of all images the principal colours are found."""


@dataclass(frozen=True)
class Augmentation:
    """How crops vary. Every number is a standard deviation; 0 is no variation."""

    shift: float = 0.0
    """Of the box's centre, in either direction, in sides of the box."""
    scale: float = 0.0
    """Of the logarithm of the box's side."""
    turn: float = 0.0
    """Of the angle [degrees]."""
    colour: float = 0.0
    """Of the weights of the principal colours (Krizhevsky et al. 2012 have 0.1)."""
    mirror: bool = False
    """Whether half of the crops are mirror images, their points renamed."""


JITTER = Augmentation(shift=0.08, scale=0.1)
"""How a detector's boxes lie around the landmarks' boxes. Measured on 248 faces of video frames found by
OpenCV's Haar cascade, after its mean offset: 0.10 sides across, 0.04 down, and 0.09 of the logarithm."""


def crops(
    tiles: Tensor,
    points: Tensor,
    size: int,
    augmentation: Augmentation,
    random: torch.Generator,
    mirror: Tensor | None = None,
    colours: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Cut a crop out of each tile.

    Args:
        tiles: uint8 [B, 3, T, T].
        points: float [B, K, 2], fractions of the tiles' sides, on the same device.
        size: side S of the crops.
        augmentation: how they vary. Without any, a crop is `ENLARGE` times the landmarks' box.
        random: draws the variation; on the same device.
        mirror: int64 [K], the order of a mirror image's points; needed for `augmentation.mirror`.
        colours: float [3, 3] of `principal_colours`; needed for `augmentation.colour`.

    Returns:
        The crops, float32 [B, 3, S, S] in [-1, 1], and the points, float32 [B, K, 2], as fractions of the
        crops' sides; points outside a crop have fractions outside [0, 1].
    """
    count, device = len(tiles), tiles.device
    normal = torch.randn(count, 7, generator=random, device=device)
    flipped = torch.rand(count, generator=random, device=device) < (0.5 if augmentation.mirror else 0)
    centre = 0.5 + augmentation.shift * normal[:, :2] / TILE
    side = ENLARGE / TILE * (augmentation.scale * normal[:, 2]).exp()
    angle = math.radians(1) * augmentation.turn * normal[:, 3]
    sign = 1 - 2 * flipped.float()
    cosine, sine = angle.cos(), angle.sin()
    turning = torch.stack([torch.stack([cosine, -sine], -1), torch.stack([sine, cosine], -1)], -2)
    # From the crop's coordinates to the tile's, both with 0 in the middle and in sides of the tile.
    matrix = side[:, None, None] * turning * torch.stack([sign, torch.ones_like(sign)], -1)[:, None]
    theta = torch.cat([matrix, 2 * centre[..., None] - 1], -1)
    grid = F.affine_grid(theta, [count, 3, size, size], align_corners=False)
    images = F.grid_sample(to_float(tiles), grid, padding_mode="border", align_corners=False)
    placed = (points - centre[:, None]) @ torch.linalg.inv(matrix).mT + 0.5
    if augmentation.mirror:
        assert mirror is not None, "a mirror image needs the order of its points"
        placed = torch.where(flipped[:, None, None], placed[:, mirror], placed)
    if augmentation.colour:
        assert colours is not None, "colours vary along given axes"
        images = images + 2 * (augmentation.colour * normal[:, 4:7] @ colours)[..., None, None]
        images = images.clamp(-1, 1)
    return images, placed


def principal_colours(images: Tensor) -> Tensor:
    """The principal components of the pixels' colours, each as long as its variance.

    To an image a sum of them is added, each weighted by a normal number of standard deviation 0.1: what
    changes is the colour and strength of the light (Krizhevsky et al. 2012, section 4.1).

    Args:
        images: uint8 [N, 3, H, W].

    Returns:
        float32 [3, 3], a component a row, in units of [0, 1] for black to white.
    """
    pixels = images.movedim(1, -1).reshape(-1, 3)
    pixels = pixels[:: max(1, len(pixels) // PIXELS)].double() / 255
    _, spreads, axes = torch.linalg.svd(pixels - pixels.mean(0), full_matrices=False)
    variances = spreads.square() / max(len(pixels) - 1, 1)
    return (variances[:, None] * axes).float()
