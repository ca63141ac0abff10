"""Command-line arguments of recognize.py. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from tyro.conf import Positional, arg, subcommand

from engine.errors import UserError
from engine.settings import Device, Groups, Patterns, at_least
from faces.recognition.gallery import check_threshold

ENLARGE = 1.2
"""Side of a crop over the longer side of the face's bounding box; the default of prepare_faces.py."""

ENROLLED = 4
"""Images of each person that calibrate enrolls by default."""

CURVES = Path("outputs/calibration")
"""Folder of calibrate's curves by default."""


@dataclass(frozen=True, kw_only=True)
class CropArguments:
    """How faces are cropped from photos."""

    GROUPS: ClassVar[Groups] = {
        "everyday": "checkpoint photos gallery name images threshold output copies json whole_image "
        "largest_face once",
        "expert": "exclude detector enlarge device runs",
    }

    whole_image: bool = False
    """Use the centre square of each image, as in training, instead of detecting faces."""
    detector: Path | None = None
    """ONNX file of a YuNet face detector. By default OpenCV's frontal-face cascade finds the faces."""
    enlarge: float = ENLARGE
    """Side of a crop over the longer side of the face's bounding box; use that of the training images."""
    device: Device = "auto"
    """Device to compute on; auto selects CUDA, else Apple's MPS, else the CPU."""
    runs: Path = Path("outputs/classifiers")
    """Folder of the runs that can be given by name or number."""
    exclude: Patterns = ()
    """Patterns of photos and folders to leave out, as for train_classifier.py, after the photos."""

    def __post_init__(self) -> None:
        if not 0.5 <= self.enlarge <= 4:
            raise UserError(f"--enlarge must be 0.5 to 4, not {self.enlarge}")


@dataclass(frozen=True, kw_only=True)
class OutputArguments(CropArguments):
    """Where and how the names are written."""

    output: Path = Path("outputs/recognized")
    """Folder for recognized.csv and for copies of the photos with boxes and names."""
    copies: bool = True
    """Write the copies."""
    once: bool = False
    """Give each name to at most one face of a photo, so that the sum of the scores is largest."""
    json: bool = False
    """Print JSON instead of a table."""


@dataclass(frozen=True)
class PredictArguments(OutputArguments):
    """Name the class of each face, with its probability."""

    checkpoint: Annotated[str, Positional, arg(metavar="CHECKPOINT")]
    """A run of train_classifier.py (folder, or name or number in --runs), or a checkpoint file."""
    photos: Annotated[tuple[Path, ...], Positional, arg(metavar="PHOTO...")]
    """Photos, and folders of photos."""
    threshold: float | None = None
    """Minimum probability, from 0 to 1, for a name; a face below it is none of the classes. By default the
    threshold of calibrate --classes or, if there is none, 0, which names every face."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise UserError(f"--threshold must be a probability, from 0 to 1, not {self.threshold}")


@dataclass(frozen=True)
class IdentifyArguments(OutputArguments):
    """Identify faces by a gallery; a face that resembles nobody enough is unknown."""

    gallery: Annotated[Path, Positional, arg(metavar="GALLERY")]
    """Gallery file."""
    photos: Annotated[tuple[Path, ...], Positional, arg(metavar="PHOTO...")]
    """Photos, and folders of photos."""
    threshold: float | None = None
    """Minimum cosine similarity, from -1 to 1, for a name; by default the gallery's own, which calibrate
    sets."""
    checkpoint: Annotated[str | None, arg(metavar="RUN")] = None
    """The gallery's network; by default at the path that the gallery records."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.threshold is not None:
            check_threshold(self.threshold)


@dataclass(frozen=True, kw_only=True)
class FaceArguments(CropArguments):
    """Which face of an image is the person."""

    largest_face: bool = False
    """Take the largest of several faces in an image; without this, the image is left out."""


@dataclass(frozen=True)
class EnrollArguments(FaceArguments):
    """Add a person to a gallery, by a few images and without training."""

    gallery: Annotated[Path, Positional, arg(metavar="GALLERY")]
    """Gallery file, which is created if it does not exist."""
    name: Annotated[str, Positional, arg(metavar="NAME")]
    """Name of the person. Images of a person already enrolled are added to theirs."""
    images: Annotated[tuple[Path, ...], Positional, arg(metavar="IMAGE...")]
    """Images, and folders of images, of one face each. Others are left out."""
    checkpoint: Annotated[str | None, arg(metavar="RUN")] = None
    """The network, as for predict; required for a new gallery."""


@dataclass(frozen=True)
class ListArguments:
    """List the people in a gallery."""

    gallery: Annotated[Path, Positional, arg(metavar="GALLERY")]
    """Gallery file."""
    json: bool = False
    """Print JSON instead of a table."""


@dataclass(frozen=True)
class RemoveArguments:
    """Remove a person from a gallery."""

    gallery: Annotated[Path, Positional, arg(metavar="GALLERY")]
    """Gallery file."""
    name: Annotated[str, Positional, arg(metavar="NAME")]
    """Name of the person."""


@dataclass(frozen=True)
class CalibrateArguments(FaceArguments):
    """Find the threshold for a false-accept rate.

    By default, it is the threshold of a gallery, and FOLDER has one sub-folder per person. Use people that
    the network was not trained on: it separates those that it knows better than others. With --classes, it is
    the threshold of predict, and FOLDER contains strangers.
    """

    GROUPS: ClassVar[Groups] = {
        "everyday": "checkpoint folder far classes gallery label output whole_image largest_face",
        "expert": "exclude enrolled cache workers detector enlarge device runs",
    }

    checkpoint: Annotated[str, Positional, arg(metavar="CHECKPOINT")]
    """A run of train_classifier.py (folder, or name or number in --runs), or a checkpoint file."""
    folder: Annotated[Path, Positional, arg(metavar="FOLDER")]
    """One sub-folder per person or, with --classes, photos of strangers."""
    far: float = 0.01
    """False-accept rate: the share of strangers' faces that may be given a name."""
    classes: bool = False
    """Calibrate predict instead of identify: FOLDER contains strangers, in any sub-folders. Sub-folders named
    as classes may contain images of these, to measure how many keep their name."""
    enrolled: int = ENROLLED
    """Images to enroll of each person, the first by file name; the others are identified."""
    gallery: Path | None = None
    """Gallery to write the threshold to."""
    label: Annotated[str | None, arg(metavar="COLUMN|REGEX")] = None
    """Source of the names if there are no sub-folders; see train_classifier.py."""
    output: Path = CURVES
    """Folder for the curves, as CSV and PNG, and the scores as JSON."""
    cache: Path = Path("data/cache")
    """Folder of decoded images."""
    workers: int | None = None
    """Processes that decode images; 0 for the main process alone, by default one per core."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.far < 1:
            raise UserError(f"--far must be at least 0 and less than 1, not {self.far}")
        for_identify = {"gallery": None, "label": None, "enrolled": ENROLLED, "output": CURVES}
        given = [name for name, default in for_identify.items() if getattr(self, name) != default]
        if self.classes and given:
            raise UserError(f"--classes is for predict, and --{given[0]} is for identify: give one of them")
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
"""The commands of recognize.py."""
