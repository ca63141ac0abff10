"""What a detector of faces is, and what it says of a face."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels of an image."""


@dataclass(frozen=True)
class Found:
    """A face that a detector found.

    Attributes:
        box: around the landmarks, from the brows to the chin, as well as the detector can tell; what is cut
            out depends little on which detector it was.
        score: how sure the detector is; its scale is the detector's own.
        points: float64 [5, 2], x and y in pixels of the left and the right eye as the picture shows them, the
            nose's tip, and the left and the right corner of the mouth; None where the detector does not tell.
    """

    box: Box
    score: float
    points: NDArray[np.float64] | None = None


class Detector(Protocol):
    """Finds the faces in an image."""

    def __call__(self, image: NDArray[np.uint8], smallest: float = 0.0) -> list[Found]:
        """The faces in an image, uint8 [3, H, W], the surest first; boxes may reach beyond it.

        Faces whose box is narrower than `smallest` pixels need not be found.
        """
