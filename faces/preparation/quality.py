"""Which crops are good enough to train on: measures of a crop, and reasons to reject a face."""

from __future__ import annotations

from collections import defaultdict
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from engine.png import to_pillow
from faces.align import Square
from faces.pose import Pose
from faces.preparation.options import PrepareArguments

RejectionReason = Literal["not a face", "too small", "cut off", "turned too far", "too blurred", "near-copy"]
"""Why a face is left out. If several apply, the first in this order is reported."""

REASONS = get_args(RejectionReason)

ROTATED_FACTOR = 3
"""Factor by which a detection in a rotated photo needs more support: most photos are upright, so most of
these detections are false."""

NOT_A_FACE: RejectionReason = "not a face"
NEAR_COPY: RejectionReason = "near-copy"


def sharpness(crop: NDArray[np.uint8]) -> float:
    """The variance of a crop's Laplacian over the variance of its grey levels.

    The variance of the Laplacian (Pech-Pacheco et al. 2000) also grows with contrast; this ratio does not. It
    depends on the resolution: here that of the crop, on which the GAN is trained. Noise counts as sharpness.
    0 for a crop of a single level.

    Args:
        crop: uint8 [3, S, S], S of at least 3.
    """
    levels = np.asarray(to_pillow(crop).convert("L"), float)
    neighbours = levels[:-2, 1:-1] + levels[2:, 1:-1] + levels[1:-1, :-2] + levels[1:-1, 2:]
    variance = levels.var()
    return float((neighbours - 4 * levels[1:-1, 1:-1]).var() / variance) if variance else 0.0


def rejection_reason(
    arguments: PrepareArguments,
    square: Square,
    width: int,
    height: int,
    pose: Pose,
    sharpness: float,
    support: int | None = None,
    *,
    rotated: bool = False,
) -> RejectionReason | None:
    """The first reason to leave out a face, or None. Near-duplicates are found later.

    Args:
        arguments: with the limits.
        square: of the crop, in a photo of `width` x `height` pixels.
        width: see `square`.
        height: see `square`.
        pose: of the face.
        sharpness: of the crop.
        support: of the detection; see `faces.detection.support`. None if there is none.
        rotated: whether the photo was rotated to find a face.
    """
    required = arguments.min_support * (ROTATED_FACTOR if rotated else 1)
    if support is not None and support < required:
        return "not a face"
    if square.side < arguments.min_crop_side:
        return "too small"
    if square.fraction_outside(width, height) > arguments.max_outside:
        return "cut off"
    if pose.turn is not None and abs(pose.turn) > arguments.max_turn:
        return "turned too far"
    if sharpness < arguments.sharpness:
        return "too blurred"
    return None


class NearDuplicates:
    """Perceptual hashes of the kept crops of each folder.

    Args:
        distance: largest number of bits in which near-duplicates differ; -1 to have no near-duplicates.
    """

    def __init__(self, distance: int) -> None:
        self._distance = distance
        self._hashes: dict[str, list[int]] = defaultdict(list)

    def contains(self, folder: str, perceptual_hash: int) -> bool:
        """Whether a near-duplicate of a crop has been added to this folder."""
        return any((perceptual_hash ^ known).bit_count() <= self._distance for known in self._hashes[folder])

    def add(self, folder: str, perceptual_hash: int) -> None:
        """Add a crop that is kept."""
        self._hashes[folder].append(perceptual_hash)
