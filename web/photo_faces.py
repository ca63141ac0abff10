"""Faces of photos as latent vectors of a generator, for the explorer page."""

from __future__ import annotations

import io
import threading
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import UserError
from images.decode import UnusableImageError, decode_full
from web.text import data_address, encode_vector

if TYPE_CHECKING:
    from gan.generator import LoadedGenerator
    from lab.fitting import PhotoFitter

MAX_PIXELS = 50_000_000
"""Of a photo."""
LEARNING, FITTING = "learning to read faces, once for this generator", "fitting the face"


class PhotoFaces:
    """Fits the faces of photos, one photo at a time, and says how far it is."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fitter: PhotoFitter | None = None
        self._progress: dict[str, Any] | None = None

    def status(self) -> dict[str, Any]:
        """Whether photos can be fitted here, and what is being done: None, or its name and share."""
        return {"available": find_spec("cv2") is not None, "progress": self._progress}

    def fit(self, generator: LoadedGenerator, photo: bytes) -> dict[str, Any]:
        """Fit the most confident face of a photo.

        The first call for a generator without an encoder trains one, which takes minutes.

        Args:
            generator: of the page.
            photo: the bytes of an image file.

        Returns:
            `z`, base64url of float32 values; `image`, the aligned crop as a data: address; and `note`, a
            sentence on how good the fit is.

        Raises:
            UserError: the photo cannot be read or has no face, or the extra `photos` is not installed.
        """
        try:
            pixels = decode_full(io.BytesIO(photo), MAX_PIXELS)
        except UnusableImageError as unusable:
            raise UserError(f"the photo cannot be used: {unusable}") from None
        with self._lock:
            try:
                return self._fit(generator, pixels)
            except UnusableImageError as unusable:
                raise UserError(f"the photo cannot be used: {unusable}") from None
            finally:
                self._progress = None

    def _fit(self, generator: LoadedGenerator, pixels: NDArray[np.uint8]) -> dict[str, Any]:
        from lab.fitting import PhotoFitter

        if self._fitter is None:
            self._fitter = PhotoFitter(generator, progress=lambda share: self._report(LEARNING, share))
        found = self._fitter.finder(pixels)
        if not found:
            raise UserError("there is no face in this photo")
        (face,) = self._fitter.fit_faces(found[:1], progress=lambda share: self._report(FITTING, share))
        several = f" of {len(found)} faces, the clearest" if len(found) > 1 else ""
        note = (
            f"Fitted{several}: {face.psnr:.1f} dB. Above 25 dB it is nearly the photo; below 18 the "
            "generator has no such face, and this is the most similar one."
        )
        return {"z": encode_vector(face.z), "image": data_address(face.found.crop), "note": note}

    def _report(self, task: str, share: float) -> None:
        self._progress = {"task": task, "share": share}
