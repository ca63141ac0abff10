"""Photos of drawn faces: larger images with a face at the centre."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engine.png import from_pillow, to_pillow
from faces.drawn import LANDMARKS, draw_face, sample_face

EYES = (LANDMARKS.index("pupil_left"), LANDMARKS.index("pupil_right"))


def photo(
    number: int, side: int = 120, width: int = 220, height: int = 180, tilt: float = 0.0
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """A drawn face, `side` pixels wide and tilted clockwise by degrees, at the centre of a plain photo.

    Returns the photo, uint8 [3, height, width], and the face's landmarks in its pixels, [29, 2].
    """
    face, landmarks = draw_face(sample_face(0, number), side)
    # The drawing's background continues to the edge, without a tilted frame.
    canvas = Image.new("RGB", (width, height), tuple(int(level) for level in face[:8].mean((0, 1))))
    canvas.paste(Image.fromarray(face), ((width - side) // 2, (height - side) // 2))
    middle = np.array([width, height]) / 2
    corner = np.array([(width - side) // 2, (height - side) // 2])
    turn = np.radians(tilt)
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    points = (landmarks * side + corner - middle) @ rotation + middle
    fill = canvas.getpixel((0, 0))
    tilted = canvas.rotate(-tilt, Image.Resampling.BICUBIC, fillcolor=fill) if tilt else canvas
    return from_pillow(tilted), points


def save_photo(path: Path, number: int, **options) -> None:
    """Save a photo of a drawn face, creating its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    to_pillow(photo(number, **options)[0]).save(path, quality=95)
