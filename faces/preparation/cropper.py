"""The faces of one photo or video segment: detected, aligned, cropped and assessed."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from faces.align import Square, crop_aligned, iou, square_around_box, square_around_points
from faces.detection import Detection, load_detector
from faces.detection.cascades import CascadePose
from faces.detection.opencv import report_detection_errors
from faces.detection.support import count_support
from faces.landmarks.geometry import bounding_boxes
from faces.pose import Pose, pose_from_landmarks, pose_from_points
from faces.preparation.options import PrepareArguments
from faces.preparation.quality import NOT_A_FACE, RejectionReason, rejection_reason, sharpness
from faces.preparation.sources import Job
from faces.preparation.video import read_frames
from images.decode import UnusableImageError, decode_full
from images.near_duplicates import difference_hash

if TYPE_CHECKING:
    from faces.landmarks.predictor import Predictor

MIN_LANDMARK_IOU = 0.2
"""Landmarks are discarded if the intersection over union of their box and the detector's is smaller."""

MIN_DETECTED_SHARE = 0.5
"""Faces down to this share of the smallest accepted size are detected, so that they can be counted."""


@dataclass(frozen=True)
class Crop:
    """A cropped face.

    Attributes:
        frame: number of the video's frame; None for a photo.
        index: of the face in its photo or frame, the most confident first.
        detection: from the detector.
        landmarks: float32 [K, 2] in pixels of the photo or frame; None without a landmark network, or if its
            landmarks are elsewhere than the face.
        pose: of the face.
        square: the region of the crop.
        sharpness: see `faces.preparation.quality.sharpness`.
        support: see `faces.detection.support.count_support`; None for detections of a YuNet.
        perceptual_hash: see `images.near_duplicates.difference_hash`.
        rejection_reason: why to leave out the crop, apart from near-duplicates; None to keep it.
        image: uint8 [3, S, S].
        rotation: degrees clockwise by which the photo was rotated before the face was detected.
    """

    frame: int | None
    index: int
    detection: Detection
    landmarks: NDArray[np.float32] | None
    pose: Pose
    square: Square
    sharpness: float
    support: int | None
    perceptual_hash: int
    rejection_reason: RejectionReason | None
    image: NDArray[np.uint8]
    rotation: int = 0


@dataclass(frozen=True)
class CropResult:
    """The result of a job.

    Attributes:
        crops: ordered by frame.
        problem: why the photo or the rest of the video could not be processed, or None.
    """

    crops: list[Crop]
    problem: str | None = None


class Cropper:
    """Crops faces from images.

    Raises:
        UserError: the detector or the landmark network cannot be loaded.
    """

    def __init__(self, arguments: PrepareArguments) -> None:
        self._arguments = arguments
        self._detector = load_detector(arguments.detector, arguments.search_side, arguments.min_score)
        self._predictor: Predictor | None = None
        if arguments.landmarks is not None:
            # These import torch, which takes seconds.
            import torch

            from faces.landmarks.predictor import load_predictor

            if multiprocessing.parent_process() is not None:
                torch.set_num_threads(1)  # there is a process per core
            self._predictor = load_predictor(arguments.landmarks)
        self._cascade_pose = CascadePose() if arguments.detector is None else None

    def photo_crops(self, photo: NDArray[np.uint8]) -> list[Crop]:
        """Crop the faces in a photo; without any, those in the photo as rotated for the best score."""
        upright = list(self.crops(photo))
        if any(map(_is_face, upright)):
            return upright
        rotated = [
            list(self.crops(np.rot90(photo, -rotation // 90, (1, 2)), rotation=rotation))
            for rotation in (90, 180, 270)
        ]
        return max([upright, *rotated], key=_best_score)

    def crops(self, image: NDArray[np.uint8], frame: int | None = None, rotation: int = 0) -> Iterator[Crop]:
        """Crop the faces in an image, uint8 [3, H, W], the most confident first; see `Crop`."""
        arguments = self._arguments
        detections = self._detector(image, MIN_DETECTED_SHARE * arguments.min_crop_side / arguments.enlarge)
        all_landmarks = self._landmarks(image, detections)
        for index, (detection, landmarks) in enumerate(zip(detections, all_landmarks, strict=True)):
            pose = self._pose(image, detection, landmarks)
            angle = pose.roll if arguments.upright else 0.0
            if landmarks is not None:
                square = square_around_points(landmarks, angle, arguments.enlarge)
            else:
                upright = square_around_box(detection.box, arguments.enlarge)
                square = Square(upright.x, upright.y, upright.side, angle)
            crop = crop_aligned(image, square, arguments.size)
            _, height, width = image.shape
            sharp = sharpness(crop)
            support = None if arguments.detector else count_support(image, detection.box, pose.roll)
            yield Crop(
                frame=frame,
                index=index,
                detection=detection,
                landmarks=landmarks,
                pose=pose,
                square=square,
                sharpness=sharp,
                support=support,
                perceptual_hash=difference_hash(crop),
                rejection_reason=rejection_reason(
                    arguments, square, width, height, pose, sharp, support, rotated=bool(rotation)
                ),
                image=crop,
                rotation=rotation,
            )

    def _landmarks(
        self, image: NDArray[np.uint8], detections: Sequence[Detection]
    ) -> list[NDArray[np.float32] | None]:
        if self._predictor is None or not detections:
            return [None] * len(detections)
        boxes = [detection.box for detection in detections]
        landmarks = self._predictor.points(image, boxes)
        overlaps = iou(bounding_boxes(landmarks), boxes)
        return [
            face if overlap >= MIN_LANDMARK_IOU else None
            for face, overlap in zip(landmarks, overlaps, strict=True)
        ]

    def _pose(
        self, image: NDArray[np.uint8], detection: Detection, landmarks: NDArray[np.float32] | None
    ) -> Pose:
        if self._predictor is not None and landmarks is not None:
            return pose_from_landmarks(landmarks, self._predictor.point_set)
        if detection.keypoints is not None:
            eyes, nose, mouth = np.split(detection.keypoints, [2, 3])
            return pose_from_points(eyes, [*nose, mouth.mean(0)])
        return self._cascade_pose(image, detection.box) if self._cascade_pose else Pose(0.0, None)


def _is_face(crop: Crop) -> bool:
    return crop.rejection_reason != NOT_A_FACE


def _best_score(crops: Sequence[Crop]) -> float:
    return max((crop.detection.score for crop in crops if _is_face(crop)), default=0.0)


def process_job(arguments: PrepareArguments, job: Job) -> CropResult:
    """Process one job with the cropper of this process.

    Raises:
        UserError: see `Cropper`.
    """
    if job.problem is not None:
        return CropResult([], job.problem)
    cropper, path = load_cropper(arguments), arguments.photos / job.source
    crops: list[Crop] = []
    try:
        with report_detection_errors():
            if job.segment is None:
                return CropResult(cropper.photo_crops(decode_full(path)))
            for frame, image in read_frames(path, job.segment):
                crops += cropper.crops(image, frame)
    except UnusableImageError as unusable:
        return CropResult(crops, str(unusable))
    return CropResult(crops)


@cache
def load_cropper(arguments: PrepareArguments) -> Cropper:
    """The cropper of this process; see `Cropper`."""
    return Cropper(arguments)
