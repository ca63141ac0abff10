"""What a finished training leaves for people to judge the network by: tables, and pictures of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.errors import UserError
from engine.files import atomic_write
from engine.png import save_png
from engine.runs import report_write_errors
from faces.recognition.folder import LabelledImages
from faces.recognition.pictures import Mistake, draw_mistakes, save_class_chart, save_confusion_chart
from faces.recognition.recognizer import load_recognizer
from faces.recognition.scores import ClassScore, accuracy, balanced_accuracy, class_scores, confusion_matrix
from faces.tables import write_csv
from images.fonts import HELP, Label, legible
from images.plots import Panels, read_metrics, save_curves

PANELS: Panels = (
    ("loss [nats]", {"loss/training": "training", "score/loss": "held out"}),
    ("accuracy", {"accuracy/training": "training", "score/accuracy": "held out"}),
    ("balanced accuracy", {"score/balanced_accuracy": "held out"}),
    ("gradient norm", {"gradient/norm": "all weights"}),
)
WORST = 32
"""Mistakes shown."""
LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in a grey level (ITU-R BT.601)."""


def write_report(run: Path, data: LabelledImages) -> list[str]:
    """Score a run's best network on the images held out, and write what there is to see into the run.

    - confusion.csv and .png, classes.csv and .png: the confusion matrix; recall, precision, F1 of each class,
      as a picture of the worst where there are many.
    - steps.csv: accuracy at each step that was scored; curves.png: losses and accuracies.
    - mistakes.png: the wrong answers that the network was surest of.
    - report.json: accuracies, also on grey copies of the same images.

    Args:
        run: the run's folder.
        data: what it was trained on.

    Returns:
        Lines to print.

    Raises:
        UserError: the run has no usable checkpoint, or its folder cannot be written to.
    """
    recognizer = load_recognizer(run)
    rows = data.held_rows
    images, true = data.images[rows], data.labels[rows]
    probabilities = recognizer.probabilities(images)
    predicted = probabilities.argmax(1)
    confusion = confusion_matrix(true, predicted, len(data.classes))
    in_grey = confusion_matrix(true, recognizer.probabilities(to_grey(images)).argmax(1), len(data.classes))
    values = {
        "step": recognizer.step,
        "images": len(rows),
        "accuracy": accuracy(confusion),
        "balanced_accuracy": balanced_accuracy(confusion),
        "grey_accuracy": accuracy(in_grey),
        "grey_balanced_accuracy": balanced_accuracy(in_grey),
    }
    scores = class_scores(confusion, data.classes)
    labels, notes = _labels(data.classes)
    metrics = read_metrics(run)
    with report_write_errors(run):
        with atomic_write(run / "report.json") as path:
            path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
        header = ["true \\ predicted", *data.classes]
        write_csv(run / "confusion.csv", header, zip(data.classes, *confusion.T.tolist(), strict=True))
        _write_classes(run / "classes.csv", scores)
        names = ("score/accuracy", "score/balanced_accuracy", "score/loss")
        columns = [metrics[name][1] for name in names]
        steps = zip(metrics[names[0]][0], *columns, strict=True)
        write_csv(run / "steps.csv", ["step", *(name.partition("/")[2] for name in names)], steps)
        shown = _worst(probabilities, true, predicted)
        if len(shown):
            mistakes = [
                Mistake(labels[true[row]], labels[predicted[row]], f"{probabilities[row].max():.0%}")
                for row in shown
            ]
            save_png(run / "mistakes.png", draw_mistakes(images[shown], mistakes), {"run": run.name})
        else:
            (run / "mistakes.png").unlink(missing_ok=True)  # of an earlier sitting
        notes += _draw(run, confusion, scores, labels)
    told = [
        f"accuracy {_told(values, '')} (chance {1 / len(data.classes):.1%}) on {len(rows):,} images held out "
        f"(best step: {recognizer.step:,})",
        f"on grey copies of them {_told(values, 'grey_')}",
        f"tables and pictures: {run}",
    ]
    return told + notes


def _told(values: dict[str, float], prefix: str) -> str:
    return f"{values[f'{prefix}accuracy']:.1%}, balanced {values[f'{prefix}balanced_accuracy']:.1%}"


def to_grey(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Grey copies of images, uint8 [N, 3, H, W], in three equal channels."""
    levels = np.einsum("nchw,c->nhw", images, np.array(LUMA, np.float32))
    return np.repeat(levels.round().astype(np.uint8)[:, None], 3, 1)


def _worst(
    probabilities: NDArray[np.float32], true: NDArray[np.int64], predicted: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Rows of the wrong answers, the surest first."""
    wrong = np.flatnonzero(true != predicted)
    return wrong[np.argsort(-probabilities[wrong].max(1), kind="stable")][:WORST]


def _labels(classes: Sequence[str]) -> tuple[list[Label], list[str]]:
    """The classes as pictures show them, and a line where some are shown by their numbers."""
    known = legible(classes)
    labels = [known.get(name, Label(f"#{number}")) for number, name in enumerate(classes, 1)]
    numbered = [name for name in classes if name not in known]
    if not numbered:
        return labels, []
    first = numbered[0]
    return labels, [
        f"no font is found for the letters of {first} ({len(numbered):,} of {len(classes):,} classes), and "
        f"pictures show #{classes.index(first) + 1} instead, its row in classes.csv; {HELP}"
    ]


def _draw(
    run: Path, confusion: NDArray[np.int64], scores: Sequence[ClassScore], classes: Sequence[Label]
) -> list[str]:
    """The pictures that need matplotlib; without it, a line that says so."""
    try:
        save_curves(run / "curves.png", read_metrics(run), run.name, PANELS)
        save_confusion_chart(run / "confusion.png", confusion, classes)
        save_class_chart(run / "classes.png", scores, classes)
    except UserError as error:
        return [f"no pictures of curves and tables: {error}"]
    return []


def _write_classes(path: Path, scores: Sequence[ClassScore]) -> None:
    rows = (
        [one.name, one.images, *(f"{value:.4f}" for value in (one.recall, one.precision, one.f1))]
        for one in scores
    )
    write_csv(path, ["class", "images", "recall", "precision", "f1"], rows)
