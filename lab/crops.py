"""Faces of a photo, cropped as the faces that a generator was trained on.

A folder that prepare_faces.py made says how its faces were cropped (prepare.json), and photos are cropped by
the same rules. For any other folder the framing is measured: the detector finds the faces in the generator's
own images, and photos are cropped so that it finds them at the same place.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engine.errors import UserError
from engine.png import from_pillow, to_pillow
from faces.align import Box, Square, crop_aligned, square_around_box
from faces.detection.opencv import report_detection_errors
from faces.preparation.options import PrepareArguments
from faces.preparation.quality import NOT_A_FACE
from faces.preparation.state import STATE, read_state
from gan.latent.vectors import draw

if TYPE_CHECKING:
    from faces.detection import Detector
    from faces.preparation.cropper import Crop
    from gan.generator import LoadedGenerator

CROP_SIDE = 112
"""Minimum side of a crop before it is reduced to the generator's size, as crops of prepare_faces.py are."""
MEASURED, MIN_MEASURED = 48, 8
"""Generated images in which the framing is measured, and the fewest with a face for it to count."""
DETECTION_SIDE = 160
"""Side to which they are enlarged, because the detector finds no tiny faces."""
FACE_AXES, FACE_RISE = (0.60, 0.72), 0.10
"""Semi-axes of the ellipse that contains a face from chin to forehead, and how far its centre is above that
of the box from chin to brows, in sides of the box."""
OUTSIDE = 0.3
"""Weight of what is outside the face, hair and background, which matters less for the likeness."""
INVISIBLE = 0.02
"""Weight of what is outside the photo, where its edge is repeated."""
SOFTNESS = 0.08
"""Width of the ellipse's edge, in semi-axes."""


@dataclass(frozen=True)
class Framing:
    """Where the box of a face, from brows to chin, is in a square crop.

    Attributes:
        x: of the box's centre, in sides of the crop.
        y: of the box's centre.
        enlarge: side of the crop over the longer side of the box.
    """

    x: float = 0.5
    y: float = 0.5
    enlarge: float = 1.2

    def square(self, box: Box, angle: float) -> Square:
        """The square around a box in a photo, rotated by `angle` degrees."""
        around = square_around_box(box, self.enlarge)
        tilted = Square(around.x, around.y, around.side, angle)
        x, y = tilted.to_pixels((1 - self.x, 1 - self.y))
        return replace(tilted, x=float(x), y=float(y))


@dataclass(frozen=True)
class FoundFace:
    """A face to be fitted.

    Attributes:
        crop: uint8 [3, S, S], S the side of the generator's images.
        weights: how much each pixel counts, float32 [S, S], from 0 to 1.
        box: of the face, from brows to chin, in pixels of the photo; None for a whole image.
    """

    crop: NDArray[np.uint8]
    weights: NDArray[np.float32]
    box: Box | None


