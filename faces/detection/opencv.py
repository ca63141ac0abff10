"""OpenCV, which is imported only when faces are looked for, and the cascades that its wheels carry."""

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
def opencv() -> ModuleType:
    """The module cv2, set to one thread: the work is spread over processes.

    Raises:
        UserError: the extra `photos` is not installed.
    """
    # What cannot be read is told in the project's own words; ffmpeg's would stand between the progress.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
    try:
        import cv2
    except ImportError as missing:
        raise missing_extra("finding faces needs", "photos", missing) from missing
    cv2.setNumThreads(1)
    return cv2


@cache
def cascade(name: str) -> cv2.CascadeClassifier:
    """A cascade of boosted classifiers that comes with OpenCV, by its file's name without ending.

    Viola and Jones 2001, with the features of Lienhart and Maydt 2002.

    Raises:
        UserError: this OpenCV has no cascades, as all from 5.0 on.
    """
    cv2 = opencv()
    try:
        path = Path(cv2.data.haarcascades) / f"{name}.xml"
        classifier = cv2.CascadeClassifier(str(path))
    except AttributeError:
        classifier = None
    if classifier is None or classifier.empty():
        raise UserError(
            f"OpenCV {cv2.__version__} comes without the cascade {name}: install the extra 'photos', whose "
            "OpenCV is older than 5, or give --detector the ONNX file of a YuNet"
        )
    return classifier


@contextmanager
def searching() -> Iterator[None]:
    """In this block, in which faces are looked for, one odd image must not end a night's work.

    Raises:
        UnusableImageError: memory does not suffice for it, or OpenCV fails at it.
    """
    try:
        yield
    except MemoryError:
        raise UnusableImageError("not enough memory to look for faces in it") from None
    except Exception as error:
        cv2 = sys.modules.get("cv2")  # without the extra nothing of it can have failed
        if cv2 is None or not isinstance(error, cv2.error):
            raise
        raise UnusableImageError(f"OpenCV fails at it: {' '.join(str(error).split())}") from None


def can_open(path: Path) -> bool:
    """Whether OpenCV can be handed this name at all: one that is not UTF-8 would end the process."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True
