"""The command-line arguments of prepare_faces.py."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from tyro.conf import Positional, arg

from engine.errors import UserError
from engine.settings import Groups
from images.decode import MIN_SIZE_RATIO
from images.near_duplicates import HASH_BITS

MAY_CHANGE = frozenset({"out", "workers", "exclude", "reject", "restore"})
"""Arguments that may change when a run is resumed: they add or remove crops, but change no crop's pixels."""


@dataclass(frozen=True)
class PrepareArguments:
    """The photos, and the rules for their faces."""

    GROUPS: ClassVar[Groups] = {
        "everyday": "photos out size form reject restore exclude",
        "detection": "detector min_score min_support landmarks search_side upright",
        "selection": "min_side sharpness max_turn max_outside near_copy",
        "expert": "enlarge fps workers",
    }

    photos: Annotated[Path, Positional, arg(metavar="PHOTOS")]
    """Folder of photos and videos, flat or nested. It is only read."""
    out: Annotated[Path, Positional, arg(metavar="OUT")]
    """Output folder: new, empty, or one to resume."""
    size: int = 112
    """Side of the crops in pixels."""
    form: Literal["jpeg", "png"] = "jpeg"
    """File format of the crops: JPEG of quality 95, or PNG."""
    enlarge: float = 1.2
    """Side of a crop over the longer side of the face's box, which extends from brows to chin."""
    upright: bool = True
    """Rotate the crops so that the eyes are level."""
    landmarks: Path | None = None
    """Run of train_landmarks.py (folder, or name or number in outputs/landmarks) or checkpoint file, whose
    landmarks frame and align the faces. Without it the detector's eyes align them or, if it has none, a pose
    estimate by cascades."""
    detector: Path | None = None
    """ONNX file of a YuNet face detector. By default OpenCV's frontal-face cascade finds the faces."""
    min_score: float | None = None
    """Minimum score of a detection: overlapping windows of the cascades, by default 4, or the confidence of
    a YuNet, by default 0.7."""
    min_support: int = 23  # most false detections have less, and few faces: docs/preparation.md
    """Without a YuNet: minimum number of windows in which five cascades detect the face, eyes or mouth again.
    Raise it if ties and coats are kept, lower it if faces are left out as "not a face"; 0 for any."""
    search_side: int = 1600
    """Longer side in pixels to which the cascades reduce larger photos. The smallest face they detect is a
    65th of it; the time grows with its square."""
    fps: float = 1.0
    """Frames per second to take from videos."""
    min_side: int | None = None
    """Minimum side of a crop, in pixels of the photo; by default half of --size."""
    sharpness: float = 0.015
    """Minimum sharpness of a crop: the variance of its Laplacian over that of its grey levels. 0 for any."""
    max_turn: float = 0.35
    """How far a face may look sideways: the offset of nose and mouth from the line midway between the eyes,
    in distances between the eyes. A profile has 0.5 or more."""
    max_outside: float = 0.1
    """Maximum fraction of a crop outside the photo, where the photo's edge is repeated."""
    near_copy: int = 24
    """Keep only one of a folder's crops whose perceptual hashes differ in at most this many of 144 bits: the
    one with the most pixels in its photo; -1 keeps all."""
    exclude: Annotated[tuple[str, ...] | None, arg(metavar="[PATTERN ...]")] = None
    """Patterns of photos and folders to leave out, such as 'thumbs*' '*_mask.png' old/: names at any depth
    or, with a slash before the end, paths in PHOTOS. The syntax is a subset of .gitignore's: *, ?, [...], **,
    a slash at the end; no negation. Also removes the crops of such photos. By default as in the call before;
    without a pattern, nothing is left out."""
    reject: Annotated[tuple[int, ...], arg(metavar="[NUMBER ...]")] = ()
    """Numbers, on the sheets kept.png, of crops to leave out. They stay left out in all further calls."""
    restore: Annotated[tuple[int, ...], arg(metavar="[NUMBER ...]")] = ()
    """Numbers, on the sheets left_out.png, of crops to keep after all: rejected ones, and "not a face"."""
    workers: int | None = None
    """Worker processes; 0 for the main process alone, by default one per core."""

    def __post_init__(self) -> None:
        minimum = {
            "size": 16, "enlarge": 0.5, "min_score": 0, "min_support": 0, "search_side": 64,
            "min_side": 1, "sharpness": 0, "max_turn": 0, "max_outside": 0, "near_copy": -1, "workers": 0,
        }  # fmt: skip
        maximum = {
            "size": 1024, "enlarge": 4, "min_score": 1000, "search_side": 20_000, "min_side": 20_000,
            "max_outside": 1, "near_copy": HASH_BITS,
        }  # fmt: skip
        for field in fields(self):
            value, low = getattr(self, field.name), minimum.get(field.name)
            if value is None or low is None:
                continue
            high = maximum.get(field.name, math.inf)
            if not low <= value <= high:
                limits = f"{low} or more" if high == math.inf else f"{low} to {high:,}"
                raise UserError(f"--{field.name.replace('_', '-')} must be {limits}, not {value}")
        if both := {*self.reject} & {*self.restore}:
            raise UserError(f"--reject and --restore both name the crop {min(both)}: give it to one of them")
        if not 0 < self.fps <= 1000:
            raise UserError(f"--fps must be above 0 and at most 1000, not {self.fps:g}")

    @property
    def min_crop_side(self) -> int:
        """Side of the smallest crop in pixels of the photo."""
        return math.ceil(MIN_SIZE_RATIO * self.size) if self.min_side is None else self.min_side

    @property
    def suffix(self) -> str:
        """Suffix of the crops' file names."""
        return ".jpg" if self.form == "jpeg" else ".png"

    def rules(self) -> dict[str, Any]:
        """All arguments that affect the crops, as values for JSON."""
        values = asdict(self) | {"min_side": self.min_crop_side}
        return {
            name: str(value.resolve()) if isinstance(value, Path) else value
            for name, value in values.items()
            if name not in MAY_CHANGE
        }
