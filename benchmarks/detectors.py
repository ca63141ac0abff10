"""Detectors of faces against landmarks that people set: how many faces they find, and how fast.

A face is found where the square of a crop around its box overlaps that around its landmarks with an
intersection over union of 0.4; any other box is false. Of each person's frames all are in one half: the
constants of `faces.detection.cascades` were set on the first one; by default this takes the second.
Speed is in frames a second of one core's time, on one thread.

    python benchmarks/detectors.py FOLDER        # with images and landmarks.csv: file, x0, y0, ... x67, y67

dlib is compared where it is installed; it is none of the project's needs.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm
from tyro.conf import Positional, arg

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

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
ENLARGE, SAME = 1.2, 0.4
POINTS = 68
LEFT_EYE, RIGHT_EYE, MIDDLE = slice(36, 42), slice(42, 48), [8, 27, 28, 29, 30, 33, 51, 57]


@dataclass(frozen=True)
class Choice:
    """What is measured on what."""

    folder: Annotated[Path, Positional, arg(metavar="FOLDER")]
    """Images, and landmarks.csv in the order of the usual 68 points."""
    half: Literal["first", "second"] = "second"
    """Half of the people: that on which constants were set, or the other one."""
    every: int = 1
    """Take one frame in so many."""

    def __post_init__(self) -> None:
        if self.every < 1:
            raise UserError(f"--every must be 1 or more, not {self.every}")


def frames(choice: Choice) -> list[tuple[Path, NDArray[np.float64]]]:
    """Images of the chosen half of the people, and their landmarks [68, 2] in pixels.

    Raises:
        UserError: there are none, or not of these landmarks.
    """
    found = read_annotations(choice.folder, choice.folder / "landmarks.csv")
    if found.points.shape[1] != POINTS:
        raise UserError(f"{choice.folder} has {found.points.shape[1]} points a face, and {POINTS} are needed")
    wanted = {*sorted({*found.people})[choice.half == "second" :: 2]}
    rows = [row for row, person in enumerate(found.people) if person in wanted][:: choice.every]
    if not rows:
        raise UserError(f"{choice.folder} has nobody in the {choice.half} half of its people")
    return [(choice.folder / found.files[row], found.points[row]) for row in rows]


def _image(path: Path) -> NDArray[np.uint8]:
    try:
        return decode_full(path)
    except UnusableImageError as unusable:
        raise UserError(f"{path}: {unusable}") from None


def detectors() -> Iterator[tuple[str, Callable[[NDArray[np.uint8]], Boxes]]]:
    """Name of each, and what gives an image's boxes [N, 4]."""
    for agreeing in (2, 3, 4, 6):
        found = CascadeDetector(min_score=agreeing)
        yield (
            f"this project's, {agreeing} windows",
            lambda image, found=found: boxes([face.box for face in found(image)]),
        )
    for name in ("alt2", "alt", "default", "profileface"):
        file = f"haarcascade_{name if name.startswith('profile') else f'frontalface_{name}'}"

        def windows(image: NDArray[np.uint8], file: str = file) -> Boxes:
            found = load_cascade(file).detectMultiScale(
                to_grayscale(image), 1.1, cascades.MIN_WINDOWS - 1, 0, (24, 24)
            )
            return boxes([(x, y, x + width, y + height) for x, y, width, height in found])

        yield f"cascade {name}, 4 windows, its own box", windows
    try:
        import dlib
    except ImportError:
        return
    hog = dlib.get_frontal_face_detector()
    for doublings, least in ((0, 0.0), (1, 0.0), (1, -0.3), (2, 0.0)):

        def rectangles(image: NDArray[np.uint8], doublings: int = doublings, least: float = least) -> Boxes:
            found, _, _ = hog.run(to_grayscale(image), doublings, least)
            return boxes([(box.left(), box.top(), box.right(), box.bottom()) for box in found])

        yield f"dlib HOG, {doublings} doublings, score above {least:g}, its own box", rectangles


