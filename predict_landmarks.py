"""Find the landmarks of faces in photos: points drawn on copies, and a CSV.

Each photo's copy goes into --output as PNG, and landmarks.csv there has a row for each face. The faces are
found by a detector (extra `photos`), unless --boxes tells where they are, or --whole-image that a photo is a
crop of one face, as prepare_faces.py makes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from engine.cli import parse
from engine.errors import UserError, run_script
from engine.settings import Device


@dataclass(frozen=True)
class PredictionArguments:
    """Which network, and which photos."""

    checkpoint: Annotated[str, Positional, arg(metavar="CHECKPOINT")]
    """A run of train_landmarks.py (folder, or name or number in --runs), or a checkpoint's file."""
    photos: Annotated[tuple[Path, ...], Positional, arg(metavar="PHOTO...")]
    """Photos, and folders of photos."""
    output: Path = Path("outputs/predictions")
    """Folder for the copies and the CSV."""
    runs: Path = Path("outputs/landmarks")
    """Folder of runs, in which the run is sought."""
    boxes: Path | None = None
    """CSV of the faces, `file, left, top, right, bottom` in pixels of the photo, a row for each; photos that
    are not in it have none, and a file in it that is not there is a mistake."""
    whole_image: bool = False
    """Each photo is a crop of one face."""
    detector: Path | None = None
    """ONNX file of a YuNet; without one OpenCV's frontal cascade finds the faces."""
    looks: int = 2
    """How often the network looks at a face, each time where it found the face before."""
    device: Device = "auto"
    """Where to compute; auto takes CUDA, then Apple's MPS, then the CPU."""

    def __post_init__(self) -> None:
        if self.looks < 1:
            raise UserError(f"--looks must be 1 or more, not {self.looks}")
        if (self.boxes is not None) + (self.detector is not None) + self.whole_image > 1:
            raise UserError("--boxes, --detector and --whole-image each tell where the faces are: give one")


def main() -> None:
    """Parse the command line, find the landmarks, say where they are."""
    choice = parse(PredictionArguments, description=__doc__)
    from faces.detection.load import load_detector
    from faces.landmarks.prediction import boxes_in, predict, searched, whole_image
    from faces.photos import list_photos

    photos = list_photos(choice.photos)
    if choice.whole_image:
        find = whole_image
    else:
        find = boxes_in(choice.boxes, photos) if choice.boxes else searched(load_detector(choice.detector))
    from engine.runs import find_run_or_checkpoint

    path = find_run_or_checkpoint(choice.checkpoint, choice.runs, "train_landmarks.py FOLDER")
    from faces.landmarks.predictor import load_predictor  # imports torch, which takes seconds

    predictor = load_predictor(path, device=choice.device)
    outcome = predict(predictor, photos, choice.output, find=find, looks=choice.looks)
    outside, some = outcome.outside
    print(
        f"{outcome.faces:,} faces in {outcome.photos:,} photos ({len(outcome.skipped):,} left out), "
        f"{predictor.point_set.count} points each, by {predictor.checkpoint} (step {predictor.step:,}); "
        f"{outside:,} points of {some:,} faces lie outside their photo"
    )
    for name, reason in outcome.skipped:
        print(f"left out: {name}: {reason}")
    print(choice.output)


if __name__ == "__main__":
    run_script(main)
