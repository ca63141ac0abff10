"""Scores of a classifier from its predictions. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


def confusion_matrix(true: ArrayLike, predicted: ArrayLike, class_count: int) -> NDArray[np.int64]:
    """Count how often each true class (row) was predicted as each class (column): int64 [C, C].

    Args:
        true: int [N].
        predicted: int [N].
        class_count: C.
    """
    cells = np.asarray(true) * class_count + np.asarray(predicted)
    return np.bincount(cells, minlength=class_count**2).reshape(class_count, class_count)


def accuracy(confusion: NDArray[np.int64]) -> float:
    """The share of images that are classified correctly."""
    return float(confusion.trace() / confusion.sum())


def balanced_accuracy(confusion: NDArray[np.int64]) -> float:
    """The mean recall of the classes that have images."""
    counts = confusion.sum(1)
    return float((confusion.diagonal()[counts > 0] / counts[counts > 0]).mean())


@dataclass(frozen=True)
class ClassScore:
    """Scores of one class.

    Attributes:
        name: name of the class.
        images: number of test images.
        recall: share of the class's images that are classified correctly; nan without images.
        precision: share of the predictions of this class that are correct; nan without predictions.
        f1: harmonic mean of the two; 0 if no prediction is correct.
    """

    name: str
    images: int
    recall: float
    precision: float
    f1: float


def class_scores(confusion: NDArray[np.int64], names: tuple[str, ...]) -> list[ClassScore]:
    """The scores of each class, in the order of the matrix."""
    scores = []
    for index, name in enumerate(names):
        correct, images = int(confusion[index, index]), int(confusion[index].sum())
        predictions = int(confusion[:, index].sum())
        scores.append(
            ClassScore(
                name,
                images,
                correct / images if images else float("nan"),
                correct / predictions if predictions else float("nan"),
                2 * correct / (images + predictions) if correct else 0.0,
            )
        )
    return scores
