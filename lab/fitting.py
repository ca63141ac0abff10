"""The faces of photos in a generator's latent space.

    fitter = PhotoFitter(generator)
    faces = fitter.fit(decode_full("me.jpg"))       # one for each face in the photo
    faces[0].z                                      # float32 [latent_size], to move and to generate

A photo is cropped as the generator's training images were (`lab.crops`) and inverted (`gan.inversion`).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from engine.errors import UserError
from gan.inversion.encoder import Encoder, Progress, train_encoder
from gan.inversion.encoder_file import load_encoder, save_encoder
from gan.inversion.inversion import BEST, FAST, Effort, Inverter
from gan.inversion.tuning import tune
from gan.latent.vectors import Latents
from lab.crops import FaceFinder, FoundFace

if TYPE_CHECKING:
    from gan.generator import LoadedGenerator

Fit = Literal["best", "fast"]
EFFORTS: dict[Fit, Effort] = {"best": BEST, "fast": FAST}


@dataclass(frozen=True)
class FittedFace:
    """A face of a photo and the generated face that is most like it.

    Attributes:
        found: the face as cropped from the photo.
        z: float32 [latent_size], in [-1, 1].
        image: generated from it, uint8 [3, S, S].
        psnr: peak signal-to-noise ratio of the two in the face, in dB; what is outside counts less.
    """

    found: FoundFace
    z: Latents
    image: NDArray[np.uint8]
    psnr: float


class PhotoFitter:
    """Fits the faces of photos with one generator.

    Args:
        generator: see `gan.generator.load_generator`.
        fit: `best`, or `fast`, which only improves the encoder's estimate a little.
        whole_image: take the centre square of each photo instead of the faces in it.
        encoder: start from the estimate of the generator's encoder. If there is none beside the generator
            yet, it is trained before the first face, which takes minutes. Without it, `best` starts from
            draws alone.
        progress: called with the share of the encoder's training that is done; see `Progress`.

    Attributes:
        finder: finds the faces.

    Raises:
        UserError: the extra `photos` is not installed, or `fast` is to do without the encoder.
    """

    def __init__(
        self,
        generator: LoadedGenerator,
        *,
        fit: Fit = "best",
        whole_image: bool = False,
        encoder: bool = True,
        progress: Progress = lambda _: None,
    ) -> None:
        if fit == "fast" and not encoder:
            raise UserError("a fast fit starts from the encoder's estimate: use it, or the best fit")
        self.finder = FaceFinder(generator, whole_image=whole_image)
        effort = EFFORTS[fit]
        self._effort = effort if encoder else replace(effort, draws=effort.draws + 1)
        self._generator, self._encoder, self._progress = generator, encoder, progress

    @cached_property
    def _inverter(self) -> Inverter:
        encoder = prepared_encoder(self._generator, self._progress) if self._encoder else None
        return Inverter(self._generator, encoder)

    def prepare(self) -> None:
        """Load or train the encoder, which otherwise happens when the first face is fitted."""
        _ = self._inverter

    def fit(self, photo: NDArray[np.uint8], *, progress: Progress = lambda _: None) -> list[FittedFace]:
        """Fit all faces of a photo, uint8 [3, H, W], upright; none if it has none.

        Args:
            photo: from `images.decode.decode_full`, or `engine.png.from_pillow` of an upright Pillow image.
            progress: see `Progress`; what it raises cancels the fit.

        Raises:
            UnusableImageError: the detector fails.
        """
        return self.fit_faces(self.finder(photo), progress=progress)

    def fit_faces(self, faces: list[FoundFace], *, progress: Progress = lambda _: None) -> list[FittedFace]:
        """Fit faces that `finder` found."""
        if not faces:
            return []
        found = self._inverter.invert(*self._stacked(faces), self._effort, progress=progress)
        return [
            FittedFace(face, z, image, psnr(face.crop, image, face.weights))
            for face, z, image in zip(faces, found.z, found.images, strict=True)
        ]

    def tune(self, faces: Sequence[FittedFace], *, progress: Progress = lambda _: None) -> LoadedGenerator:
        """A copy of the generator that makes these faces as they are in their photos.

        Their `image` stays that of the generator; the copy's own is `tuned.images(face.z)`.
        """
        crops, weights = self._stacked([face.found for face in faces])
        pivots = np.stack([face.z for face in faces])
        return tune(self._generator, self._inverter.distance_to(crops, weights), pivots, progress=progress)

    @staticmethod
    def _stacked(faces: Sequence[FoundFace]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        return np.stack([face.crop for face in faces]), np.stack([face.weights for face in faces])


def prepared_encoder(generator: LoadedGenerator, progress: Progress = lambda _: None) -> Encoder:
    """The encoder kept beside a generator; if there is none, one is trained and kept.

    Where the folder cannot be written to, it is not kept, and a warning is printed.

    Raises:
        UserError: the file is damaged.
    """
    if (encoder := load_encoder(generator)) is not None:
        return encoder
    encoder = train_encoder(generator.network, progress=progress)
    try:
        save_encoder(encoder, generator)
    except UserError as error:
        print(f"warning: {error}; the encoder is trained again next time", file=sys.stderr)
    return encoder


def psnr(first: NDArray[np.uint8], second: NDArray[np.uint8], weights: NDArray[np.float32]) -> float:
    """Peak signal-to-noise ratio of two images, uint8 [3, S, S], by weighted pixels [S, S], in dB."""
    squares = np.square(first.astype(float) - second).mean(0)
    error = float((squares * weights).sum() / weights.sum())
    return float(10 * np.log10(255**2 / max(error, 1e-3)))
