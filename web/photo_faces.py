"""Faces of photos as latent vectors of a generator, for the explorer page."""

from __future__ import annotations

import io
import threading
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from engine.errors import UserError
from images.decode import UnusableImageError, decode_full
from web.context import prepare_torch
from web.text import data_url, encode_vector
from web.uploads import MAX_PIXELS

if TYPE_CHECKING:
    from gan.generator import LoadedGenerator
    from lab.crops import FoundFace
    from lab.fitting import PhotoFitter

LEARNING, FITTING = "learning to fit photos, once for this generator", "fitting the face"


@dataclass(frozen=True)
class PhotoFace:
    """The most confident face of a photo, how many it has, and what fits it.

    It does not keep the photo in memory.
    """

    fitter: PhotoFitter
    face: FoundFace
    count: int


class PhotoFaces:
    """Finds and fits the faces of photos, one at a time, and says how far it is.

    Args:
        closing: cancels all fits when it is set.
    """

    def __init__(self, closing: threading.Event) -> None:
        self._closing = closing
        self._fitting = threading.Lock()
        self._generator: LoadedGenerator | None = None
        self._fitter: PhotoFitter | None = None
        self._progress: dict[str, Any] | None = None

    def status(self) -> dict[str, Any]:
        """Whether photos can be fitted here, and what is being done: None, or its name and share."""
        return {"available": find_spec("cv2") is not None, "progress": self._progress}

    def find(self, generator: LoadedGenerator, photo: bytes) -> PhotoFace:
        """Find the most confident face of a photo, from one thread at a time.

        It does not wait for faces that are being fitted.

        Args:
            generator: the page's.
            photo: the bytes of an image file.

        Raises:
            UserError: the photo cannot be read or has no face, or the extra `photos` is not installed.
        """
        from lab.fitting import PhotoFitter

        prepare_torch()
        try:
            pixels = decode_full(io.BytesIO(photo), MAX_PIXELS)
            if self._fitter is None or self._generator is not generator:
                self._fitter = PhotoFitter(generator, progress=lambda share: self._report(LEARNING, share))
                self._generator = generator
            fitter = self._fitter
            found = fitter.finder(pixels)
        except UnusableImageError as unusable:
            raise UserError(f"the photo cannot be used: {unusable}") from None
        if not found:
            raise UserError("there is no face in this photo")
        return PhotoFace(fitter, found[0], len(found))

    def fit(self, found: PhotoFace, unwanted: threading.Event) -> dict[str, Any]:
        """Fit a face.

        The first call for a generator without an encoder trains one, which takes minutes.

        Args:
            found: what `find` returned.
            unwanted: cancels this fit when it is set. An encoder still finishes its training, as it is kept.

        Returns:
            `z`, base64url of float32 values; `image`, the aligned crop as a data URL; and `note`, a sentence
            on how good the fit is.

        Raises:
            UserError: the fit was cancelled.
        """

        def report(share: float) -> None:
            if unwanted.is_set():
                raise UserError("nobody waits for this face any more")
            self._report(FITTING, share)

        prepare_torch()
        with self._fitting:
            try:
                report(0.0)
                (face,) = found.fitter.fit_faces([found.face], progress=report)
            finally:
                self._progress = None
        several = (
            f"The photo has {found.count} faces; this is the one detected most confidently. "
            if found.count > 1
            else ""
        )
        note = (
            f"{several}The fit has a PSNR of {face.psnr:.1f} dB. Above 25 dB it is nearly the photo; below "
            "18 dB the generator has no such face, and this is the most similar one."
        )
        return {"z": encode_vector(face.z), "image": data_url(face.found.crop), "note": note}

    def _report(self, task: str, share: float) -> None:
        if self._closing.is_set():
            raise UserError("the server is stopping")
        self._progress = {"task": task, "share": share}
