"""Face detection: OpenCV's frontal cascade, or a YuNet network in an ONNX file.

    detect = load_detector()                       # or load_detector(Path("yunet.onnx"))
    for detection in detect(image):                # uint8 [3, H, W], most confident first
        print(detection.box, detection.score)

Needs the extra `photos`, whose OpenCV is imported when a detector is loaded.
"""

from __future__ import annotations

from pathlib import Path

from faces.detection.cascades import CascadeDetector
from faces.detection.detection import Detection, Detector
from faces.detection.yunet import YuNet

__all__ = ["Detection", "Detector", "load_detector"]


def load_detector(
    path: Path | None = None, search_side: int = 1600, min_score: float | None = None
) -> Detector:
    """Load the cascade detector, or the YuNet in an ONNX file.

    Args:
        path: the ONNX file; None for the cascades.
        search_side: the cascades first reduce larger images to this longer side, in pixels.
        min_score: lowest score of a detection; None for the detector's default.

    Raises:
        UserError: the extra `photos` is not installed, or the file is missing or not a YuNet.
    """
    return CascadeDetector(search_side, min_score) if path is None else YuNet(path, min_score)
