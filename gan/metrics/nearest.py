"""The training images that are nearest to a generated one, to see whether a face was copied."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gan.metrics.memorization import nearest_in_any_view
from gan.metrics.pixels import QUANTIZATION_STEP
from gan.metrics.thumbnails import thumbnails

COMPARED = 200
"""Training images by which the typical distance is measured."""
PART = 1000
"""Training images that are read at once."""


@dataclass(frozen=True)
class TrainingImages:
    """Training images, prepared for a search by thumbnails (`gan.metrics.thumbnails`).

    Attributes:
        images: uint8 [M, 3, S, S], may be mapped from a file.
        rows: of the images that are searched, int64 [N]; of equal images only the first.
        thumbnails: float32 [N, F].
        typical: median distance from a training image to the most similar other one.
    """

    images: NDArray[np.uint8]
    rows: NDArray[np.int64]
    thumbnails: Tensor
    typical: float

    @classmethod
    def of(cls, images: NDArray[np.uint8], rows: NDArray[np.int64] | None = None) -> TrainingImages:
        """Prepare images, some seconds for 10,000. A mapped array is read in parts and not copied.

        Args:
            images: uint8 [M, 3, S, S].
            rows: of the images to search, at least 1; all by default.
        """
        rows = _distinct(images, np.arange(len(images)) if rows is None else np.asarray(rows))
        parts = [rows[start : start + PART] for start in range(0, len(rows), PART)]
        references = torch.cat([thumbnails(images[part])[0] for part in parts])
        compared = rows[np.linspace(0, len(rows) - 1, min(COMPARED, len(rows))).astype(int)]
        # The nearest is the image itself.
        distances, _ = nearest_in_any_view(
            thumbnails(images[compared], views=True), references, min(2, len(rows))
        )
        return cls(images, rows, references, max(float(distances[:, -1].median()), QUANTIZATION_STEP))

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
        count = min(count, len(self.rows))
        distances, found = nearest_in_any_view(thumbnails(image[None], views=True), self.thumbnails, count)
        faces = np.stack([self.images[row] for row in self.rows[found[0].numpy()]])
        return faces, distances[0].double().numpy() / self.typical


def _distinct(images: NDArray[np.uint8], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows without those of images that equal an earlier one: their distance from it is no scale."""
    first: dict[bytes, int] = {}
    for row in rows.tolist():
        first.setdefault(hashlib.blake2b(images[row].tobytes(), digest_size=16).digest(), row)
    return np.array([*first.values()])
