"""Pictures of what a classifier does: charts of its tables, its mistakes, named faces on photos.

Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from engine.png import from_pillow, to_pillow
from faces.recognition.calibration import MIN_FALSE_ACCEPTS, RocCurve
from faces.recognition.scores import ClassScore
from images.fonts import Label
from images.plots import new_figure, save_figure
from images.tiles import BACKGROUND, font, tile

if TYPE_CHECKING:
    from matplotlib.axis import Axis

COLUMNS, LEAST_SIDE = 6, 192
"""Images in a row, and their side in pixels: smaller ones are magnified, so that words fit under them."""
LINE, LETTERS, SMALLEST = 24, 17, 12
"""Height in pixels of a line under an image, of its letters, and of those of a name that is long."""
LONGEST = 24
"""Letters of a name that charts show."""
GREY = (110, 110, 110)
MOST_NUMBERED = 30
"""With more classes the cells of a confusion matrix are too small for numbers."""
CELL, WIDEST = 0.3, 36.0
"""Sides of a confusion matrix's cell, and of the whole, in inches: where there are too many cells for it they
get smaller, as a canvas for thousands at full size takes gigabytes."""
MOST_NAMED, UNNAMED = 280, 12.0
"""With more classes the cells would be smaller than letters; the side of the whole in inches without them."""
MOST_CELLS = 1000
"""Of a row of a matrix: with more classes some share a cell, which shows the largest, as one would fade."""
MOST_BARS = 100
"""Classes in a chart of bars."""


@dataclass(frozen=True)
class Mistake:
    """A wrong answer: what an image shows, what was told of it, and how surely, as words."""

    true: Label
    told: Label
    score: str


def draw_mistakes(images: NDArray[np.uint8], mistakes: Sequence[Mistake]) -> NDArray[np.uint8]:
    """Images, uint8 [N, 3, S, S], with two lines under each, in rows of 6: one picture, uint8 [3, H, W]."""
    return tile(
        np.stack([_captioned(image, mistake) for image, mistake in zip(images, mistakes, strict=True)]),
        min(COLUMNS, len(images)),
    )


def draw_names(
    image: NDArray[np.uint8], boxes: Sequence[Sequence[float]], names: Sequence[tuple[Label, str]]
) -> NDArray[np.uint8]:
    """A copy of a photo with boxes on it and, at each, a name and its score.

    Args:
        image: uint8 [3, H, W].
        boxes: N of left, top, right, bottom in pixels.
        names: N names and scores.
    """
    canvas = to_pillow(image)
    pen = ImageDraw.Draw(canvas)
    height = max(10, round(max(canvas.size) / 50))
    for (left, top, right, bottom), (name, score) in zip(boxes, names, strict=True):
        pen.rectangle((left, top, right - 1, bottom - 1), outline="yellow", width=max(1, height // 8))
        letters, text = name.font(height), f"{name.text} {score}"
        wide = pen.textlength(text, font=letters)
        x = min(max(0.0, left), max(0.0, canvas.width - wide))
        y = top - 1.3 * height if top >= 1.3 * height else min(bottom, canvas.height - 1.3 * height)
        pen.text(
            (x, y), text, fill="white", font=letters, stroke_width=max(1, height // 8), stroke_fill="black"
        )
    return from_pillow(canvas)


def save_confusion_chart(path: Path, confusion: NDArray[np.int64], classes: Sequence[Label]) -> None:
    """Draw a confusion matrix, int64 [C, C], rows true and scaled to 1, into a PNG.

    With more than `MOST_NAMED` classes their rows in classes.csv stand beside it instead of names, and with
    more than `MOST_CELLS` a cell shows the largest share of a few rows and columns.

    Raises:
        UserError: matplotlib, the extra `plots`, is not installed.
    """
    named = len(classes) <= MOST_NAMED
    longest = max(len(_short(one.text)) for one in classes) if named else 0
    cells = min(max(3.0, CELL * len(classes)), WIDEST) if named else UNNAMED
    side = cells + 1 + 0.08 * longest
    figure = new_figure("charts", side, side)
    axes = figure.subplots()
    shares = (confusion / confusion.sum(1, keepdims=True).clip(1)).astype(np.float32)
    each = -(-len(classes) // MOST_CELLS)
    starts = np.arange(0, len(classes), each)
    shown = np.maximum.reduceat(np.maximum.reduceat(shares, starts, 0), starts, 1)
    first = -0.5 if named else 0.5  # rows are counted from 1
    last = first + each * len(starts)
    axes.imshow(shown, cmap="Blues", vmin=0, vmax=1, extent=(first, last, last, first))
    if named:
        axes.set_xticks(range(len(classes)), [_short(one.text) for one in classes], rotation=90, fontsize=8)
        axes.set_yticks(range(len(classes)), [_short(one.text) for one in classes], fontsize=8)
        for axis in (axes.xaxis, axes.yaxis):
            _set_fonts(axis, classes)
    rows = "" if named else ", rows of classes.csv" + f", {each} a cell" * (each > 1)
    axes.set_xlabel(f"predicted{rows}")
    axes.set_ylabel(f"true{rows}")
    if len(classes) <= MOST_NUMBERED:
        for row, column in zip(*np.nonzero(confusion), strict=True):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, confusion[row, column], ha="center", va="center", color=colour, fontsize=8)
    save_figure(path, figure)


def save_class_chart(path: Path, scores: Sequence[ClassScore], classes: Sequence[Label]) -> None:
    """Draw recall and precision of each class as bars into a PNG. Raises `UserError` without matplotlib.

    Of more than `MOST_BARS` classes those of the lowest recall are drawn, the lowest first.
    """
    count = len(scores)
    if count > MOST_BARS:
        lowest = np.argsort([one.recall for one in scores], kind="stable")[:MOST_BARS]  # nan comes last
        scores, classes = [scores[row] for row in lowest], [classes[row] for row in lowest]
    figure = new_figure("charts", 7, 1.2 + 0.35 * len(scores))
    axes = figure.subplots()
    if count > MOST_BARS:
        axes.set_xlabel(f"the {MOST_BARS} of {count:,} classes with the lowest recall")
    places = np.arange(len(scores))
    axes.barh(places - 0.2, [one.recall for one in scores], 0.4, label="recall")
    axes.barh(places + 0.2, [one.precision for one in scores], 0.4, label="precision")
    names = zip(classes, scores, strict=True)
    axes.set_yticks(places, [f"{_short(one.text)} ({score.images:,})" for one, score in names], fontsize=8)
    _set_fonts(axes.yaxis, classes)
    axes.set_ylim(len(scores) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.set_axisbelow(True)
    axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    save_figure(path, figure)


def save_roc_chart(path: Path, curves: Mapping[str, tuple[RocCurve, int]]) -> None:
    """Draw curves over a logarithmic axis into a PNG, pale where they rest on too few false accepts.

    Args:
        path: of the PNG.
        curves: by their names, each with the number of similarities of which its `far` is a share.

    Raises:
        UserError: matplotlib, the extra `plots`, is not installed.
    """
    figure = new_figure("charts", 6, 4.5)
    axes = figure.subplots()
    least = min(1 / count for _, count in curves.values())
    for name, (whole, count) in curves.items():
        curve = whole.thinned()
        far = curve.far.clip(least / 2)
        (line,) = axes.plot(far, curve.tar, alpha=0.3, drawstyle="steps-post")
        borne = slice(int(np.searchsorted(curve.far, (MIN_FALSE_ACCEPTS - 1e-6) / count)), None)
        told = f"{name} (of {count:,})"
        axes.plot(far[borne], curve.tar[borne], label=told, drawstyle="steps-post", color=line.get_color())
    axes.set_xscale("log")
    axes.set_xlabel("false-accept rate")
    axes.set_ylabel("true-accept rate")
    axes.set_ylim(0, 1.02)
    axes.grid(alpha=0.3)
    axes.legend(title=f"pale: fewer than {MIN_FALSE_ACCEPTS} false accepts")
    save_figure(path, figure)


def _short(name: str) -> str:
    """A name of few letters, without what matplotlib would take for mathematics."""
    shown = name if len(name) <= LONGEST else f"{name[: LONGEST - 3]}..."
    return shown.replace("$", r"\$")


def _set_fonts(axis: Axis, classes: Sequence[Label]) -> None:
    for words, one in zip(axis.get_ticklabels(), classes, strict=True):
        one.set_font(words)


def _captioned(image: NDArray[np.uint8], mistake: Mistake) -> NDArray[np.uint8]:
    picture = to_pillow(image)
    times = -(-LEAST_SIDE // picture.width)
    picture = picture.resize((picture.width * times, picture.height * times), Image.Resampling.BICUBIC)
    canvas = Image.new("RGB", (picture.width, picture.height + 2 * LINE + LINE // 4), (BACKGROUND,) * 3)
    canvas.paste(picture, (0, 0))
    pen, usual = ImageDraw.Draw(canvas), font(LETTERS)
    left = pen.textlength("true  ", font=usual)
    for line, word, name, score in ((1, "true", mistake.true, ""), (2, "told", mistake.told, mistake.score)):
        below = picture.height + line * LINE - LINE // 4
        pen.text((2, below), word, fill=GREY, font=usual, anchor="ls")
        text, size = _fitted(pen, name, score, canvas.width - left - 2)
        pen.text((left, below), text, fill="black", font=name.font(size), anchor="ls")
    return from_pillow(canvas)


def _fitted(pen: ImageDraw.ImageDraw, name: Label, score: str, width: float) -> tuple[str, int]:
    """A name and its score, in letters so small and cut so short that they fit into a width."""
    size, kept, text = LETTERS, len(name.text), f"{name.text} {score}".strip()
    while pen.textlength(text, font=name.font(size)) > width and kept > 1:
        if size > SMALLEST:
            size -= 1
        else:
            kept -= 1
            text = f"{name.text[:kept]}... {score}".strip()
    return text, size
