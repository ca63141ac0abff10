"""Photos edited along named directions: for each, a picture of its faces as they are, fitted, and edited.

The latent vectors are saved beside each picture (.npy): first those of all fitted faces, then those of the
edited ones.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engine.files import shorten_stem
from engine.png import save_png
from engine.progress import ProgressBar
from engine.runs import report_write_errors
from gan.latent.directions import Directions
from gan.latent.render import save_latents_beside
from gan.latent.vectors import Latents, save_latents
from images.decode import UnusableImageError, decode_full
from images.tiles import number_tiles, scale_image, tile
from lab.fitting import FittedFace, PhotoFitter, psnr

if TYPE_CHECKING:
    from gan.generator import LoadedGenerator
    from lab.crops import FoundFace

FOLDER = "edits"
"""Folder of the pictures, in the run's folder."""
NO_FACE = "no face found; --whole-image takes the centre square of a crop"
MAX_FACES = 32
"""Faces of one picture; of a larger crowd the most confident are taken."""
GROUP = 8
"""Faces that are fitted together, which is faster than one by one."""

Correct = Callable[[Latents, Latents], Latents]
"""Corrects edited vectors, given the fitted ones."""


@dataclass(frozen=True)
class Photo:
    """A photo and its fitted faces.

    Attributes:
        path: of the photo.
        digest: 8 hex digits of its pixels.
        faces: the faces, the most confident first.
        found: number of faces in the photo, of which those beyond `MAX_FACES` were not fitted.
    """

    path: Path
    digest: str
    faces: list[FittedFace]
    found: int


def fit_photos(fitter: PhotoFitter, paths: Sequence[Path], problems: list[str]) -> Iterator[Photo]:
    """Fit the faces of photos, `GROUP` faces or more at a time.

    Args:
        fitter: finds and fits the faces.
        paths: of the photos.
        problems: a line is appended for each photo that cannot be read or has no face.
    """
    waiting: list[tuple[Path, str, list[FoundFace], int]] = []
    with ProgressBar(total=len(paths), desc="fitting faces", unit=" photos") as shown:
        for number, path in enumerate(paths):
            try:
                image = decode_full(path)
                if found := fitter.finder(image):
                    digest = hashlib.sha256(image.tobytes()).hexdigest()[:8]
                    waiting.append((path, digest, found[:MAX_FACES], len(found)))
                else:
                    problems.append(f"{path}: {NO_FACE}")
                    shown.update()
            except UnusableImageError as unusable:
                problems.append(f"{path}: {unusable}")
                shown.update()
            if sum(len(faces) for _, _, faces, _ in waiting) >= GROUP or number == len(paths) - 1:
                if waiting:
                    with shown.paused():
                        fitter.prepare()
                fitted = fitter.fit_faces([face for _, _, faces, _ in waiting for face in faces])
                for path_fitted, digest, faces, count in waiting:
                    yield Photo(path_fitted, digest, fitted[: len(faces)], count)
                    fitted = fitted[len(faces) :]
                    shown.update()
                waiting = []


def edit_photo(
    generator: LoadedGenerator,
    photo: Photo,
    directions: Directions,
    strengths: Mapping[str, float],
    *,
    correct: Correct | None = None,
    variant: Sequence[str] = (),
    scale: float = 1.0,
    file: Path | None = None,
) -> str:
    """Write the picture of a photo.

    Args:
        generator: makes the images; it may be tuned to the photo.
        photo: from `fit_photos`.
        directions: contain the names of `strengths`.
        strengths: of the edit; without any, the picture shows the fitted faces alone.
        correct: see `Correct`; None for none.
        variant: words about how the faces were fitted and corrected. They are in the name of the picture,
            so that another fit of the photo does not replace this one.
        scale: factor on the sides of the images.
        file: the picture to write; by default one in the run's folder.

    Returns:
        A line about the photo and its picture.

    Raises:
        UserError: a direction does not exist, the picture cannot be written, or the vectors of `file` would
            replace others.
    """
    fitted = np.stack([face.z for face in photo.faces])
    edited = directions.move(fitted, strengths) if strengths else fitted[:0]
    if correct is not None and len(edited):
        edited = correct(fitted, edited)
    words = [f"{name}={strength:g}" for name, strength in strengths.items()]
    path = file or _path(generator, photo, words, variant)
    z = np.concatenate([fitted, edited])
    text = {
        "run": generator.run.resolve().name,
        "step": generator.step,
        "weights": generator.weights,
        "shift": " ".join(words),
    }
    images = generator.images(z)
    with report_write_errors(path):
        # First, so that no picture lacks its vectors.
        if file is None:
            save_latents(path.with_suffix(".npy"), z)
        else:
            save_latents_beside(path, z)
        save_png(path, _picture(photo, images, scale), text)
    return f"{photo.path}: {_summary(photo, images)}: {path}"


def _summary(photo: Photo, images: NDArray[np.uint8]) -> str:
    """How many faces there are, and how near the first of the images come to them."""
    count = "a face" if len(photo.faces) == 1 else f"{len(photo.faces)} faces"
    if photo.found > len(photo.faces):
        count = f"the {len(photo.faces)} most confident of {photo.found} faces"
    shown = zip(photo.faces[:3], images, strict=False)
    quality = " and ".join(f"{psnr(face.found.crop, image, face.found.weights):.1f}" for face, image in shown)
    return f"{count}, fitted to {quality}{', ...' if len(photo.faces) > 3 else ''} dB"


def _picture(photo: Photo, images: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    """A row for each face: in the photo, as fitted, and as edited if it was; uint8 [3, H, W]."""
    count = len(photo.faces)
    crops = np.stack([face.found.crop for face in photo.faces])
    columns = [crops, images[:count], images[count:]][: 2 + (len(images) > count)]
    names = ["photo", "fitted", "edited"][: len(columns)]
    faces = [scale_image(column[row], scale) for row in range(count) for column in columns]
    return tile(number_tiles(np.stack(faces), names * count), len(columns))


def _path(generator: LoadedGenerator, photo: Photo, words: Sequence[str], variant: Sequence[str]) -> Path:
    """A picture in the run's folder, named after the photo, the edit, and the variant of the fit."""
    stem = re.sub(r"[^\w.+-]", "_", shorten_stem(photo.path.stem))
    edit = "-".join(words).replace("=", "_") or "fitted"
    if len(edit) > 80:
        edit = hashlib.sha256(edit.encode()).hexdigest()[:12]
    name = "-".join([generator.stamp, stem, photo.digest, edit, *variant])
    return generator.run / FOLDER / f"{shorten_stem(name)}.png"
