"""The choice between the detectors of faces."""

from __future__ import annotations

from pathlib import Path

from faces.detection.cascades import CascadeDetector
from faces.detection.detection import Detector
from faces.detection.yunet import YuNet


def load_detector(
    path: Path | None = None, search_side: int = 1600, least_score: float | None = None
) -> Detector:
    """The cascade detector, or the YuNet in an ONNX file.

    Args:
        path: of the file; the cascades if None.
        search_side: the cascades search an image whose longer side has more pixels reduced to these.
        least_score: of a face; the detector's own bound if None.

    Raises:
        UserError: the extra `photos` is not installed, or the file is missing or no YuNet.
    """
    return CascadeDetector(search_side, least_score) if path is None else YuNet(path, least_score)
