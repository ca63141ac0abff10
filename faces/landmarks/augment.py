"""Random network inputs from face crops: jittered boxes, rotation, mirroring and colour."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from faces.landmarks.face_crops import FACE_CROP_SCALE
from faces.landmarks.geometry import INPUT_SCALE
from images.tiles import to_float

MAX_PIXELS = 200_000
"""Approximate number of pixels sampled to compute the principal colours."""


@dataclass(frozen=True)
class Augmentation:
    """Strength of the random variation. Numbers are standard deviations; 0 disables."""

    shift: float = 0.0
    """Deviation of the box's centre in x and y, in sides of the box."""
    scale: float = 0.0
    """Deviation of the logarithm of the box's side."""
    turn: float = 0.0
    """Deviation of the rotation [degrees]."""
    colour: float = 0.0
    """Deviation of the weights of the principal colours (0.1 in Krizhevsky et al. 2012)."""
    mirror: bool = False
    """Mirror half of the inputs and swap their paired points."""


JITTER = Augmentation(shift=0.08, scale=0.1)
"""Deviation of a detector's boxes from the landmarks' boxes. OpenCV's Haar cascade, on 248 faces of video
frames and after its mean offset, deviates by 0.10 sides in x, 0.04 in y, and 0.09 of the logarithm."""


def random_crops(
    face_crops: Tensor,
    points: Tensor,
    size: int,
    augmentation: Augmentation,
    generator: torch.Generator,
    mirror: Tensor | None = None,
    colours: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Crop a network input from each face crop.

    Args:
        face_crops: uint8 [B, 3, T, T].
        points: float [B, K, 2], fractions of T, on the same device; NaN points remain NaN.
        size: side S of the inputs.
        augmentation: how they vary; without any, an input is `INPUT_SCALE` times the landmarks' box.
        generator: of the random numbers; on the same device.
        mirror: int64 [K], order of the points in a mirror image; required for `augmentation.mirror`.
        colours: float [3, 3] from `principal_colours`; required for `augmentation.colour`.

    Returns:
        The inputs, float32 [B, 3, S, S] in [-1, 1], and the points, float32 [B, K, 2], as fractions of S;
        points outside an input have fractions outside [0, 1].
    """
    count, device = len(face_crops), face_crops.device
    normal = torch.randn(count, 7, generator=generator, device=device)
    mirrored = torch.rand(count, generator=generator, device=device) < (0.5 if augmentation.mirror else 0)
    centre = 0.5 + augmentation.shift * normal[:, :2] / FACE_CROP_SCALE
    side = INPUT_SCALE / FACE_CROP_SCALE * (augmentation.scale * normal[:, 2]).exp()
    angle = math.radians(1) * augmentation.turn * normal[:, 3]
    sign = 1 - 2 * mirrored.float()
    cosine, sine = angle.cos(), angle.sin()
    rotation = torch.stack([torch.stack([cosine, -sine], -1), torch.stack([sine, cosine], -1)], -2)
    # From input to face crop coordinates, both with the origin at the centre and in sides of the face crop.
    matrix = side[:, None, None] * rotation * torch.stack([sign, torch.ones_like(sign)], -1)[:, None]
    theta = torch.cat([matrix, 2 * centre[..., None] - 1], -1)
    grid = F.affine_grid(theta, [count, 3, size, size], align_corners=False)
    images = F.grid_sample(to_float(face_crops), grid, padding_mode="border", align_corners=False)
    moved = (points - centre[:, None]) @ torch.linalg.inv(matrix).mT + 0.5
    if augmentation.mirror:
        assert mirror is not None, "mirroring needs the order of the points"
        moved = torch.where(mirrored[:, None, None], moved[:, mirror], moved)
    if augmentation.colour:
        assert colours is not None, "colour augmentation needs the principal colours"
        images = images + 2 * (augmentation.colour * normal[:, 4:7] @ colours)[..., None, None]
        images = images.clamp(-1, 1)
    return images, moved


def principal_colours(images: Tensor) -> Tensor:
    """Principal components of the pixels' colours, each scaled by its variance.

    Adding them to an image with random weights (standard deviation 0.1) changes the colour and intensity of
    its illumination (Krizhevsky et al. 2012, section 4.1).

    Args:
        images: uint8 [N, 3, H, W].

    Returns:
        float32 [3, 3], a component per row, for levels in [0, 1].
    """
    pixels = images.movedim(1, -1).reshape(-1, 3)
    pixels = pixels[:: max(1, len(pixels) // MAX_PIXELS)].double() / 255
    _, singular_values, axes = torch.linalg.svd(pixels - pixels.mean(0), full_matrices=False)
    variances = singular_values.square() / max(len(pixels) - 1, 1)
    return (variances[:, None] * axes).float()
