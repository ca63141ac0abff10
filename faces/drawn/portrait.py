"""One face: its parts painted from the back to the front."""

from __future__ import annotations

import numpy as np

from engine.errors import UserError
from faces.drawn.attributes import Face
from faces.drawn.canvas import Canvas, mix, shifted
from faces.drawn.clothing import Hat, paint_body, paint_glasses
from faces.drawn.features import paint_brows, paint_ears, paint_eyes, paint_lines, paint_mouth, paint_nose
from faces.drawn.hair import Hair, natural_hair_colour, paint_beard
from faces.drawn.shape import Head
from faces.drawn.skin import Light, background, skin_colour

DRAWING = 2
"""Raised whenever the same parameters come to look otherwise, so that no folder mixes two drawings."""


def draw_face(face: Face, size: int = 112) -> tuple[np.ndarray, np.ndarray]:
    """Draw `face` at `size` x `size` pixels.

    Returns the picture, RGB uint8 [size, size, 3], and the places of `LANDMARKS`, float64 [29, 2]: x and y
    as fractions of the side, (0, 0) the top left corner of the picture and (1, 1) the bottom right. A
    landmark lies where its feature is, be it hidden by a hat, a beard or hair. The same face always gives the
    same picture (with the same versions of NumPy and Pillow).

    Raises:
        UserError: the size is not within 32 to 1024.
    """
    check_size(size)
    head = Head(face.person, face.moment)
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
    overhead = [*hair.outline(), *hat.outline()]
    if overhead:
        fallen = [shifted(polygon, -0.024 * light.side, 0.022) for polygon in overhead]
        shadow = canvas.coverage(*fallen, softness=0.022)
        skin = mix(skin, (skin_colour(head) * 0.38).astype(np.float32), 0.42 * shadow)
    canvas.paint(skin, outline)
    paint_lines(canvas, head)
    paint_nose(canvas, head, light)
    paint_beard(canvas, head, light)
    paint_mouth(canvas, head, light)
    paint_eyes(canvas, head, light)
    paint_brows(canvas, head, natural_hair_colour(head) * 0.75)
    hair.paint_before(canvas, outline)
    paint_glasses(canvas, head)
    hat.paint(canvas)
    return canvas.finish(), head.landmarks()


def check_size(size: int) -> None:
    """Raise `UserError` for a side that cannot be drawn."""
    if not 32 <= size <= 1024:
        raise UserError(f"the size of drawn faces is {size} pixels; it runs from 32 to 1024")
