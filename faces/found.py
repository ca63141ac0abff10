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
