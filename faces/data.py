"""The data of a run that trains on faces. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class TrainingData:
    """Training images, and held-out images for scores; subclasses add the targets.

    Attributes:
        images: uint8 [N, 3, T, T].
        files: name of each image, relative to the folder.
        held_out: bool [N], whether an image is held out.
        skipped: (name, reason) of files that were not used.
        digest: hex digest of all pixels in order and of the targets.
        folder: absolute path of the files.
    """

    images: NDArray[np.uint8]
    files: list[str]
    held_out: NDArray[np.bool_]
    skipped: list[tuple[str, str]]
    digest: str
    folder: Path

    @property
    def training_indices(self) -> NDArray[np.int64]:
        """Indices of the training images, in order."""
        return np.flatnonzero(~self.held_out)

    @property
    def held_out_indices(self) -> NDArray[np.int64]:
        """Indices of the held-out images, in order."""
        return np.flatnonzero(self.held_out)

    def facts(self) -> dict[str, Any]:
        """Entries for `data` in config.json."""
        return {
            "folder": str(self.folder),
            "digest": self.digest,
            "images": len(self.images),
            "held_out": int(self.held_out.sum()),
            "skipped": len(self.skipped),
        }
