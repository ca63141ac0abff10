"""Pictures of a classifier's results: charts, mistakes, and photos with names. Nothing here imports torch."""

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
from images.tiles import BACKGROUND, default_font, tile

if TYPE_CHECKING:
    from matplotlib.axis import Axis

COLUMNS, MIN_IMAGE_SIDE = 6, 192
"""Images per row, and their side in pixels: smaller ones are enlarged so that captions fit."""
LINE_HEIGHT, FONT_SIZE, MIN_FONT_SIZE = 24, 17, 12
"""Sizes of a caption in pixels; long names are written smaller."""
MAX_NAME_LENGTH = 24
"""Characters of a name in charts."""
GREY = (110, 110, 110)
MAX_NUMBERED_CLASSES = 30
"""Classes beyond which the cells of a confusion matrix are too small for numbers."""
CELL_SIDE, MAX_MATRIX_SIDE = 0.3, 36.0
"""Sides of a confusion matrix's cell and of the matrix, in inches. The matrix is limited because a canvas for
thousands of classes takes gigabytes."""
MAX_NAMED_CLASSES, UNNAMED_MATRIX_SIDE = 280, 12.0
"""Classes beyond which cells would be smaller than letters; side of the matrix without names, in inches."""
MAX_CELLS = 1000
"""Cells per row of a matrix. With more classes, a cell shows the maximum of several, as a mean would fade."""
MAX_BARS = 100
"""Classes in a bar chart."""


@dataclass(frozen=True)
class Mistake:
    """A wrong prediction: the true and predicted class, and the probability as text."""

    true: Label
    predicted: Label
    score: str


def draw_mistakes(images: NDArray[np.uint8], mistakes: Sequence[Mistake]) -> NDArray[np.uint8]:
    """Tile images, uint8 [N, 3, S, S], with captions of two lines, in rows of 6: uint8 [3, H, W]."""
    return tile(
        np.stack([_captioned(image, mistake) for image, mistake in zip(images, mistakes, strict=True)]),
        min(COLUMNS, len(images)),
    )


