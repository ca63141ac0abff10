"""What every training of a network that looks at faces has of its data. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class TrainingData:
    """Images to train on, and others that are held out; each training adds what it learns of them.

    Attributes:
        images: uint8 [N, 3, T, T].
        files: of each image its name, relative to the folder.
        held: bool [N], images that are never trained on.
        skipped: (name, reason) of what was left out.
        digest: hex, of all pixels in their order and of what is learnt of them.
        folder: where the files are, absolute.
    """

    images: NDArray[np.uint8]
    files: list[str]
    held: NDArray[np.bool_]
    skipped: list[tuple[str, str]]
    digest: str
    folder: Path

    @property
    def trained(self) -> NDArray[np.int64]:
        """The images that may be trained on, as rows of `images`."""
        return np.flatnonzero(~self.held)

    @property
    def held_rows(self) -> NDArray[np.int64]:
        """The images held out, as rows of `images`."""
        return np.flatnonzero(self.held)

    def facts(self) -> dict[str, Any]:
        """What config.json tells of the data."""
        return {
            "folder": str(self.folder),
            "digest": self.digest,
            "images": len(self.images),
            "held_out": len(self.held_rows),
            "skipped": len(self.skipped),
        }
