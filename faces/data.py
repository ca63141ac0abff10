"""The data of a training on faces. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class TrainingData:
    """Images for training and held-out images for scoring; subclasses add the targets.

    Attributes:
        images: uint8 [N, 3, T, T].
        files: name of each image, relative to the folder.
        held: bool [N], images that are held out.
        skipped: (name, reason) of files that were not used.
        digest: hex digest of all pixels in order and of the targets.
        folder: absolute path of the files.
    """

    images: NDArray[np.uint8]
    files: list[str]
    held: NDArray[np.bool_]
    skipped: list[tuple[str, str]]
    digest: str
    folder: Path

    @property
    def trained(self) -> NDArray[np.int64]:
        """Rows of `images` for training."""
        return np.flatnonzero(~self.held)

    @property
    def held_rows(self) -> NDArray[np.int64]:
        """Rows of `images` that are held out."""
        return np.flatnonzero(self.held)

    def facts(self) -> dict[str, Any]:
        """Entries for `data` in config.json."""
        return {
            "folder": str(self.folder),
            "digest": self.digest,
            "images": len(self.images),
            "held_out": len(self.held_rows),
            "skipped": len(self.skipped),
        }
