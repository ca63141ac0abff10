"""Face crops of photos, by detection or of the whole image. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from faces.align import Box, central_box
from faces.detection.opencv import report_detection_errors
from images.decode import UnusableImageError, decode, decode_full
from images.tiles import centre_crop


@dataclass(frozen=True)
class FaceCrops:
    """The faces of a photo.

    Attributes:
        photo: uint8 [3, H, W], upright.
        boxes: bounding boxes of N faces, in pixels of the photo.
        crops: uint8 [N, 3, T, T].
    """

    photo: NDArray[np.uint8]
    boxes: list[Box]
    crops: NDArray[np.uint8]


FaceCropper = Callable[[Path], FaceCrops]
"""Crops the faces of a photo; raises `images.decode.UnusableImageError` if it cannot be read."""

PhotoCropper = Callable[[NDArray[np.uint8]], FaceCrops]
"""Crops the faces of a decoded photo, uint8 [3, H, W]."""

NO_FACE = "no face found; --whole-image skips face detection"


def crop_faces(cropper: FaceCropper, path: Path) -> FaceCrops:
    """The faces of a photo.

    Raises:
        UnusableImageError: the photo cannot be read, face detection fails, or there is no face.
    """
    with report_detection_errors():
        faces = cropper(path)
    if not faces.boxes:
        raise UnusableImageError(NO_FACE)
    return faces


def crop_single_face(cropper: FaceCropper, path: Path, *, largest: bool) -> NDArray[np.uint8]:
    """The face of a photo of one person, uint8 [3, T, T].

    Args:
        cropper: crops its faces.
        path: of the photo.
        largest: take the largest of several faces.

    Raises:
        UnusableImageError: see `crop_faces`; or there are several faces, and `largest` is False.
    """
    faces = crop_faces(cropper, path)
    if len(faces.boxes) > 1 and not largest:
        raise UnusableImageError(f"{len(faces.boxes)} faces found; --largest-face takes the largest")
    areas = [(right - left) * (bottom - top) for left, top, right, bottom in faces.boxes]
    return faces.crops[int(np.argmax(areas))]


def whole_image_cropper(side: int, centre: float) -> FaceCropper:
    """Crop the centre square of each photo, as in training.

    Args:
        side: T of the crops in pixels.
        centre: share of the square's side, around its centre, to keep.
    """

    def crop(path: Path) -> FaceCrops:
        photo = decode_full(path)
        square = decode(path, round(side / centre))
        return central_face(photo, square, side)

    return crop


def central_face(photo: NDArray[np.uint8], square: NDArray[np.uint8], side: int) -> FaceCrops:
    """The centre of a photo as its only face.

    Args:
        photo: uint8 [3, H, W].
        square: the photo's centre square, reduced or enlarged, uint8 [3, S, S].
        side: T of the crop in pixels, at most S: its part of the square is the face.
    """
    box = central_box(photo, min(photo.shape[1:]) * side / square.shape[-1])
    return FaceCrops(photo, [box], centre_crop(square, side)[None])


def detected_face_cropper(side: int, detector: Path | None, enlarge: float) -> FaceCropper:
    """Crop and align the faces of photo files; see `detected_photo_cropper`."""
    crop_photo = detected_photo_cropper(side, detector, enlarge)
    return lambda path: crop_photo(decode_full(path))


def detected_photo_cropper(side: int, detector: Path | None, enlarge: float) -> PhotoCropper:
    """Crop and align the faces found by a detector, as prepare_faces.py does.

    Args:
        side: T of the crops in pixels.
        detector: ONNX file of a YuNet; None for OpenCV's cascades.
        enlarge: side of a crop over the longer side of the face's bounding box.

    Raises:
        UserError: the detector cannot be loaded.
    """
    from faces.preparation.cropper import Cropper  # imports OpenCV
    from faces.preparation.options import PrepareArguments
    from faces.preparation.quality import NOT_A_FACE

    nowhere = Path()
    # Small and turned faces are not left out: every detected face gets a name.
    cropper = Cropper(
        PrepareArguments(nowhere, nowhere, size=side, min_side=1, enlarge=enlarge, detector=detector)
    )

    def crop(photo: NDArray[np.uint8]) -> FaceCrops:
        found = [crop for crop in cropper.crops(photo) if crop.rejection_reason != NOT_A_FACE]
        crops = np.stack([crop.image for crop in found]) if found else np.empty((0, 3, side, side), np.uint8)
        return FaceCrops(photo, [crop.detection.box for crop in found], crops)

    return crop
