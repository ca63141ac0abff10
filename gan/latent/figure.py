"""The picture of a sum of faces, in the layout of figure 7 of Radford et al. 2015."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from engine.png import from_pillow, to_pillow
from gan.latent.arithmetic import Shift, Term
from images.fonts import Label, find_labels
from images.tiles import BACKGROUND, number_tiles, tile

EXEMPLAR_ROWS = 3

Images = NDArray[np.uint8]


def arithmetic_figure(
    terms: Sequence[Term | Shift], exemplars: Sequence[Images], means: Images, neighbours: Images
) -> Images:
    """Draw the exemplars of each term above the image of their mean, joined by operators, then the result.

    Directions are written by name.

    Args:
        terms: of the sum; T of them, at least 1, are of faces.
        exemplars: the images of the tiles of each of these, uint8 [K, 3, S, S]; they are numbered.
        means: the images of their mean vectors, uint8 [T, 3, S, S].
        neighbours: the result in the centre of its neighbours, uint8 [9, 3, S, S], shown 3 x 3.

    Returns:
        uint8 [3, H, W], with the means and the lower edge of the result aligned.
    """
    side = means.shape[-1]
    blocks: list[Image.Image] = []
    faces = zip(exemplars, means, strict=True)
    for index, term in enumerate(terms):
        operator = _operator(term.weight, first=index == 0)
        if isinstance(term, Shift):
            label = find_labels([term.name]).get(term.name, Label(term.name))
            blocks.append(_text_block(f"{operator} {label.text}".strip(), side, label))
            continue
        if operator:
            blocks.append(_text_block(operator, side))
        images, mean = next(faces)
        columns = math.ceil(len(images) / EXEMPLAR_ROWS)
        numbered = to_pillow(tile(number_tiles(images, term.tiles), columns))
        blocks.append(_stack(numbered, to_pillow(mean), margin=side // 4))
    blocks += [_text_block("=", side), to_pillow(tile(neighbours, 3))]
    margin = side // 8
    width = sum(block.width for block in blocks) + margin * (len(blocks) + 1)
    height = max(block.height for block in blocks) + 2 * margin
    picture = _blank(width, height)
    left = margin
    for block in blocks:
        picture.paste(block, (left, height - margin - block.height))
        left += block.width + margin
    return from_pillow(picture)


def _operator(weight: float, *, first: bool) -> str:
    sign = "-" if weight < 0 else "" if first else "+"
    factor = "" if abs(weight) == 1 else f"{abs(weight):.3g} *"
    return f"{sign} {factor}".strip()


def _stack(upper: Image.Image, lower: Image.Image, margin: int) -> Image.Image:
    block = _blank(max(upper.width, lower.width), upper.height + margin + lower.height)
    block.paste(upper, ((block.width - upper.width) // 2, 0))
    block.paste(lower, ((block.width - lower.width) // 2, block.height - lower.height))
    return block


def _text_block(text: str, height: int, label: Label | None = None) -> Image.Image:
    """A block with a text, in the font of a label or else in the default one."""
    font = (label or Label(text)).font(max(12, height // 4))
    block = _blank(math.ceil(font.getlength(text)), height)
    ImageDraw.Draw(block).text((block.width / 2, height / 2), text, fill="black", font=font, anchor="mm")
    return block


def _blank(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height), (BACKGROUND,) * 3)
