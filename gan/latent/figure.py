"""The picture of a sum of faces, laid out as in figure 7 of Radford et al. 2015."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from engine.png import from_pillow, to_pillow
from gan.latent.arithmetic import Term
from images.tiles import BACKGROUND, default_font, number_tiles, tile

EXEMPLAR_ROWS = 3

Images = NDArray[np.uint8]


def arithmetic_figure(
    groups: Sequence[Term], exemplars: Sequence[Images], means: Images, around: Images
) -> Images:
    """Each group's exemplars over the image of its mean, signs and weights between, then the result.

    Args:
        groups: what is added up, G of them, at least 1.
        exemplars: for each group the images of its tiles, uint8 [K, 3, S, S]; they get their numbers.
        means: the images of the groups' mean vectors, uint8 [G, 3, S, S].
        around: the result in the middle of its neighbours, uint8 [9, 3, S, S], shown 3 x 3.

    Returns:
        One picture, uint8 [3, H, W], in which the means and the lower edge of the result are in line.
    """
    side = means.shape[-1]
    blocks: list[Image.Image] = []
    for index, (group, images) in enumerate(zip(groups, exemplars, strict=True)):
        if operator := _operator(group.weight, first=index == 0):
            blocks.append(_word(operator, side))
        blocks.append(_over(_exemplars(group, images), to_pillow(means[index]), margin=side // 4))
    blocks += [_word("=", side), to_pillow(tile(around, 3))]
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


def _exemplars(group: Term, images: Images) -> Image.Image:
    columns = math.ceil(len(images) / EXEMPLAR_ROWS)
    return to_pillow(tile(number_tiles(images, group.tiles), columns))


def _over(upper: Image.Image, lower: Image.Image, margin: int) -> Image.Image:
    both = _blank(max(upper.width, lower.width), upper.height + margin + lower.height)
    both.paste(upper, ((both.width - upper.width) // 2, 0))
    both.paste(lower, ((both.width - lower.width) // 2, both.height - lower.height))
    return both


def _word(text: str, height: int) -> Image.Image:
    """A word half-way up a white block as high as a mean, beside which it stands."""
    letters = default_font(max(12, height // 4))
    word = _blank(math.ceil(letters.getlength(text)), height)
    ImageDraw.Draw(word).text((word.width / 2, height / 2), text, fill="black", font=letters, anchor="mm")
    return word


def _blank(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height), (BACKGROUND,) * 3)
