"""How good a classifier is, from what it predicts. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


def confusion_matrix(true: ArrayLike, predicted: ArrayLike, classes: int) -> NDArray[np.int64]:
    """How often each class, a row, was taken for each, a column: int64 [C, C].

    Args:
        true: int [N].
        predicted: int [N].
        classes: C.
    """
    cells = np.asarray(true) * classes + np.asarray(predicted)
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


def accuracy(confusion: NDArray[np.int64]) -> float:
    """The share of images whose class was told rightly."""
    return float(confusion.trace() / confusion.sum())


def balanced_accuracy(confusion: NDArray[np.int64]) -> float:
    """The mean over the classes of the share of their images told rightly; classes without images apart."""
    counts = confusion.sum(1)
    return float((confusion.diagonal()[counts > 0] / counts[counts > 0]).mean())


@dataclass(frozen=True)
class ClassScore:
    """How well one class is told.

    Attributes:
        name: of the class.
        images: of it, in the test.
        recall: share of those told rightly.
        precision: share of what was taken for it that is of it; nan where nothing was.
        f1: their harmonic mean; 0 where nothing was told rightly.
    """

    name: str
    images: int
    recall: float
    precision: float
    f1: float


def class_scores(confusion: NDArray[np.int64], names: tuple[str, ...]) -> list[ClassScore]:
    """Of each class its scores, in the matrix's order."""
    scores = []
    for number, name in enumerate(names):
        right, images = int(confusion[number, number]), int(confusion[number].sum())
        taken = int(confusion[:, number].sum())
        scores.append(
            ClassScore(
                name,
                images,
                right / images if images else float("nan"),
                right / taken if taken else float("nan"),
                2 * right / (images + taken) if right else 0.0,
            )
        )
    return scores
