"""Compare face detectors with landmarks set by people: recall, false detections, speed.

    python -m experiments.detectors FOLDER       # with images and landmarks.csv: file, x0, y0, ... x67, y67

A face counts as detected if the crop around a detected box and the crop around the landmarks overlap with an
intersection over union of 0.4 or more; other boxes are false. All frames of a person are in one half of the
people. The constants of `faces.detection.cascades` were chosen on the first half; the default is the second.
Speed is in frames per second of CPU time on one thread. dlib is included if it is installed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm
from tyro.conf import Positional, arg

from engine.cli import parse
from engine.errors import UserError, run_script
from faces.align import iou, square_around_box
from faces.detection import cascades
from faces.detection.cascades import CascadeDetector, CascadePose, to_grayscale
from faces.detection.opencv import load_cascade
from faces.landmarks.annotations import read_annotations
from faces.pose import pose_from_points
from images.decode import UnusableImageError, decode_full

Boxes = NDArray[np.float64]
"""[N, 4]: left, top, right, bottom in pixels."""
CROP_SCALE, MIN_IOU = 1.2, 0.4
POINTS = 68
LEFT_EYE, RIGHT_EYE, MIDLINE = slice(36, 42), slice(42, 48), [8, 27, 28, 29, 30, 33, 51, 57]


@dataclass(frozen=True)
class DetectorArguments:
    """Which frames to measure on."""

    folder: Annotated[Path, Positional, arg(metavar="FOLDER")]
    """Images, and landmarks.csv in the order of the usual 68 points."""
    half: Literal["first", "second"] = "second"
    """Half of the people: the first, on which the constants were chosen, or the second."""
    every: int = 1
    """Take every n-th frame."""

    def __post_init__(self) -> None:
        if self.every < 1:
            raise UserError(f"--every must be 1 or more, not {self.every}")


def load_frames(arguments: DetectorArguments) -> list[tuple[Path, NDArray[np.float64]]]:
    """Images of the chosen half of the people, and their landmarks [68, 2] in pixels, all marked.

    Raises:
        UserError: the folder has no frames, or other landmarks.
    """
    folder = arguments.folder
    annotations = read_annotations(folder, folder / "landmarks.csv")
    count = annotations.points.shape[1]
    if count != POINTS:
        raise UserError(f"{folder} has {count} points per face, and {POINTS} are needed")
    people = {*sorted({*annotations.people})[arguments.half == "second" :: 2]}
    marked = ~np.isnan(annotations.points).any((1, 2))
    rows = [row for row, person in enumerate(annotations.people) if person in people and marked[row]]
    rows = rows[:: arguments.every]
    if not rows:
        raise UserError(f"{folder} has nobody in the {arguments.half} half of its people")
    return [(folder / annotations.files[row], annotations.points[row]) for row in rows]


def _decode(path: Path) -> NDArray[np.uint8]:
    try:
        return decode_full(path)
    except UnusableImageError as error:
        raise UserError(f"{path}: {error}") from None


def detectors() -> Iterator[tuple[str, Callable[[NDArray[np.uint8]], Boxes]]]:
    """Name of each detector, and a function from an image to its boxes."""
    for windows in (2, 3, 4, 6):
        detector = CascadeDetector(min_score=windows)
        yield (
            f"this project's, {windows} windows",
            lambda image, detector=detector: as_boxes([face.box for face in detector(image)]),
        )
    for name in ("alt2", "alt", "default", "profileface"):
        file = f"haarcascade_{name if name.startswith('profile') else f'frontalface_{name}'}"

        def detect_cascade(image: NDArray[np.uint8], file: str = file) -> Boxes:
            boxes = load_cascade(file).detectMultiScale(
                to_grayscale(image), 1.1, cascades.MIN_WINDOWS - 1, 0, (24, 24)
            )
            return as_boxes([(x, y, x + width, y + height) for x, y, width, height in boxes])

        yield f"cascade {name}, 4 windows, its own box", detect_cascade
    try:
        import dlib
    except ImportError:
        return
    hog = dlib.get_frontal_face_detector()
    for doublings, threshold in ((0, 0.0), (1, 0.0), (1, -0.3), (2, 0.0)):

        def detect_hog(
            image: NDArray[np.uint8], doublings: int = doublings, threshold: float = threshold
        ) -> Boxes:
            boxes, _, _ = hog.run(to_grayscale(image), doublings, threshold)
            return as_boxes([(box.left(), box.top(), box.right(), box.bottom()) for box in boxes])

        yield f"dlib HOG, {doublings} doublings, score above {threshold:g}, its own box", detect_hog


def as_boxes(rows: list[tuple[float, float, float, float]]) -> Boxes:
    """An array [N, 4], also for N = 0."""
    return np.array(rows, float).reshape(-1, 4)


def crop_of(box: Boxes) -> Boxes:
    """The square crop around a box [4], as a box [4]."""
    square = square_around_box(box, CROP_SCALE)
    half = square.side / 2
    return np.array([square.x - half, square.y - half, square.x + half, square.y + half])


def main() -> None:
    """Measure, and print two tables."""
    arguments = parse(DetectorArguments, description=__doc__)
    frames = [(_decode(path), points) for path, points in tqdm(load_frames(arguments), "reading")]
    targets = [crop_of(np.concatenate([points.min(0), points.max(0)])) for _, points in frames]
    print(f"{len(frames):,} frames of the {arguments.half} half of the people\n")
    print("| detector | recall | false boxes a frame | median IoU | frames/s |")
    print("|---|---|---|---|---|")
    for name, detect in detectors():
        overlaps, false, start = [], 0, time.process_time()
        detections = [detect(image) for image, _ in frames]
        seconds = time.process_time() - start
        for boxes, target in zip(detections, targets, strict=True):
            overlap = np.array([float(iou(crop_of(box), target)) for box in boxes])
            false += int((overlap < MIN_IOU).sum())
            overlaps.append(overlap.max(initial=0.0))
        hits = np.array(overlaps) >= MIN_IOU
        print(
            f"| {name} | {hits.mean():.3f} | {false / len(frames):.3f} "
            f"| {np.median(np.array(overlaps)[hits]):.2f} | {len(frames) / seconds:.0f} |",
            flush=True,
        )
    print_poses(frames, targets)


def print_poses(frames: list[tuple[NDArray[np.uint8], NDArray[np.float64]]], targets: list[Boxes]) -> None:
    """Print the differences between poses by cascades and poses by landmarks."""
    detect, estimate = CascadeDetector(), CascadePose()
    rows, start = [], time.process_time()
    for (image, points), target in zip(frames, targets, strict=True):
        boxes = [face.box for face in detect(image) if iou(crop_of(np.array(face.box)), target) >= MIN_IOU]
        if boxes:
            eyes = np.stack([points[LEFT_EYE].mean(0), points[RIGHT_EYE].mean(0)])
            true, estimated = pose_from_points(eyes, points[MIDLINE]), estimate(image, boxes[0])
            rows.append((true.roll, estimated.roll, true.turn, estimated.turn or 0.0))
    if not rows:
        return
    seconds = time.process_time() - start
    roll, estimated_roll, turn, estimated_turn = np.array(rows).T
    print(f"\n{len(frames) / seconds:.0f} frames/s with poses\n")
    print("| roll left over [degrees] | mean | median | 95% below |")
    print("|---|---|---|---|")
    for name, error in (("as it is", np.abs(roll)), ("turned upright", np.abs(roll - estimated_roll))):
        for part, mask in (
            ("all", roll > -np.inf),
            ("under 3", np.abs(roll) < 3),
            ("over 10", np.abs(roll) > 10),
        ):
            errors = error[mask]
            values = (errors.mean(), np.median(errors), np.percentile(errors, 95))
            print(f"| {name}, {part} | {' | '.join(f'{value:.1f}' for value in values)} |")
    worse = np.abs(roll - estimated_roll) > np.abs(roll) + 2
    print(f"\nmade worse by more than 2 degrees: {worse.mean():.1%}")
    print(f"turn: correlation {np.corrcoef(turn, estimated_turn)[0, 1]:.2f}")
    for bound in (0.25, 0.35):
        by_landmarks, by_cascades = np.abs(turn) > bound, np.abs(estimated_turn) > bound
        print(
            f"  beyond {bound}: {by_landmarks.mean():.1%} by landmarks, "
            f"{by_cascades.mean():.1%} by cascades, {(by_landmarks & by_cascades).mean():.1%} by both"
        )


if __name__ == "__main__":
    run_script(main)
