"""Predict the landmarks of faces in photos: a CSV, and copies with the points drawn on them.

The folder --output gets a PNG copy of each photo and landmarks.csv with a row for each face. A detector finds
the faces (extra `photos`), unless --boxes lists them, or --whole-image says that each photo is a crop of one
face, as prepare_faces.py writes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from tyro.conf import Positional, arg

from engine.cli import parse
from engine.errors import UserError, run_script
from engine.output import counted, one_line
from engine.settings import Device, Groups, Patterns


@dataclass(frozen=True)
class PredictionArguments:
    """The network, and the photos."""

    GROUPS: ClassVar[Groups] = {
        "everyday": "checkpoint photos output whole_image exclude",
        "detection": "boxes detector",
        "expert": "looks device runs",
    }

    checkpoint: Annotated[str, Positional, arg(metavar="CHECKPOINT")]
    """A run of train_landmarks.py (folder, or name or number in --runs), or a checkpoint file."""
    photos: Annotated[tuple[Path, ...], Positional, arg(metavar="PHOTO...")]
    """Photos, and folders of photos."""
    exclude: Patterns = ()
    """Patterns of photos and folders to leave out, as for train_landmarks.py, after the photos."""
    output: Path = Path("outputs/predictions")
    """Folder for the copies and the CSV."""
    runs: Path = Path("outputs/landmarks")
    """Folder of the runs that can be given by name or number."""
    boxes: Path | None = None
    """CSV of the faces, `file, left, top, right, bottom` in pixels of the photo, a row for each face. Photos
    without a row have no faces; a row with a missing file is an error."""
    whole_image: bool = False
    """Each photo is a crop of one face."""
    detector: Path | None = None
    """ONNX file of a YuNet face detector. By default OpenCV's frontal-face cascade finds the faces."""
    looks: int = 2
    """Number of passes of the network over a face, each around the landmarks that the previous one found."""
    device: Device = "auto"
    """Device to compute on; auto selects CUDA, else Apple's MPS, else the CPU."""

    def __post_init__(self) -> None:
        if self.looks < 1:
            raise UserError(f"--looks must be 1 or more, not {self.looks}")
        if (self.boxes is not None) + (self.detector is not None) + self.whole_image > 1:
            raise UserError("--boxes, --detector and --whole-image exclude each other: give one of them")


def main() -> None:
    """Parse the command line, predict the landmarks and print a summary."""
    arguments = parse(PredictionArguments, description=__doc__)
    from faces.detection import load_detector
    from faces.landmarks.prediction import detected_boxes, predict, read_boxes, whole_image_box
    from faces.photos import list_photos

    photos = list_photos(arguments.photos, arguments.exclude)
    if arguments.whole_image:
        find_boxes = whole_image_box
    elif arguments.boxes:
        find_boxes = read_boxes(arguments.boxes, photos)
    else:
        find_boxes = detected_boxes(load_detector(arguments.detector))
    from engine.runs import find_run_or_checkpoint

    path = find_run_or_checkpoint(arguments.checkpoint, arguments.runs, "train_landmarks.py FOLDER")
    from faces.landmarks.predictor import load_predictor  # imports torch, which takes seconds

    predictor = load_predictor(path, device=arguments.device)
    result = predict(predictor, photos, arguments.output, find_boxes=find_boxes, looks=arguments.looks)
    points_outside, faces_outside = result.outside
    print(
        f"{counted(result.faces, 'face')} in {counted(result.photos, 'photo')} "
        f"({len(result.skipped):,} left out), {predictor.point_set.count} points each, by "
        f"{predictor.checkpoint} (step {predictor.step:,}); "
        f"outside their photo: {counted(points_outside, 'point')} of {counted(faces_outside, 'face')}"
    )
    for line in photos.excluded.lines():
        print(one_line(line))
    for name, reason in result.skipped:
        print(one_line(f"left out: {name}: {reason}"))
    print(arguments.output)


if __name__ == "__main__":
    run_script(main)
