"""Faces by a YuNet network in an ONNX file of the user's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.errors import UserError
from engine.files import is_file
from faces.align import iou
from faces.detection.detection import Found
from faces.detection.opencv import can_open, opencv

LEAST_SCORE = 0.7
"""Below it the examples of OpenCV's model zoo begin to find what is no face; scores go up to 1."""

SIDES = (640, 160)
"""Longer sides in pixels of the two sizes at which an image is searched. The network knows faces of 10 to 300
pixels (its authors' figures): together those from 1/64 of the image's side to all of it."""

SAME = 0.4
"""Boxes of the two sizes with this intersection over union are of one face."""


class YuNet:
    """Faces with eyes, nose and mouth corners by YuNet (Wu, Peng and Yu 2023), run by OpenCV.

    Its boxes reach from the hairline to the chin, as in WIDER FACE; they are taken as they are.

    Args:
        path: the ONNX file: `face_detection_yunet_2023mar.onnx` of OpenCV's model zoo, or a newer one.
        least_score: see `faces.detection.load.load_detector`.

    Raises:
        UserError: the extra `photos` is not installed, the file is missing or no YuNet, or the score is
            above 1.
    """

    def __init__(self, path: Path, least_score: float | None = None) -> None:
        cv2 = opencv()
        if not is_file(path):
            raise UserError(f"no file {path}; --detector takes the ONNX file of a YuNet, or leave it out")
        if not can_open(path):
            raise UserError(f"the name of {path} is not UTF-8, as OpenCV needs it: rename the file")
        score = LEAST_SCORE if least_score is None else least_score
        if score > 1:
            raise UserError(f"--least-score must be 1 or less for a YuNet, not {score:g}: it gives no more")
        try:
            self._network = cv2.FaceDetectorYN.create(str(path), "", (32, 32), score_threshold=score)
            self._search(np.zeros((32, 32, 3), np.uint8))
        except cv2.error as error:
            raise UserError(f"{path} is no YuNet that this OpenCV ({cv2.__version__}) reads") from error

    def __call__(self, image: NDArray[np.uint8], smallest: float = 0.0) -> list[Found]:
        """See `faces.detection.detection.Detector`."""
        cv2 = opencv()
        pixels = cv2.cvtColor(np.ascontiguousarray(np.moveaxis(image, 0, -1)), cv2.COLOR_RGB2BGR)
        found: list[Found] = []
        for side in SIDES:
            scale = min(1.0, side / max(pixels.shape[:2]))
            size = [max(1, round(length * scale)) for length in pixels.shape[1::-1]]
            searched = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
            found += [_face(row, pixels.shape[1] / size[0]) for row in self._search(searched)]
        kept: list[Found] = []
        for face in sorted(found, key=lambda face: -face.score):
            wide_enough = face.box[2] - face.box[0] >= smallest
            if wide_enough and all(iou(face.box, other.box) < SAME for other in kept):
                kept.append(face)
        return kept

    def _search(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """A row for each face: left, top, width, height, five points as x and y, score."""
        self._network.setInputSize(pixels.shape[1::-1])
        _, rows = self._network.detect(pixels)
        return np.empty((0, 15), np.float32) if rows is None else rows


def _face(row: NDArray[np.float32], scale: float) -> Found:
    left, top, width, height = (row[:4].astype(float) * scale).tolist()
    # The person's right eye and right corner of the mouth come first: the left ones of the picture.
    points = row[4:14].astype(float).reshape(5, 2) * scale
    return Found((left, top, left + width, top + height), float(row[14]), points)
