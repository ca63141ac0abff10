"""Draw one face, from back to front."""

from __future__ import annotations

import numpy as np

from engine.errors import UserError
from faces.drawn.attributes import Face
from faces.drawn.beard import paint_beard
from faces.drawn.canvas import Canvas, mix, translate
from faces.drawn.clothing import Hat, paint_body, paint_glasses
from faces.drawn.features import paint_brows, paint_ears, paint_eyes, paint_lines, paint_mouth, paint_nose
from faces.drawn.hair import Hair, natural_hair_colour
from faces.drawn.shape import Head
from faces.drawn.skin import Light, background, skin_colour

DRAWING_VERSION = 2
"""Increase when the same parameters give different images, so that no folder mixes the two."""


def draw_face(face: Face, size: int = 112) -> tuple[np.ndarray, np.ndarray]:
    """Draw `face` at `size` x `size` pixels.

    The same face always gives the same image (with the same versions of NumPy and Pillow).

    Returns:
        The image, RGB uint8 [size, size, 3], and the `LANDMARKS`, float64 [29, 2]: x and y as fractions of
        the side, (0, 0) the top left corner of the image, even where a hat, beard or hair covers them.

    Raises:
        UserError: the size is not from 32 to 1024.
    """
    check_size(size)
    head = Head(face.person, face.scene)
    light = Light(head)
    hair, hat = Hair(head, light), Hat(head, light)
    canvas = Canvas(size)
    canvas.paint(background(head))
    hair.paint_behind(canvas)
    paint_body(canvas, head, light)
    if hat.kind != "headscarf":
        paint_ears(canvas, head, light)
    outline = canvas.mask(head.outline())
    skin = light.face()
    occluders = [*hair.outline(), *hat.outline()]
    if occluders:
        cast = [translate(polygon, -0.024 * light.side, 0.022) for polygon in occluders]
        shadow = canvas.coverage(*cast, softness=0.022)
        skin = mix(skin, (skin_colour(head) * 0.38).astype(np.float32), 0.42 * shadow)
    canvas.paint(skin, outline)
    paint_lines(canvas, head)
    paint_nose(canvas, head, light)
    paint_beard(canvas, head, light)
    paint_mouth(canvas, head, light)
    paint_eyes(canvas, head, light)
    paint_brows(canvas, head, natural_hair_colour(head) * 0.75)
    hair.paint_front(canvas, outline)
    paint_glasses(canvas, head)
    hat.paint(canvas)
    return canvas.to_array(), head.landmarks()


def check_size(size: int) -> None:
    """Raise `UserError` unless this size can be drawn."""
    if not 32 <= size <= 1024:
        raise UserError(f"the size of drawn faces is {size} pixels; it must be from 32 to 1024")
