"""The report on a finished run: tables and pictures in its folder."""

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
from faces.recognition.curves import PANELS
from faces.recognition.folder import LabelledImages
from faces.recognition.open_set import fit_temperature
from faces.recognition.pictures import Mistake, draw_mistakes, save_class_chart, save_confusion_chart
from faces.recognition.recognizer import load_recognizer
from faces.recognition.scores import ClassScore, accuracy, balanced_accuracy, class_scores, confusion_matrix
from faces.tables import write_csv
from images.fonts import INSTALL_HINT, Label, find_labels
from images.plots import read_metrics, save_curves
from images.tiles import to_luma

MAX_MISTAKES = 32
"""Images in mistakes.png."""


def write_report(run: Path, data: LabelledImages) -> list[str]:
    """Score a run's best network on the held-out images, and write the report into the run's folder.

    - confusion.csv and .png, classes.csv and .png: the confusion matrix; recall, precision and F1 per class.
    - steps.csv: accuracy at each scored step; curves.png: losses and accuracies.
    - mistakes.png: the most confident wrong predictions.
    - report.json: accuracies, also on grey copies of the images.

    Args:
        run: the run's folder.
        data: its data.

    Returns:
        Lines to print.

    Raises:
        UserError: the run has no usable checkpoint, or its folder cannot be written to.
    """
    recognizer = load_recognizer(run)
    rows = data.held_out_indices
    images, true = data.images[rows], data.labels[rows]
    probabilities = recognizer.probabilities(images)
    predicted = probabilities.argmax(1)
    confusion = confusion_matrix(true, predicted, len(data.classes))
    grey_predicted = recognizer.probabilities(to_grey(images)).argmax(1)
    grey_confusion = confusion_matrix(true, grey_predicted, len(data.classes))
    values = {
        "step": recognizer.step,
        "images": len(rows),
        "accuracy": accuracy(confusion),
        "balanced_accuracy": balanced_accuracy(confusion),
        "grey_accuracy": accuracy(grey_confusion),
        "grey_balanced_accuracy": balanced_accuracy(grey_confusion),
        "temperature": fit_temperature(probabilities, true),
    }
    scores = class_scores(confusion, data.classes)
    labels, notes = _make_labels(data.classes)
    metrics = read_metrics(run)
    with report_write_errors(run):
        with atomic_write(run / "report.json") as path:
            path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
        header = ["true \\ predicted", *data.classes]
        write_csv(run / "confusion.csv", header, zip(data.classes, *confusion.T.tolist(), strict=True))
        class_rows = (
            [score.name, score.images, f"{score.recall:.4f}", f"{score.precision:.4f}", f"{score.f1:.4f}"]
            for score in scores
        )
        write_csv(run / "classes.csv", ["class", "images", "recall", "precision", "f1"], class_rows)
        names = ("score/accuracy", "score/balanced_accuracy", "score/loss")
        columns = [metrics[name][1] for name in names]
        steps = zip(metrics[names[0]][0], *columns, strict=True)
        write_csv(run / "steps.csv", ["step", *(name.partition("/")[2] for name in names)], steps)
        wrong = np.flatnonzero(true != predicted)
        wrong = wrong[np.argsort(-probabilities[wrong].max(1), kind="stable")][:MAX_MISTAKES]
        if len(wrong):
            mistakes = [
                Mistake(labels[true[row]], labels[predicted[row]], f"{probabilities[row].max():.0%}")
                for row in wrong
            ]
            text = {"run": run.resolve().name}
            save_png(run / "mistakes.png", draw_mistakes(images[wrong], mistakes), text)
        else:
            (run / "mistakes.png").unlink(missing_ok=True)  # from before the run was resumed
        notes += _draw(run, confusion, scores, labels, recognizer.step)

    def accuracies(prefix: str) -> str:
        return f"{values[f'{prefix}accuracy']:.1%}, balanced {values[f'{prefix}balanced_accuracy']:.1%}"

    return [
        f"accuracy {accuracies('')} (chance {1 / len(data.classes):.1%}) on {len(rows):,} held-out images "
        f"(best step: {recognizer.step:,})",
        f"on grey copies of them {accuracies('grey_')}",
        f"tables and pictures: {run}",
        *notes,
    ]


def to_grey(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Grey copies of images, uint8 [N, 3, H, W], with three equal channels."""
    levels = to_luma(images)
    return np.repeat(levels.round().astype(np.uint8)[:, None], 3, 1)


def _make_labels(classes: Sequence[str]) -> tuple[list[Label], list[str]]:
    """The classes' labels in pictures, and a note if some are shown by their numbers."""
    known = find_labels(classes)
    labels = [known.get(name, Label(f"#{number}")) for number, name in enumerate(classes, 1)]
    illegible = [name for name in classes if name not in known]
    if not illegible:
        return labels, []
    return labels, [
        f"no installed font has the letters of {illegible[0]} ({len(illegible):,} of {len(classes):,} "
        f"classes): pictures show #{classes.index(illegible[0]) + 1} instead, its row in classes.csv; "
        f"{INSTALL_HINT}"
    ]


def _draw(
    run: Path,
    confusion: NDArray[np.int64],
    scores: Sequence[ClassScore],
    labels: Sequence[Label],
    best_step: int,
) -> list[str]:
    """Draw the pictures that need matplotlib; without it, return a note."""
    try:
        marks = {"score/balanced_accuracy": (best_step, f"best step, {best_step:,}")}
        save_curves(run / "curves.png", read_metrics(run), run.resolve().name, PANELS, marks)
        save_confusion_chart(run / "confusion.png", confusion, labels)
        save_class_chart(run / "classes.png", scores, labels)
    except UserError as error:
        return [f"the charts were not drawn: {error}"]
    return []
