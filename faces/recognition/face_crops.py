"""From photos to what a recogniser looks at: the faces in them, or all of each. No torch is imported here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from faces.align import Box, central_box
from images.decode import decode, decode_full
from images.tiles import center_crop


@dataclass(frozen=True)
class Seen:
    """What is looked at in a photo.

    Attributes:
        photo: all of it, uint8 [3, H, W], upright.
        boxes: of N faces.
        crops: of each, uint8 [N, 3, T, T].
    """

    photo: NDArray[np.uint8]
    boxes: list[Box]
    crops: NDArray[np.uint8]


Look = Callable[[Path], Seen]
"""Looks at a photo; raises `images.decode.UnusableImageError` for one that cannot be read."""


def whole_images(side: int, centre: float) -> Look:
    """Look at the middle square of each photo, as training does.

    Args:
        side: T of the crops in pixels.
        centre: share of the square's side, around its middle, that is kept.
    """

    def look(path: Path) -> Seen:
        photo = decode_full(path)
        large = decode(path, round(side / centre))
        box = central_box(photo, min(photo.shape[1:]) * side / large.shape[-1])
        return Seen(photo, [box], center_crop(large, side)[None])

    return look


def faces_found(side: int, detector: Path | None, enlarge: float) -> Look:
    """Look at the faces that a detector finds, cut out and turned as prepare_faces.py does.

    Args:
        side: T of the crops in pixels.
        detector: ONNX file of a YuNet; None for the cascades.
        enlarge: side of a crop over the longer side of the face's box.

    Raises:
        UserError: the detector cannot be loaded.
    """
    from faces.preparation.cropper import Cropper  # imports OpenCV
    from faces.preparation.options import PrepareArguments

    nowhere = Path()
    # Small faces are scaled up rather than left out: a name for each face that is found.
    cropper = Cropper(
        PrepareArguments(nowhere, nowhere, size=side, smallest=1, enlarge=enlarge, detector=detector)
    )

    def look(path: Path) -> Seen:
        photo = decode_full(path)
        found = list(cropper.crops(photo))
        crops = np.stack([crop.image for crop in found]) if found else np.empty((0, 3, side, side), np.uint8)
        return Seen(photo, [crop.detection.box for crop in found], crops)

    return look
