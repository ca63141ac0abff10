"""What finds faces: the interface, and the choice between the cascades and an ONNX file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels of an image."""


@dataclass(frozen=True)
class Found:
    """A face that a detector found.

    Attributes:
        box: the square around the landmarks, from the brows to the chin, as far as the detector can tell. All
            detectors mean the same by it, so that what is cut out does not depend on which was used.
        score: how sure the detector is; its scale is the detector's own.
        eyes: float64 [2, 2], the middles of the left and the right eye as the picture shows them, x and y in
            pixels; None where the detector does not tell.
        middle: float64 [M, 2], points on the face's mirror line, such as the nose's tip; None likewise.
    """

    box: Box
    score: float
    eyes: NDArray[np.float64] | None = None
    middle: NDArray[np.float64] | None = None


class Detector(Protocol):
    """Finds the faces in an image."""

    def __call__(self, image: NDArray[np.uint8], smallest: float = 0.0) -> list[Found]:
        """The faces in an image, uint8 [3, H, W], the surest first; boxes may reach beyond it.

        Faces whose box is narrower than `smallest` pixels need not be found.
        """


def load_detector(
    path: Path | None = None, search_side: int = 1600, least_score: float | None = None
) -> Detector:
    """The cascade detector, or the YuNet in an ONNX file.

    Args:
        path: of the file; the cascades if None.
        search_side: the cascades search an image whose longer side has more pixels reduced to these.
        least_score: of a face; the detector's own bound if None.

    Raises:
        UserError: the extra `photos` is not installed, or the file is missing or no YuNet.
    """
    if path is None:
        from faces.cascades import CascadeDetector

        return CascadeDetector(search_side, least_score)
    from faces.yunet import YuNet

    return YuNet(path, least_score)