def draw_names(
    image: NDArray[np.uint8], boxes: Sequence[Sequence[float]], names: Sequence[tuple[Label, str]]
) -> NDArray[np.uint8]:
    """Draw bounding boxes with names and scores on a copy of a photo.

    Args:
        image: uint8 [3, H, W].
        boxes: N times left, top, right, bottom in pixels.
        names: N names and scores.
    """
    canvas = to_pillow(image)
    pen = ImageDraw.Draw(canvas)
    height = max(10, round(max(canvas.size) / 50))
    for (left, top, right, bottom), (name, score) in zip(boxes, names, strict=True):
        pen.rectangle((left, top, right - 1, bottom - 1), outline="yellow", width=max(1, height // 8))
        name_font, text = name.font(height), f"{name.text} {score}"
        x = min(max(0.0, left), max(0.0, canvas.width - pen.textlength(text, font=name_font)))
        y = top - 1.3 * height if top >= 1.3 * height else min(bottom, canvas.height - 1.3 * height)
        pen.text(
            (x, y), text, fill="white", font=name_font, stroke_width=max(1, height // 8), stroke_fill="black"
        )
    return from_pillow(canvas)


def save_confusion_chart(path: Path, confusion: NDArray[np.int64], labels: Sequence[Label]) -> None:
    """Draw a confusion matrix, int64 [C, C], with rows of true classes scaled to 1, into a PNG.

    With more than `MAX_NAMED_CLASSES` classes, their rows in classes.csv replace the names. With more than
    `MAX_CELLS`, a cell shows the maximum of several rows and columns.

    Raises:
        UserError: matplotlib, the extra `plots`, is not installed.
    """
    count = len(labels)
    named = count <= MAX_NAMED_CLASSES
    names = [_shorten(label.text) for label in labels] if named else []
    cells = min(max(3.0, CELL_SIDE * count), MAX_MATRIX_SIDE) if named else UNNAMED_MATRIX_SIDE
    side = cells + 1 + 0.08 * max(map(len, names), default=0)
    figure = new_figure("charts", side, side)
    axes = figure.subplots()
    shares = (confusion / confusion.sum(1, keepdims=True).clip(1)).astype(np.float32)
    classes_per_cell = -(-count // MAX_CELLS)
    starts = np.arange(0, count, classes_per_cell)
    maxima = np.maximum.reduceat(np.maximum.reduceat(shares, starts, 0), starts, 1)
    first = -0.5 if named else 0.5  # rows are counted from 1
    last = first + classes_per_cell * len(starts)
    axes.imshow(maxima, cmap="Blues", vmin=0, vmax=1, extent=(first, last, last, first))
    if named:
        axes.set_xticks(range(count), names, rotation=90, fontsize=8)
        axes.set_yticks(range(count), names, fontsize=8)
        for axis in (axes.xaxis, axes.yaxis):
            _set_fonts(axis, labels)
    unit = "" if named else ", rows of classes.csv" + f", {classes_per_cell} a cell" * (classes_per_cell > 1)
    axes.set_xlabel(f"predicted{unit}")
    axes.set_ylabel(f"true{unit}")
    if count <= MAX_NUMBERED_CLASSES:
        for row, column in zip(*np.nonzero(confusion), strict=True):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, confusion[row, column], ha="center", va="center", color=colour, fontsize=8)
    save_figure(path, figure)


def save_class_chart(path: Path, scores: Sequence[ClassScore], labels: Sequence[Label]) -> None:
    """Draw recall and precision of each class as bars into a PNG. Raises `UserError` without matplotlib.

    With more than `MAX_BARS` classes, only those of the lowest recall are drawn, the lowest first.
    """
    count = len(scores)
    if count > MAX_BARS:
        lowest = np.argsort([score.recall for score in scores], kind="stable")[:MAX_BARS]  # nan comes last
        scores, labels = [scores[row] for row in lowest], [labels[row] for row in lowest]
    figure = new_figure("charts", 7, 1.2 + 0.35 * len(scores))
    axes = figure.subplots()
    if count > MAX_BARS:
        axes.set_xlabel(f"the {MAX_BARS} of {count:,} classes with the lowest recall")
    positions = np.arange(len(scores))
    axes.barh(positions - 0.2, [score.recall for score in scores], 0.4, label="recall")
    axes.barh(positions + 0.2, [score.precision for score in scores], 0.4, label="precision")
    pairs = zip(labels, scores, strict=True)
    names = [f"{_shorten(label.text)} ({score.images:,})" for label, score in pairs]
    axes.set_yticks(positions, names, fontsize=8)
    _set_fonts(axes.yaxis, labels)
    axes.set_ylim(len(scores) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.set_axisbelow(True)
    axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    save_figure(path, figure)


def save_roc_chart(path: Path, curves: Mapping[str, tuple[RocCurve, int]]) -> None:
    """Draw ROC curves into a PNG, pale where they rest on too few false accepts.

    Args:
        path: the PNG.
        curves: by name, each with its number of impostor similarities.

    Raises:
        UserError: matplotlib, the extra `plots`, is not installed.
    """
    figure = new_figure("charts", 6, 4.5)
    axes = figure.subplots()
    min_far = min(1 / count for _, count in curves.values())
    for name, (full_curve, count) in curves.items():
        curve = full_curve.thinned()
        far = curve.far.clip(min_far / 2)
        (line,) = axes.plot(far, curve.tar, alpha=0.3, drawstyle="steps-post")
        first = int(np.searchsorted(curve.far, (MIN_FALSE_ACCEPTS - 1e-6) / count))
        style = {"drawstyle": "steps-post", "color": line.get_color()}
        axes.plot(far[first:], curve.tar[first:], label=f"{name} (of {count:,})", **style)
    axes.set_xscale("log")
    axes.set_xlabel("false-accept rate")
    axes.set_ylabel("true-accept rate")
    axes.set_ylim(0, 1.02)
    axes.grid(alpha=0.3)
    axes.legend(title=f"pale: fewer than {MIN_FALSE_ACCEPTS} false accepts")
    save_figure(path, figure)


def _shorten(name: str) -> str:
    """Shorten a name, and escape what matplotlib would read as mathematics."""
    short = name if len(name) <= MAX_NAME_LENGTH else f"{name[: MAX_NAME_LENGTH - 3]}..."
    return short.replace("$", r"\$")


def _set_fonts(axis: Axis, labels: Sequence[Label]) -> None:
    for text, label in zip(axis.get_ticklabels(), labels, strict=True):
        label.set_font(text)


def _captioned(image: NDArray[np.uint8], mistake: Mistake) -> NDArray[np.uint8]:
    picture = to_pillow(image)
    scale = -(-MIN_IMAGE_SIDE // picture.width)
    picture = picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.BICUBIC)
    height = picture.height + 2 * LINE_HEIGHT + LINE_HEIGHT // 4
    canvas = Image.new("RGB", (picture.width, height), (BACKGROUND,) * 3)
    canvas.paste(picture, (0, 0))
    pen, key_font = ImageDraw.Draw(canvas), default_font(FONT_SIZE)
    left = pen.textlength("pred  ", font=key_font)
    lines = (("true", mistake.true, ""), ("pred", mistake.predicted, mistake.score))
    for line, (key, name, score) in enumerate(lines, 1):
        baseline = picture.height + line * LINE_HEIGHT - LINE_HEIGHT // 4
        pen.text((2, baseline), key, fill=GREY, font=key_font, anchor="ls")
        text, size = _fit(pen, name, score, canvas.width - left - 2)
        pen.text((left, baseline), text, fill="black", font=name.font(size), anchor="ls")
    return from_pillow(canvas)


def _fit(pen: ImageDraw.ImageDraw, name: Label, score: str, width: float) -> tuple[str, int]:
    """A name and its score, with the font size; reduced and then cut to fit into a width in pixels."""
    size, length, text = FONT_SIZE, len(name.text), f"{name.text} {score}".strip()
    while pen.textlength(text, font=name.font(size)) > width and length > 1:
        if size > MIN_FONT_SIZE:
            size -= 1
        else:
            length -= 1
            text = f"{name.text[:length]}... {score}".strip()
    return text, size
