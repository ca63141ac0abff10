"""The training images that are nearest to a generated one, to see whether a face was copied."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gan.metrics.memorization import nearest_in_any_view
from gan.metrics.thumbnails import thumbnails

COMPARED = 200
"""Training images by which the typical distance is measured."""


@dataclass(frozen=True)
class TrainingImages:
    """Training images, prepared for a search by thumbnails (`gan.metrics.thumbnails`).

    Attributes:
        images: uint8 [N, 3, S, S], may be mapped from a file.
        thumbnails: float32 [N, F].
        typical: median distance from a training image to the most similar other one.
    """

    images: NDArray[np.uint8]
    thumbnails: Tensor
    typical: float

    @classmethod
    def of(cls, images: NDArray[np.uint8]) -> TrainingImages:
        """Prepare images, uint8 [N, 3, S, S] with N of at least 3; takes some seconds for 10,000."""
        references = thumbnails(images)[0]
        rows = np.linspace(0, len(images) - 1, min(COMPARED, len(images))).astype(int)
        # The nearest is the image itself.
        distances, _ = nearest_in_any_view(thumbnails(images[rows], views=True), references, 2)
        return cls(images, references, float(distances[:, 1].median()))

    def nearest(
        self, image: NDArray[np.uint8], count: int = 6
    ) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        """The images nearest to another, shifted a little or mirrored too.

        Args:
            image: uint8 [3, S, S].
            count: images to find, at most 16 and at most N.

        Returns:
            The images, uint8 [count, 3, S, S], and their distances, as multiples of the typical one.
        """
        count = min(count, len(self.images))
        distances, rows = nearest_in_any_view(thumbnails(image[None], views=True), self.thumbnails, count)
        return np.stack([self.images[row] for row in rows[0]]), distances[0].double().numpy() / self.typical