class FaceFinder:
    """Finds and crops the faces of photos for a generator.

    Args:
        generator: whose training images say how.
        whole_image: take the centre square of each image, as it is; for crops.

    Attributes:
        framing: how the crops lie; None for whole images, and where prepare.json has the rules.
        notes: one line each about what could not be done as in training.

    Raises:
        UserError: the extra `photos` is not installed, or the detector of prepare.json cannot be loaded.
    """

    def __init__(self, generator: LoadedGenerator, *, whole_image: bool = False) -> None:
        self.size = generator.image_size
        self.framing: Framing | None = None
        self.notes: list[str] = []
        self._cropper = None
        if whole_image:
            return
        from faces.detection import load_detector  # imports OpenCV
        from faces.preparation.cropper import Cropper

        rules = self._recorded_rules(generator)
        self._cropper = Cropper(rules or _any_face(self._crop_side()))
        if rules is None:
            measured = measure_framing(generator, load_detector())
            if measured is None:
                self.notes.append(
                    "the faces in the generator's images could not be found, so photos are cropped as by "
                    "prepare_faces.py; --whole-image takes crops of your own"
                )
            self.framing = measured or Framing()

    def __call__(self, photo: NDArray[np.uint8]) -> list[FoundFace]:
        """Find the faces in a photo, uint8 [3, H, W], upright, the most confident first.

        A photo without an upright face is also searched rotated, as in preparation.

        Raises:
            UnusableImageError: the detector fails.
        """
        if self._cropper is None:
            side = min(photo.shape[1:])
            top, left = (photo.shape[1] - side) // 2, (photo.shape[2] - side) // 2
            square = photo[:, top : top + side, left : left + side]
            return [FoundFace(_reduce(square, self.size), np.ones((self.size,) * 2, np.float32), None)]
        with report_detection_errors():
            crops = [crop for crop in self._cropper.photo_crops(photo) if crop.rejection_reason != NOT_A_FACE]
        return [self._face(photo, crop) for crop in crops]

    def _face(self, photo: NDArray[np.uint8], crop: Crop) -> FoundFace:
        turned = np.rot90(photo, -crop.rotation // 90, (1, 2))
        square, image = crop.square, crop.image
        if self.framing is not None:
            square = self.framing.square(crop.detection.box, crop.square.angle)
            image = crop_aligned(np.ascontiguousarray(turned), square, self._crop_side())
        weights = _weights(crop.detection.box, square, turned.shape[1:], self.size)
        box = _turned_back(crop.detection.box, crop.rotation, photo.shape[1:])
        return FoundFace(_reduce(image, self.size), weights, box)

    def _crop_side(self) -> int:
        return max(CROP_SIDE, self.size)

    def _recorded_rules(self, generator: LoadedGenerator) -> PrepareArguments | None:
        """The rules of the folder that the generator was trained on, if prepare_faces.py made it."""
        folder = generator.settings.folder
        if generator.is_file or folder is None:
            return None
        for place in (Path(folder), Path(folder).parent):
            recorded = read_state(place).get("rules")
            if isinstance(recorded, dict):
                try:
                    return _arguments(recorded)
                except (TypeError, UserError) as error:
                    raise UserError(f"{place / STATE} cannot be read: {error}") from None
        return None


def measure_framing(generator: LoadedGenerator, detect: Detector) -> Framing | None:
    """The median framing of the faces in a generator's own images, or None if too few are found."""
    images = generator.images(draw(MEASURED, generator.latent_size, generator.seed))
    found = []
    for image in images:
        enlarged = to_pillow(image).resize((DETECTION_SIDE,) * 2, Image.Resampling.BICUBIC)
        if detections := detect(from_pillow(enlarged)):
            left, top, right, bottom = np.array(detections[0].box) / DETECTION_SIDE
            found.append(((left + right) / 2, (top + bottom) / 2, 1 / max(right - left, bottom - top)))
    if len(found) < MIN_MEASURED:
        return None
    return Framing(*map(float, np.median(found, 0)))


def _any_face(size: int) -> PrepareArguments:
    """Rules that leave out no face, however small or turned."""
    return PrepareArguments(Path(), Path(), size=size, min_side=1)


def _arguments(recorded: dict[str, Any]) -> PrepareArguments:
    names = {field.name for field in fields(PrepareArguments)} - {"photos", "out", "min_side"}
    values = {name: value for name, value in recorded.items() if name in names}
    for name in ("landmarks", "detector"):
        if values.get(name) is not None:
            values[name] = Path(values[name])
    return PrepareArguments(Path(), Path(), min_side=1, **values)


def _reduce(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Resize a square as `images.decode.decode` does for training."""
    side = (size, size)
    return from_pillow(to_pillow(image).resize(side, Image.Resampling.LANCZOS, reducing_gap=3))


def _weights(box: Box, square: Square, shape: tuple[int, ...], size: int) -> NDArray[np.float32]:
    """Weights of a crop's pixels: 1 in the face, `OUTSIDE` around it, `INVISIBLE` beyond the photo."""
    middle = (np.arange(size) + 0.5) / size
    points = square.to_pixels(np.stack(np.meshgrid(middle, middle), axis=-1))
    left, top, right, bottom = box
    side = max(right - left, bottom - top)
    centre = square.to_fractions(((left + right) / 2, (top + bottom) / 2)) - (
        0,
        FACE_RISE * side / square.side,
    )
    offsets = (np.stack(np.meshgrid(middle, middle), axis=-1) - centre) * square.side / side / FACE_AXES
    inside = 1 / (1 + np.exp((np.linalg.norm(offsets, axis=-1) - 1) / SOFTNESS * 2))
    weights = OUTSIDE + (1 - OUTSIDE) * inside
    visible = (points >= 0).all(-1) & (points < shape[::-1]).all(-1)
    return np.where(visible, weights, INVISIBLE).astype(np.float32)


def _turned_back(box: Box, rotation: int, shape: tuple[int, ...]) -> Box:
    """A box in a photo [H, W] that was rotated clockwise by `rotation` degrees, as it is in the photo."""
    height, width = shape
    left, top, right, bottom = box
    if rotation == 90:
        return top, height - right, bottom, height - left
    if rotation == 180:
        return width - right, height - bottom, width - left, height - top
    if rotation == 270:
        return width - bottom, left, width - top, right
    return box
