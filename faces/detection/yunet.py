"""Face detection with a YuNet network in an ONNX file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.errors import UserError
from engine.files import is_file
from faces.align import iou
from faces.detection.detection import Detection
from faces.detection.opencv import can_open, load_opencv

MIN_SCORE = 0.7
"""Lowest score, in [0, 1]. Below it, false detections begin in the examples of OpenCV's model zoo."""

SEARCH_SIDES = (640, 160)
"""Longer sides in pixels at which an image is searched. The network detects faces of 10 to 300 pixels (its
authors' figures), so the two sizes together cover 1/64 of the image's side to all of it."""

DUPLICATE_IOU = 0.4
"""Detections with this intersection over union or more are of the same face."""


class YuNet:
    """Detects faces, with eyes, nose and mouth corners, by YuNet (Wu, Peng and Yu 2023) in OpenCV.

    Its boxes extend from hairline to chin, as in WIDER FACE, and are used unchanged.

    Args:
        path: the ONNX file: `face_detection_yunet_2023mar.onnx` of OpenCV's model zoo, or a newer one.
        min_score: lowest score of a detection; None for `MIN_SCORE`.

    Raises:
        UserError: the extra `photos` is not installed, the file is missing or not a YuNet, or the score is
            above 1.
    """

    def __init__(self, path: Path, min_score: float | None = None) -> None:
        cv2 = load_opencv()
        if not is_file(path):
            raise UserError(f"no file {path}; pass the ONNX file of a YuNet to --detector, or leave it out")
        if not can_open(path):
            raise UserError(f"OpenCV needs a UTF-8 name, which {path} does not have: rename the file")
        score = MIN_SCORE if min_score is None else min_score
        if score > 1:
            raise UserError(f"--min-score must be 1 or less for a YuNet, not {score:g}")
        try:
            self._network = cv2.FaceDetectorYN.create(str(path), "", (32, 32), score_threshold=score)
            self._detect(np.zeros((32, 32, 3), np.uint8))
        except cv2.error as error:
            raise UserError(f"{path} is not a YuNet that OpenCV {cv2.__version__} can read") from error

    def __call__(self, image: NDArray[np.uint8], min_width: float = 0.0) -> list[Detection]:
        """See `faces.detection.detection.Detector`."""
        cv2 = load_opencv()
        pixels = cv2.cvtColor(np.ascontiguousarray(np.moveaxis(image, 0, -1)), cv2.COLOR_RGB2BGR)
        candidates: list[Detection] = []
        for side in SEARCH_SIDES:
            scale = min(1.0, side / max(pixels.shape[:2]))
            size = [max(1, round(length * scale)) for length in pixels.shape[1::-1]]
            resized = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
            candidates += [_detection(row, pixels.shape[1] / size[0]) for row in self._detect(resized)]
        detections: list[Detection] = []
        for candidate in sorted(candidates, key=lambda detection: -detection.score):
            wide_enough = candidate.box[2] - candidate.box[0] >= min_width
            if wide_enough and all(iou(candidate.box, known.box) < DUPLICATE_IOU for known in detections):
                detections.append(candidate)
        return detections

    def _detect(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """A row for each face: left, top, width, height, x and y of five keypoints, score."""
        self._network.setInputSize(pixels.shape[1::-1])
        _, rows = self._network.detect(pixels)
        return np.empty((0, 15), np.float32) if rows is None else rows


def _detection(row: NDArray[np.float32], scale: float) -> Detection:
    left, top, width, height = (row[:4].astype(float) * scale).tolist()
    # YuNet begins with the person's right eye and right mouth corner, which are on the left of the image.
    keypoints = row[4:14].astype(float).reshape(5, 2) * scale
    return Detection((left, top, left + width, top + height), float(row[14]), keypoints)
