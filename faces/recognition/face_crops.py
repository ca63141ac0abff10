"""Face crops of photos, by detection or of the whole image. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from faces.align import box_in_middle
from faces.detection.detection import Box
from images.decode import decode, decode_full
from images.tiles import center_crop


@dataclass(frozen=True)
class FaceCrops:
    """The faces of a photo.

    Attributes:
        photo: uint8 [3, H, W], upright.
        boxes: Bounding boxes of N faces, in pixels of the photo.
        crops: uint8 [N, 3, T, T].
    """

    photo: NDArray[np.uint8]
    boxes: list[Box]
    crops: NDArray[np.uint8]


FaceCropper = Callable[[Path], FaceCrops]
"""Crops the faces of a photo; raises `images.decode.UnusableImageError` if it cannot be read."""


def whole_image_cropper(side: int, centre: float) -> FaceCropper:
    """Crop the centre square of each photo, as in training.

    Args:
        side: T of the crops in pixels.
        centre: Share of the square's side, around its centre, to keep.
    """

    def crop(path: Path) -> FaceCrops:
        photo = decode_full(path)
        square = decode(path, round(side / centre))
        box = box_in_middle(photo, min(photo.shape[1:]) * side / square.shape[-1])
        return FaceCrops(photo, [box], center_crop(square, side)[None])

    return crop


def detected_face_cropper(side: int, detector: Path | None, enlarge: float) -> FaceCropper:
    """Crop and align the faces found by a detector, as prepare_faces.py does.

    Args:
        side: T of the crops in pixels.
        detector: ONNX file of a YuNet; None for OpenCV's cascades.
        enlarge: Side of a crop over the longer side of the face's bounding box.

    Raises:
        UserError: The detector cannot be loaded.
    """
    from faces.preparation.cropper import Cropper  # imports OpenCV
    from faces.preparation.options import PrepareChoice

    nowhere = Path()
    # Small faces are scaled up rather than left out: every detected face gets a name.
    cropper = Cropper(
        PrepareChoice(nowhere, nowhere, size=side, smallest=1, enlarge=enlarge, detector=detector)
    )

    def crop(path: Path) -> FaceCrops:
        photo = decode_full(path)
        found = list(cropper.crops(photo))
        crops = np.stack([crop.image for crop in found]) if found else np.empty((0, 3, side, side), np.uint8)
        return FaceCrops(photo, [crop.found.box for crop in found], crops)

    return crop
