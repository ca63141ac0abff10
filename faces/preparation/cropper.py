"""The faces of one photo, or of one stretch of a video: found, turned upright, cut out and judged."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from faces.align import Square, cut, iou, square_around, square_around_points
from faces.detection.cascades import CascadePose
from faces.detection.detection import Found
from faces.detection.load import load_detector
from faces.detection.opencv import searching
from faces.landmarks.crops import boxes_of
from faces.pose import Pose, Predictor, pose_of_landmarks, pose_of_points
from faces.preparation.options import PrepareChoice
from faces.preparation.quality import Verdict, difference_hash, sharpness, verdict
from faces.preparation.sources import Job
from faces.preparation.video import read_frames
from images.decode import UnusableImageError, decode_full

BELIEVED = 0.2
"""Landmarks whose box has a smaller intersection over union with the detector's are not believed."""

COUNTED = 0.5
"""Faces down to this share of the smallest wanted are looked for, so that they can be counted."""


@dataclass(frozen=True)
class Crop:
    """A face that was cut out.

    Attributes:
        frame: number of the video's frame; None for a photo.
        index: of the face in its photo or frame, the surest first.
        found: what the detector said.
        landmarks: float32 [K, 2], in pixels of the photo or frame; None without a network of landmarks, or
            where its answer lies elsewhere than the face.
        pose: how the face is turned.
        square: what was cut out.
        sharpness: see `faces.preparation.quality.sharpness`.
        fingerprint: the perceptual hash.
        verdict: `kept`, or why not, as far as the crop by itself tells.
        image: uint8 [3, S, S].
    """

    frame: int | None
    index: int
    found: Found
    landmarks: NDArray[np.float32] | None
    pose: Pose
    square: Square
    sharpness: float
    fingerprint: int
    verdict: Verdict
    image: NDArray[np.uint8]


@dataclass(frozen=True)
class Outcome:
    """What a job gave.

    Attributes:
        crops: in the order of their frames.
        problem: why the photo or the rest of the video could not be read, or searched for faces; None where
            nothing was wrong.
    """

    crops: list[Crop]
    problem: str | None = None


class Cropper:
    """Cuts faces out of images.

    Args:
        choice: of the user.

    Raises:
        UserError: the detector or the network of landmarks cannot be loaded.
    """

    def __init__(self, choice: PrepareChoice) -> None:
        self._choice = choice
        self._detector = load_detector(choice.detector, choice.search_side, choice.least_score)
        self._predictor: Predictor | None = None
        if choice.landmarks is not None:
            # These import torch, which takes seconds.
            import torch

            from faces.landmarks.predictor import load_predictor

            if multiprocessing.parent_process() is not None:
                torch.set_num_threads(1)  # every core has a process of its own
            self._predictor = load_predictor(choice.landmarks)
        self._pose = CascadePose() if choice.detector is None else None

    def crops(self, image: NDArray[np.uint8], frame: int | None = None) -> Iterator[Crop]:
        """The faces in an image, uint8 [3, H, W], the surest first."""
        choice = self._choice
        faces = self._detector(image, COUNTED * choice.smallest_crop / choice.enlarge)
        landmarks = self._landmarks(image, faces)
        for index, (found, points) in enumerate(zip(faces, landmarks, strict=True)):
            pose = self._pose_of(image, found, points)
            angle = pose.roll if choice.upright else 0.0
            if points is not None:
                square = square_around_points(points, angle, choice.enlarge)
            else:
                upright = square_around(found.box, choice.enlarge)
                square = Square(upright.x, upright.y, upright.side, angle)
            crop = cut(image, square, choice.size)
            sharp = sharpness(crop)
            _, height, width = image.shape
            decided = verdict(choice, square, width, height, pose, sharp)
            fingerprint = difference_hash(crop)
            yield Crop(frame, index, found, points, pose, square, sharp, fingerprint, decided, crop)

    def _landmarks(
        self, image: NDArray[np.uint8], faces: Sequence[Found]
    ) -> list[NDArray[np.float32] | None]:
        if self._predictor is None or not faces:
            return [None] * len(faces)
        seen = self._predictor.points(image, [face.box for face in faces])
        overlaps = iou(boxes_of(seen), [face.box for face in faces])
        return [
            points if overlap >= BELIEVED else None for points, overlap in zip(seen, overlaps, strict=True)
        ]

    def _pose_of(self, image: NDArray[np.uint8], found: Found, landmarks: NDArray[np.float32] | None) -> Pose:
        if self._predictor is not None and landmarks is not None:
            return pose_of_landmarks(landmarks, self._predictor.point_set)
        if found.points is not None:
            eyes, nose, mouth = np.split(found.points, [2, 3])
            return pose_of_points(eyes, [*nose, mouth.mean(0)])
        return self._pose(image, found.box) if self._pose is not None else Pose(0.0, None)


def work(choice: PrepareChoice, job: Job) -> Outcome:
    """Do one job; what is loaded for it stays with this process.

    Raises:
        UserError: see `Cropper`.
    """
    if job.problem is not None:
        return Outcome([], job.problem)
    cropper, path = load_cutter(choice), choice.photos / job.source
    crops: list[Crop] = []
    try:
        with searching():
            if job.stretch is None:
                return Outcome(list(cropper.crops(decode_full(path))))
            for frame, image in read_frames(path, job.stretch):
                crops += cropper.crops(image, frame)
    except UnusableImageError as unusable:
        return Outcome(crops, str(unusable))
    return Outcome(crops)


@cache
def load_cutter(choice: PrepareChoice) -> Cropper:
    """The cropper of this process; see `Cropper`."""
    return Cropper(choice)
