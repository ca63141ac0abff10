"""Names for the faces in a photo, by the classifiers and galleries of recognize.py, on its code.

Most of it keeps a core busy, so it runs in `Context.compute`; `sources` and `find` only read files. torch is
imported where a network is used.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from starlette.exceptions import HTTPException

from engine.errors import UserError
from engine.files import is_file
from engine.png import to_pillow
from engine.runs import find_checkpoint, has_checkpoint
from faces.align import Box
from faces.detection.opencv import report_detection_errors
from faces.recognition.class_threshold import load_open_set, load_threshold, save_threshold
from faces.recognition.commands import add_to_gallery, check_name
from faces.recognition.face_crops import FaceCrops, PhotoCropper, central_face, detected_photo_cropper
from faces.recognition.gallery import (
    Gallery,
    check_network,
    empty_gallery,
    gallery_exists,
    load_gallery,
    update_gallery,
)
from faces.recognition.open_set import (
    gallery_shares,
    load_temperature,
    rough,
    sharpen,
    with_unknown,
)
from faces.recognition.options import ENLARGE
from images.decode import decode, decode_full
from web.context import Context, prepare_torch
from web.library import Library, read_config
from web.text import data_url
from web.uploads import MAX_PIXELS

if TYPE_CHECKING:
    from faces.recognition.recognizer import Recognizer

PREVIEW_SIDE, PREVIEW_QUALITY = 1600, 85
"""Longer side of the photo that the page shows, in pixels, and its JPEG quality."""
GALLERY = "gallery.npz"
"""The page's gallery of a classifier, in its run's folder."""
KEPT = 2
"""Networks that stay loaded."""
KEPT_PHOTOS = 32
"""Photos whose faces are kept in memory."""
DAMAGED = ", which is damaged"
"""End of the label of a gallery that cannot be read."""
CLASSES, PEOPLE, GIVEN = "classes", "people", "given"
"""Sources of names: a classifier's classes, its run's gallery, and the gallery of explore.py --gallery."""


@dataclass(frozen=True)
class Source:
    """Where names come from.

    Attributes:
        name: unique, such as people/classifiers/0001-people-96px.
        kind: `CLASSES` or `PEOPLE`.
        checkpoint: the classifier's file.
        gallery: file of the gallery, which may not exist yet; None for classes.
        label: for people.
    """

    name: str
    kind: str
    checkpoint: Path
    gallery: Path | None
    label: str


@dataclass(frozen=True)
class _Photo:
    """What is kept of a photo: its size, a JPEG of it as a data URL, and its faces."""

    width: int
    height: int
    preview: str
    boxes: list[Box]
    crops: NDArray[np.uint8]


class Recognition:
    """Names faces.

    Args:
        context: what the pages share.
        library: finds the classifiers' runs.
    """

    def __init__(self, context: Context, library: Library) -> None:
        self._context, self._library = context, library
        self._recognizers: dict[tuple[Path, int], Recognizer] = {}
        self._croppers: dict[int, PhotoCropper] = {}
        self._photos: dict[tuple[bytes, int, float | None], _Photo] = {}

    def sources(self) -> list[Source]:
        """All sources of names: the given gallery, last if it is damaged, and those of each classifier."""
        found: list[Source] = []
        for name, run in self._library.names().items():
            if read_config(run)["kind"] != "classifier" or not has_checkpoint(run):
                continue
            checkpoint, short = find_checkpoint(run, None), name.rpartition("/")[2]
            label = f"people enrolled with {short}"
            found.append(Source(f"{PEOPLE}/{name}", PEOPLE, checkpoint, run / GALLERY, label))
            found.append(Source(f"{CLASSES}/{name}", CLASSES, checkpoint, None, f"classes of {short}"))
        given = self._given(found[0].checkpoint if found else None)
        if given is None:
            return found
        # The page starts with the first, and says of a damaged one what is wrong once it is chosen.
        return [*found, given] if given.label.endswith(DAMAGED) else [given, *found]

    def _given(self, checkpoint: Path | None) -> Source | None:
        path = self._context.gallery
        if path is None:
            return None
        label = f"people in {path.name}"
        try:
            if gallery_exists(path):
                recorded = load_gallery(path).checkpoint
                checkpoint = recorded if is_file(recorded) else checkpoint
        except UserError:
            label += DAMAGED
        return None if checkpoint is None else Source(GIVEN, PEOPLE, checkpoint, path, label)

    def find(self, name: str) -> Source:
        """The source of this name. Raises `HTTPException` 404 if there is none."""
        for source in self.sources():
            if source.name == name:
                return source
        raise HTTPException(404, "these names are no longer there: reload the page")

    def describe(self, source: Source) -> dict[str, Any]:
        """What a page shows of a source: its names, the threshold, and the rates of all thresholds.

        That of a gallery needs no network, which takes seconds to load.

        Raises:
            UserError: a file is damaged.
        """
        if source.gallery is None:
            recognizer = self._recognizer(source.checkpoint)
            threshold, _ = load_threshold(recognizer)
            open_set = load_open_set(recognizer)
            people = dict.fromkeys(recognizer.classes, 0)
            scale = "probability"
        else:
            exists = gallery_exists(source.gallery)
            gallery = load_gallery(source.gallery) if exists else empty_gallery("", source.checkpoint)
            open_set, people, scale = gallery.open_set, gallery.people, "cosine"
            threshold = _threshold(gallery)
        rates = {"thresholds": [], "false_accept_rates": []} if open_set is None else open_set.to_json()
        return {
            "name": source.name,
            "kind": source.kind,
            "label": source.label,
            "names": list(people),
            "people": people,
            "scale": scale,
            "threshold": threshold,
            "calibrated": open_set is not None and open_set.slope is not None,
            "thresholds": rates["thresholds"],
            "false_accept_rates": rates["false_accept_rates"],
            "strangers": 0 if open_set is None else open_set.strangers,
            "file": str(source.gallery or source.checkpoint),
        }

    def faces(self, source: Source, photo: bytes, *, whole: bool) -> dict[str, Any]:
        """The faces of a photo, with a score and a probability for each name.

        Args:
            source: where the names come from.
            photo: an image file.
            whole: take the centre square as the face instead of detecting faces.

        Returns:
            JSON values: the size of the upright photo, a preview, the names and, of each face, its box, its
            crop, its scores and its probabilities, the last of which is that of an unknown person.

        Raises:
            UserError: see `describe`, or the detector cannot be loaded.
            UnusableImageError: the photo cannot be decoded.
        """
        recognizer = self._recognizer(source.checkpoint)
        found = self._find_faces(recognizer, photo, whole)
        names, scores, probabilities = self._score(source, recognizer, found.crops)
        faces = [
            {
                "box": [round(float(edge), 1) for edge in box],
                "crop": data_url(crop),
                "scores": [round(float(value), 6) for value in row],
                "probabilities": [round(float(value), 6) for value in shares],
            }
            for box, crop, row, shares in zip(found.boxes, found.crops, scores, probabilities, strict=True)
        ]
        return {
            "width": found.width,
            "height": found.height,
            "preview": found.preview,
            "names": names,
            "faces": faces,
        }

    def _find_faces(self, recognizer: Recognizer, photo: bytes, whole: bool) -> _Photo:
        """The faces of a photo, found again at once if it comes a second time, as after an enrollment."""
        key = hashlib.sha256(photo).digest(), recognizer.side, recognizer.settings.centre if whole else None
        found = self._photos.pop(key, None)
        if found is None:
            pixels = decode_full(io.BytesIO(photo), MAX_PIXELS)
            if whole:
                faces = _whole(recognizer, photo, pixels)
            else:
                with report_detection_errors():
                    faces = self._cropper(recognizer.side)(pixels)
            preview = to_pillow(pixels)
            preview.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
            url = data_url(preview, "JPEG", quality=PREVIEW_QUALITY)
            found = _Photo(pixels.shape[2], pixels.shape[1], url, faces.boxes, faces.crops)
        while len(self._photos) >= KEPT_PHOTOS:
            del self._photos[next(iter(self._photos))]
        self._photos[key] = found
        return found

    def _score(
        self, source: Source, recognizer: Recognizer, crops: NDArray[np.uint8]
    ) -> tuple[list[str], NDArray[np.float64], NDArray[np.float64]]:
        """C names, the scores [M, C] that recognize.py compares with the threshold, and probabilities."""
        if source.gallery is None:
            names = list(recognizer.classes)
            if not len(crops):
                return names, np.empty((0, len(names))), np.empty((0, len(names) + 1))
            scores = recognizer.probabilities(crops).astype(np.float64)
            open_set = load_open_set(recognizer) or rough("probability", load_threshold(recognizer)[0])
            run = source.checkpoint.parent.parent
            shares = sharpen(scores, load_temperature(run, recognizer.step))
        else:
            gallery = self._gallery(source, recognizer)
            names = list(gallery.people)
            if not names or not len(crops):
                return names, np.empty((len(crops), len(names))), _all_unknown(len(crops), len(names))
            scores = gallery.similarities(recognizer.embeddings(crops))
            open_set = gallery.open_set or rough("cosine", gallery.threshold)
            shares = gallery_shares(scores, open_set)
        return names, scores, with_unknown(open_set.known(scores.max(1)), shares)

    def enroll(self, source: Source, name: str, crop: bytes) -> dict[str, Any]:
        """Add a face to a gallery, which is created if it does not exist yet.

        Args:
            source: with a gallery.
            name: of the person.
            crop: the face as a PNG, as `faces` returned it.

        Returns:
            See `describe`.

        Raises:
            UserError: the name is invalid, the face is enrolled as somebody else, or the gallery cannot be
                written.
            UnusableImageError: the crop is not an image.
        """
        name, path = check_name(name), _gallery_path(source)
        recognizer = self._recognizer(source.checkpoint)
        face = decode_full(io.BytesIO(crop), MAX_PIXELS)
        if face.shape != (3, recognizer.side, recognizer.side):
            raise UserError("the face was cropped for another network: drop the photo again")
        (embedding,) = recognizer.embeddings(face[None])
        new = empty_gallery(recognizer.digest, recognizer.checkpoint)
        add_to_gallery(path, recognizer, name, {"this face": embedding}, new)
        return self.describe(source)

    def rename(self, source: Source, name: str, new: str) -> dict[str, Any]:
        """Give a person in a gallery another name; see `describe`. Raises `UserError` if it cannot be."""
        return self._change(source, lambda gallery: gallery.rename(name, check_name(new)))

    def remove(self, source: Source, name: str) -> dict[str, Any]:
        """Remove a person from a gallery; see `describe`. Raises `UserError` if there is none."""
        return self._change(source, lambda gallery: gallery.remove(name))

    def set_threshold(self, source: Source, threshold: float) -> dict[str, Any]:
        """Keep a threshold, which recognize.py then uses too; see `describe`.

        Raises:
            UserError: it is out of range, or cannot be written.
        """
        if source.gallery is not None:
            return self._change(source, lambda gallery: gallery.with_threshold(threshold))
        if not 0 <= threshold <= 1:
            raise UserError(f"the threshold must be a probability, from 0 to 1, not {threshold:g}")
        recognizer = self._recognizer(source.checkpoint)
        save_threshold(recognizer, threshold, load_open_set(recognizer))
        return self.describe(source)

    def _change(self, source: Source, change: Callable[[Gallery], Gallery]) -> dict[str, Any]:
        if not gallery_exists(_gallery_path(source)):
            raise UserError("nobody is enrolled yet: click a face to give it a name first")
        update_gallery(_gallery_path(source), change)
        return self.describe(source)

    def _gallery(self, source: Source, recognizer: Recognizer) -> Gallery:
        path = _gallery_path(source)
        if not gallery_exists(path):
            return empty_gallery(recognizer.digest, recognizer.checkpoint)
        gallery = load_gallery(path)
        check_network(gallery, path, recognizer.digest)
        return gallery

    def _recognizer(self, checkpoint: Path) -> Recognizer:
        try:
            key = checkpoint, checkpoint.stat().st_mtime_ns  # training replaces the best checkpoint
        except OSError as error:
            raise UserError(f"{checkpoint} cannot be read: {error.strerror}") from None
        if key not in self._recognizers:
            from faces.recognition.recognizer import load_recognizer  # imports torch, which takes seconds

            prepare_torch()
            while len(self._recognizers) >= KEPT:
                del self._recognizers[next(iter(self._recognizers))]
            self._recognizers[key] = load_recognizer(checkpoint, device=self._context.device)
        return self._recognizers[key]

    def _cropper(self, side: int) -> PhotoCropper:
        if side not in self._croppers:
            self._croppers[side] = detected_photo_cropper(side, self._context.detector, ENLARGE)
        return self._croppers[side]


def _gallery_path(source: Source) -> Path:
    if source.gallery is None:
        raise UserError("a classifier's classes cannot be changed: choose a gallery of people")
    return source.gallery


def _threshold(gallery: Gallery) -> float:
    """The gallery's threshold; a guess before calibration."""
    if gallery.threshold is not None:
        return gallery.threshold
    guess = rough("cosine")
    assert guess.slope is not None
    return -guess.offset / guess.slope


def _whole(recognizer: Recognizer, photo: bytes, pixels: NDArray[np.uint8]) -> FaceCrops:
    """The centre square as the face, as recognize.py --whole-image takes it."""
    square = decode(io.BytesIO(photo), round(recognizer.side / recognizer.settings.centre))
    return central_face(pixels, square, recognizer.side)


def _all_unknown(faces: int, names: int) -> NDArray[np.float64]:
    return np.tile([*[0.0] * names, 1.0], (faces, 1))
