"""What the user of recognize.py can choose. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg, subcommand

from engine.errors import UserError
from engine.settings import Device, at_least
from faces.recognition.gallery import check_threshold

ENLARGE = 1.2
"""Side of a crop over the longer side of the face's box, as of prepare_faces.py."""


@dataclass(frozen=True, kw_only=True)
class CropArguments:
    """What is looked at in photos."""

    whole_image: bool = False
    """FaceCropper at the middle square of each image, as in training, instead of searching it for faces."""
    detector: Path | None = None
    """ONNX file of a YuNet; without one OpenCV's frontal cascade finds the faces."""
    enlarge: float = ENLARGE
    """Side of what is cut out over the longer side of the face's box; that of the training images."""
    device: Device = "auto"
    """Where the network computes; auto takes CUDA, then Apple's MPS, then the CPU."""
    runs: Path = Path("outputs/classifiers")
    """Folder of runs, in which a run is sought by its name or number."""

    def __post_init__(self) -> None:
        if not 0.5 <= self.enlarge <= 4:
            raise UserError(f"--enlarge must be 0.5 to 4, not {self.enlarge}")


@dataclass(frozen=True, kw_only=True)
class OutputArguments(CropArguments):
    """What is told of photos, and where."""

    output: Path = Path("outputs/recognized")
    """Folder for copies of the photos with boxes and names, and for the table as CSV."""
    copies: bool = True
    """Write the copies."""
    json: bool = False
    """Print JSON instead of a table."""


@dataclass(frozen=True)
class PredictArguments(OutputArguments):
    """Name the class of each face, with its probability."""

    checkpoint: Annotated[str, Positional, arg(metavar="CHECKPOINT")]
    """A run of train_classifier.py (folder, or name or number in --runs), or a checkpoint's file."""
    photos: Annotated[tuple[Path, ...], Positional, arg(metavar="PHOTO...")]
    """Photos, and folders of photos."""


@dataclass(frozen=True)
class IdentifyArguments(OutputArguments):
    """Find the faces of photos again in a gallery; who is not alike enough is unknown."""

    gallery: Annotated[Path, Positional, arg(metavar="GALLERY")]
    """The gallery's file."""
    photos: Annotated[tuple[Path, ...], Positional, arg(metavar="PHOTO...")]
    """Photos, and folders of photos."""
    threshold: float | None = None
    """Least cosine similarity, from -1 to 1, at which somebody is named; the gallery's own, which calibrate
    writes, if not given."""
    checkpoint: str | None = None
    """The network; that which the gallery was made with, where it was then, if not given."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.threshold is not None:
            check_threshold(self.threshold)


@dataclass(frozen=True)
class EnrollArguments(CropArguments):
    """Add somebody to a gallery, by a few images; nothing is trained."""

    gallery: Annotated[Path, Positional, arg(metavar="GALLERY")]
    """The gallery's file; made where it is missing."""
    name: Annotated[str, Positional, arg(metavar="NAME")]
    """Who it is. More images of somebody who is in it already are added to the others."""
    images: Annotated[tuple[Path, ...], Positional, arg(metavar="IMAGE...")]
    """Images, and folders of images, of one face each."""
    checkpoint: str | None = None
    """The network, as for predict: needed for a new gallery."""


@dataclass(frozen=True)
class ListArguments:
    """Tell who is in a gallery."""

    gallery: Annotated[Path, Positional, arg(metavar="GALLERY")]
    """The gallery's file."""
    json: bool = False
    """Print JSON instead of a table."""


@dataclass(frozen=True)
class RemoveArguments:
    """Remove somebody from a gallery."""

    gallery: Annotated[Path, Positional, arg(metavar="GALLERY")]
    """The gallery's file."""
    name: Annotated[str, Positional, arg(metavar="NAME")]
    """Who."""


@dataclass(frozen=True)
class CalibrateArguments:
    """Find the threshold for a wanted false-accept rate, on a folder with one sub-folder a person.

    Best on people that the network was not trained on: those it knows look more unlike each other to it.
    """

    checkpoint: Annotated[str, Positional, arg(metavar="CHECKPOINT")]
    """A run of train_classifier.py (folder, or name or number in --runs), or a checkpoint's file."""
    folder: Annotated[Path, Positional, arg(metavar="FOLDER")]
    """Images with one sub-folder a person, cropped as the training images were."""
    far: float = 0.01
    """Wanted false-accept rate: the share of strangers' faces that may be named."""
    enrolled: int = 4
    """Images of each person that are enrolled, the first by name; the rest are looked up."""
    gallery: Path | None = None
    """A gallery to write the threshold into."""
    label: str | None = None
    """As of train_classifier.py, where there are no sub-folders."""
    output: Path = Path("outputs/calibration")
    """Folder for the curves, as CSV and PNG, and the figures as JSON."""
    cache: Path = Path("data/cache")
    """Folder of decoded images."""
    workers: int | None = None
    """Processes that decode images; 0 is this one, none given one for each core."""
    device: Device = "auto"
    """Where the network computes."""
    runs: Path = Path("outputs/classifiers")
    """Folder of runs, in which a run is sought by its name or number."""

    def __post_init__(self) -> None:
        if not 0 <= self.far < 1:
            raise UserError(f"--far must be at least 0 and less than 1, not {self.far}")
        at_least(self, 1, "enrolled")
        at_least(self, 0, "workers")


Command = (
    Annotated[PredictArguments, subcommand("predict")]
    | Annotated[EnrollArguments, subcommand("enroll")]
    | Annotated[ListArguments, subcommand("list")]
    | Annotated[RemoveArguments, subcommand("remove")]
    | Annotated[IdentifyArguments, subcommand("identify")]
    | Annotated[CalibrateArguments, subcommand("calibrate")]
)
"""Everything that recognize.py can be asked for."""
