"""What the user of prepare_faces.py can choose."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from engine.errors import UserError
from images.decode import MIN_SIZE_RATIO

HASH_BITS = 144
"""Bits of a crop's perceptual hash (`faces.preparation.quality.difference_hash`)."""

FREE = frozenset({"out", "workers"})
"""Choices that change nothing in what is made, and may differ when a run goes on."""


@dataclass(frozen=True)
class PrepareChoice:
    """Which photos, and what becomes of their faces."""

    photos: Annotated[Path, Positional, arg(metavar="PHOTOS")]
    """Folder of photos and videos, flat or nested. It is only read."""
    out: Annotated[Path, Positional, arg(metavar="OUT")]
    """Folder to write to: a new or empty one, or one to go on with."""
    size: int = 112
    """Side of the crops in pixels."""
    form: Literal["jpeg", "png"] = "jpeg"
    """Of the crops: JPEG of quality 95, or PNG."""
    enlarge: float = 1.2
    """Side of a crop over the longer side of the face's box, which reaches from the brows to the chin."""
    upright: bool = True
    """Turn the crops so that the eyes are level."""
    landmarks: Path | None = None
    """Run of train_landmarks.py (folder, or name or number in outputs/landmarks), or a checkpoint's file, by
    whose landmarks faces are framed and turned. Without one the detector's own eyes are taken or, where it
    gives none, an estimate by cascades."""
    detector: Path | None = None
    """ONNX file of a YuNet; without one OpenCV's frontal cascade finds the faces."""
    least_score: float | None = None
    """Of a face: 4 windows that agree for the cascades, 0.7 for a YuNet, if not given."""
    search_side: int = 1600
    """Longer side in pixels to which larger photos are reduced for the cascades to search them. The smallest
    face they find is a 65th of it; the time grows with its square."""
    fps: float = 1.0
    """Frames a second that are taken from videos."""
    smallest: int | None = None
    """Side of the smallest crop in pixels of the photo; half of --size if not given."""
    sharpness: float = 0.015
    """Least sharpness of a crop: the variance of its Laplacian over that of its grey levels. 0 for any."""
    most_turned: float = 0.35
    """How far a face may look sideways: how far its nose and mouth are from the line midway between the eyes,
    in distances between the eyes. 0.5 and more is a profile."""
    most_outside: float = 0.1
    """Share of a crop that may lie outside the photo, where it repeats the photo's edge."""
    near_copy: int = 24
    """Crops of one folder are near-copies, and all but the first left out, where at most so many of the 144
    bits of their perceptual hashes differ; -1 keeps all."""
    workers: int | None = None
    """Processes that look for faces; 0 is this one, none given one for each core."""

    def __post_init__(self) -> None:
        least = {
            "size": 16, "enlarge": 0.5, "least_score": 0, "search_side": 64, "smallest": 1, "sharpness": 0,
            "most_turned": 0, "most_outside": 0, "near_copy": -1, "workers": 0,
        }  # fmt: skip
        most = {
            "size": 1024, "enlarge": 4, "least_score": 1000, "search_side": 20_000, "smallest": 20_000,
            "most_outside": 1, "near_copy": HASH_BITS,
        }  # fmt: skip
        for field in fields(self):
            value, low = getattr(self, field.name), least.get(field.name)
            if value is None or low is None:
                continue
            high = most.get(field.name, math.inf)
            if not low <= value <= high:
                span = f"{low} or more" if high == math.inf else f"{low} to {high:,}"
                raise UserError(f"--{field.name.replace('_', '-')} must be {span}, not {value}")
        if not 0 < self.fps <= 1000:
            raise UserError(f"--fps must be above 0 and at most 1000, not {self.fps:g}")

    @property
    def smallest_crop(self) -> int:
        """Side of the smallest crop in pixels of the photo."""
        return math.ceil(MIN_SIZE_RATIO * self.size) if self.smallest is None else self.smallest

    @property
    def ending(self) -> str:
        """Of the crops' file names."""
        return ".jpg" if self.form == "jpeg" else ".png"

    def rules(self) -> dict[str, Any]:
        """All choices that change what is made, as JSON can hold them."""
        chosen = asdict(self) | {"smallest": self.smallest_crop}
        return {
            name: str(value.resolve()) if isinstance(value, Path) else value
            for name, value in chosen.items()
            if name not in FREE
        }
