"""The interface of face detectors, and a detection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from faces.align import Box


@dataclass(frozen=True)
class Detection:
    """A detected face.

    Attributes:
        box: estimate of the bounding box of the landmarks, from brows to chin, so that crops depend little
            on the detector.
        score: confidence, on the detector's own scale.
        keypoints: float64 [5, 2], x and y in pixels of the left eye, right eye, nose tip, left mouth corner
            and right mouth corner, left and right as in the image; None if the detector has none.
    """

    box: Box
    score: float
    keypoints: NDArray[np.float64] | None = None


class Detector(Protocol):
    """Detects the faces in an image."""

    def __call__(self, image: NDArray[np.uint8], min_width: float = 0.0) -> list[Detection]:
        """Detect the faces in an image, uint8 [3, H, W], most confident first.

        Boxes may extend beyond the image. Faces whose box is narrower than `min_width` pixels may be skipped.
        """
