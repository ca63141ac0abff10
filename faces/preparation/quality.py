"""Which crops are fit to learn from: measures of a crop, and the verdict on a face."""

from __future__ import annotations

from collections import defaultdict
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engine.png import to_pillow
from faces.align import Square
from faces.pose import Pose
from faces.preparation.options import HASH_BITS, PrepareChoice

Verdict = Literal["kept", "too small", "cut off", "turned too far", "too blurred", "near-copy"]
"""What becomes of a face. Only the first reason is given, in this order."""

REASONS = get_args(Verdict)[1:]

_HASH_SIDE = 12


def sharpness(crop: NDArray[np.uint8]) -> float:
    """The variance of a crop's Laplacian over the variance of its grey levels.

    The variance of the Laplacian (Pech-Pacheco et al. 2000) grows with contrast too; this ratio does not. It
    depends on the scale at which it is taken: here the crop's, at which the face will be learnt. Noise counts
    as sharp. 0 for a crop of one level.

    Args:
        crop: uint8 [3, S, S], S of at least 3.
    """
    levels = np.asarray(to_pillow(crop).convert("L"), float)
    around = levels[:-2, 1:-1] + levels[2:, 1:-1] + levels[1:-1, :-2] + levels[1:-1, 2:]
    variance = levels.var()
    return float((around - 4 * levels[1:-1, 1:-1]).var() / variance) if variance else 0.0


def difference_hash(crop: NDArray[np.uint8]) -> int:
    """A perceptual hash of 144 bits: whether each of 12 x 12 places is darker than the one to its right.

    Krawetz 2013, "Kind of Like That", with 12 x 12 places for his 8 x 8: faces are more alike than photos.

    Args:
        crop: uint8 [3, S, S].
    """
    small = to_pillow(crop).convert("L").resize((_HASH_SIDE + 1, _HASH_SIDE), Image.Resampling.LANCZOS)
    levels = np.asarray(small, int)
    return int.from_bytes(np.packbits(levels[:, 1:] > levels[:, :-1]).tobytes())


def verdict(
    choice: PrepareChoice, square: Square, width: int, height: int, pose: Pose, sharp: float
) -> Verdict:
    """Whether a face is kept, or the first reason not to; near-copies are found later.

    Args:
        choice: holds the bounds.
        square: of the crop, in a photo of `width` x `height` pixels.
        width: see `square`.
        height: see `square`.
        pose: of the face.
        sharp: `sharpness` of the crop.
    """
    if square.side < choice.smallest_crop:
        return "too small"
    if square.share_outside(width, height) > choice.most_outside:
        return "cut off"
    if pose.turn is not None and abs(pose.turn) > choice.most_turned:
        return "turned too far"
    if sharp < choice.sharpness:
        return "too blurred"
    return "kept"


class NearCopies:
    """Remembers the hashes of the crops that were kept, by folder.

    Args:
        distance: most bits in which the hashes of near-copies differ; -1 for no near-copies.
    """

    def __init__(self, distance: int) -> None:
        self._distance = distance
        self._kept: dict[str, list[int]] = defaultdict(list)

    def known(self, folder: str, fingerprint: int) -> bool:
        """Whether a crop with such a hash was kept in this folder."""
        return any((fingerprint ^ kept).bit_count() <= self._distance for kept in self._kept[folder])

    def keep(self, folder: str, fingerprint: int) -> None:
        """Remember a crop that is kept."""
        self._kept[folder].append(fingerprint)


assert _HASH_SIDE**2 == HASH_BITS