def boxes(rows: list[tuple[float, float, float, float]]) -> Boxes:
    """As an array, [N, 4] also where N is 0."""
    return np.array(rows, float).reshape(-1, 4)


def crop_of(box: Boxes) -> Boxes:
    """The square that is cut out around a box, as a box."""
    square = square_around_box(box, ENLARGE)
    half = square.side / 2
    return np.array([square.x - half, square.y - half, square.x + half, square.y + half])


def main() -> None:
    """Measure, and print two tables."""
    choice = parse(Choice, description=__doc__)
    chosen = [(_image(path), points) for path, points in tqdm(frames(choice), "reading")]
    truths = [crop_of(np.concatenate([points.min(0), points.max(0)])) for _, points in chosen]
    print(f"{len(chosen):,} frames of the {choice.half} half of the people\n")
    print("| detector | recall | false boxes a frame | median IoU | frames/s |")
    print("|---|---|---|---|---|")
    for name, detect in detectors():
        overlaps, false, started = [], 0, time.process_time()
        found = [detect(image) for image, _ in chosen]
        seconds = time.process_time() - started
        for each, truth in zip(found, truths, strict=True):
            overlap = np.array([float(iou(crop_of(box), truth)) for box in each])
            false += int((overlap < SAME).sum())
            overlaps.append(overlap.max(initial=0.0))
        hits = np.array(overlaps) >= SAME
        print(
            f"| {name} | {hits.mean():.3f} | {false / len(chosen):.3f} "
            f"| {np.median(np.array(overlaps)[hits]):.2f} | {len(chosen) / seconds:.0f} |",
            flush=True,
        )
    poses(chosen, truths)


def poses(chosen: list[tuple[NDArray[np.uint8], NDArray[np.float64]]], truths: list[Boxes]) -> None:
    """Print how far the poses by cascades are from those by landmarks."""
    detect, estimate = CascadeDetector(), CascadePose()
    rows, started = [], time.process_time()
    for (image, points), truth in zip(chosen, truths, strict=True):
        faces = [face.box for face in detect(image) if iou(crop_of(np.array(face.box)), truth) >= SAME]
        if faces:
            eyes = np.stack([points[LEFT_EYE].mean(0), points[RIGHT_EYE].mean(0)])
            true, seen = pose_from_points(eyes, points[MIDDLE]), estimate(image, faces[0])
            rows.append((true.roll, seen.roll, true.turn, seen.turn or 0.0))
    if not rows:
        return
    seconds = time.process_time() - started
    roll, seen, turn, seen_turn = np.array(rows).T
    print(f"\n{len(chosen) / seconds:.0f} frames/s with poses\n")
    print("| degrees of roll that are left | mean | median | 95% below |")
    print("|---|---|---|---|")
    for name, left in (("as it is", np.abs(roll)), ("turned upright", np.abs(roll - seen))):
        for part, among in (
            ("all", roll > -np.inf),
            ("under 3", np.abs(roll) < 3),
            ("over 10", np.abs(roll) > 10),
        ):
            some = left[among]
            told = " | ".join(
                f"{value:.1f}" for value in (some.mean(), np.median(some), np.percentile(some, 95))
            )
            print(f"| {name}, {part} | {told} |")
    worse = np.abs(roll - seen) > np.abs(roll) + 2
    print(f"\nmade worse by more than 2 degrees: {worse.mean():.1%}")
    print(f"turn: correlation {np.corrcoef(turn, seen_turn)[0, 1]:.2f}")
    for bound in (0.25, 0.35):
        far, told = np.abs(turn) > bound, np.abs(seen_turn) > bound
        print(
            f"  beyond {bound}: {far.mean():.1%} by landmarks, {told.mean():.1%} by cascades, "
            f"{(far & told).mean():.1%} by both"
        )


if __name__ == "__main__":
    run_script(main)
