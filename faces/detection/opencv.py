"""OpenCV, imported on first use, and the cascades in its wheels."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from engine.errors import UserError, missing_extra
from images.decode import UnusableImageError

if TYPE_CHECKING:
    import cv2


@cache
def load_opencv() -> ModuleType:
    """Import cv2, limited to one thread: the parallelism is in the worker processes.

    Raises:
        UserError: the extra `photos` is not installed.
    """
    # This project reports unreadable files itself; OpenCV's and ffmpeg's logs would break the progress bar.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
    try:
        import cv2
    except ImportError as missing:
        raise missing_extra("finding faces needs", "photos", missing) from missing
    cv2.setNumThreads(1)
    return cv2


@cache
def load_cascade(name: str) -> cv2.CascadeClassifier:
    """Load a cascade shipped with OpenCV by its file name without suffix.

    Viola and Jones 2001, with the features of Lienhart and Maydt 2002.

    Raises:
        UserError: this OpenCV has no cascades (5.0 and later).
    """
    cv2 = load_opencv()
    try:
        classifier = cv2.CascadeClassifier(str(Path(cv2.data.haarcascades) / f"{name}.xml"))
    except AttributeError:
        classifier = None
    if classifier is None or classifier.empty():
        raise UserError(
            f"OpenCV {cv2.__version__} has no cascade {name}: install the extra 'photos' for an OpenCV older "
            "than 5, or pass the ONNX file of a YuNet with --detector"
        )
    return classifier


@contextmanager
def report_detection_errors() -> Iterator[None]:
    """Turn a failed detection into `UnusableImageError`, so that one odd image does not end the run.

    Raises:
        UnusableImageError: OpenCV fails or memory runs out in this block.
    """
    try:
        yield
    except MemoryError:
        raise UnusableImageError("not enough memory for face detection") from None
    except Exception as error:
        cv2 = sys.modules.get("cv2")  # if it was not imported, the error is not OpenCV's
        if cv2 is None or not isinstance(error, cv2.error):
            raise
        raise UnusableImageError(f"OpenCV fails: {' '.join(str(error).split())}") from None


def can_open(path: Path) -> bool:
    """Whether OpenCV accepts this path: one that is not UTF-8 would crash the process."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True
