"""Pictures of what a classifier does: charts of its tables, its mistakes, named faces on photos.

Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from faces.calibration import FEWEST, Curve, is_borne
from faces.recognition.scores import ClassScore
from gan.errors import missing_extra
from gan.files import replacing
from gan.images import BACKGROUND, font, from_pillow, tile, to_pillow

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CAPTION, COLUMNS = 14, 8
"""Height in pixels of the words under an image; images in a row."""
LEAST_SIDE = 112
"""Smaller images are magnified, so that words fit under them."""
MOST_NUMBERED = 30
"""With more classes the cells of a confusion matrix are too small for numbers."""


def mistakes_picture(images: NDArray[np.uint8], captions: Sequence[str]) -> NDArray[np.uint8]:
    """Images, uint8 [N, 3, S, S], with words under them, in rows of 8: one picture, uint8 [3, H, W]."""
    return tile(
        np.stack([_captioned(image, words) for image, words in zip(images, captions, strict=True)]),
        min(COLUMNS, len(images)),
    )


def draw_named(
    image: NDArray[np.uint8], boxes: Sequence[Sequence[float]], words: Sequence[str]
) -> NDArray[np.uint8]:
    """A copy of a photo, uint8 [3, H, W], with boxes (left, top, right, bottom in pixels) and their words."""
    canvas = to_pillow(image)
    pen = ImageDraw.Draw(canvas)
    height = max(10, round(max(canvas.size) / 50))
    for (left, top, right, bottom), text in zip(boxes, words, strict=True):
        pen.rectangle((left, top, right - 1, bottom - 1), outline="yellow", width=max(1, height // 8))
        letters = font(height)
        wide = pen.textlength(text, font=letters)
        x = min(max(0.0, left), max(0.0, canvas.width - wide))
        y = top - 1.3 * height if top >= 1.3 * height else min(bottom, canvas.height - 1.3 * height)
        pen.text(
            (x, y), text, fill="white", font=letters, stroke_width=max(1, height // 8), stroke_fill="black"
        )
    return from_pillow(canvas)


def save_confusion_chart(path: Path, confusion: NDArray[np.int64], classes: Sequence[str]) -> None:
    """Draw a confusion matrix, int64 [C, C], rows true and scaled to 1, into a PNG.

    Raises:
        UserError: matplotlib, the extra `plots`, is not installed.
    """
    side = max(4.0, 1.5 + 0.3 * len(classes))
    figure = _figure(side, side)
    axes = figure.subplots()
    shares = confusion / confusion.sum(1, keepdims=True).clip(1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(classes)), [_plain(name) for name in classes], rotation=90, fontsize=8)
    axes.set_yticks(range(len(classes)), [_plain(name) for name in classes], fontsize=8)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if len(classes) <= MOST_NUMBERED:
        for row, column in zip(*np.nonzero(confusion), strict=True):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, confusion[row, column], ha="center", va="center", color=colour, fontsize=7)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110)


def save_class_chart(path: Path, scores: Sequence[ClassScore]) -> None:
    """Draw recall and precision of each class as bars into a PNG. Raises `UserError` without matplotlib."""
    figure = _figure(7, max(2.5, 1 + 0.3 * len(scores)))
    axes = figure.subplots()
    places = np.arange(len(scores))
    axes.barh(places - 0.2, [one.recall for one in scores], 0.4, label="recall")
    axes.barh(places + 0.2, [one.precision for one in scores], 0.4, label="precision")
    axes.set_yticks(places, [f"{_plain(one.name)} ({one.images:,})" for one in scores], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.grid(axis="x", alpha=0.3)
    axes.legend(loc="lower left")
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110)


def save_roc_chart(path: Path, curves: Mapping[str, tuple[Curve, int]]) -> None:
    """Draw curves over a logarithmic axis into a PNG, pale where they rest on too few false accepts.

    Args:
        path: of the PNG.
        curves: by their names, each with the number of similarities of which its `far` is a share.

    Raises:
        UserError: matplotlib, the extra `plots`, is not installed.
    """
    figure = _figure(6, 4.5)
    axes = figure.subplots()
    least = min(1 / count for _, count in curves.values())
    for name, (curve, count) in curves.items():
        far = curve.far.clip(least / 2)
        (line,) = axes.plot(far, curve.tar, alpha=0.3, drawstyle="steps-post")
        borne = np.array([is_borne(rate, count) for rate in curve.far])
        told = f"{name} (of {count:,})"
        axes.plot(far[borne], curve.tar[borne], label=told, drawstyle="steps-post", color=line.get_color())
    axes.set_xscale("log")
    axes.set_xlabel("false-accept rate")
    axes.set_ylabel("true-accept rate")
    axes.set_ylim(0, 1.02)
    axes.grid(alpha=0.3)
    axes.legend(title=f"pale: fewer than {FEWEST} false accepts")
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110)


def _figure(width: float, height: float) -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError as missing:
        raise missing_extra("charts need", "plots", missing) from missing
    return Figure(figsize=(width, height), layout="constrained")


def _plain(name: str) -> str:
    """A name without what matplotlib would take for mathematics."""
    return name.replace("$", r"\$")


def _captioned(image: NDArray[np.uint8], words: str) -> NDArray[np.uint8]:
    picture = to_pillow(image)
    times = -(-LEAST_SIDE // picture.width)
    picture = picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)
    canvas = Image.new("RGB", (picture.width, picture.height + CAPTION), (BACKGROUND,) * 3)
    canvas.paste(picture, (0, 0))
    pen, size = ImageDraw.Draw(canvas), CAPTION - 4
    while size > 6 and pen.textlength(words, font=font(size)) > canvas.width:
        size -= 1
    pen.text((canvas.width / 2, picture.height + 1), words, fill="black", font=font(size), anchor="ma")
    return from_pillow(canvas)
