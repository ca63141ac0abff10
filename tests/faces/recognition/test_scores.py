import math

import numpy as np
import pytest

from faces.recognition.report import to_grey
from faces.recognition.scores import accuracy, balanced_accuracy, class_scores, confusion_matrix
from faces.recognition.trainer import balanced_batch

TRUE = [0, 0, 0, 0, 1, 1, 2]
PREDICTED = [0, 0, 0, 1, 1, 0, 0]


def test_scores_by_hand():
    confusion = confusion_matrix(TRUE, PREDICTED, 4)
    assert confusion.tolist() == [[3, 1, 0, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    assert accuracy(confusion) == pytest.approx(4 / 7)
    assert balanced_accuracy(confusion) == pytest.approx((3 / 4 + 1 / 2 + 0) / 3)
    first, second, third, none = class_scores(confusion, ("a", "b", "c", "d"))
    assert (first.images, first.recall, first.precision, first.f1) == (4, 0.75, 0.6, pytest.approx(2 / 3))
    assert (second.recall, second.precision, second.f1) == (0.5, 0.5, 0.5)
    assert (third.recall, third.f1) == (0.0, 0.0)
    assert math.isnan(third.precision)
    assert none.images == 0
    assert math.isnan(none.recall)


def test_balanced_batches_sample_classes_and_their_images_equally_often():
    rows = [np.arange(0, 100), np.arange(100, 103), np.array([103])]
    sampled = np.concatenate([balanced_batch(rows, 8, step, 4) for step in range(150)])
    counts = np.bincount(sampled, minlength=104)
    assert [counts[own].sum() for own in rows] == [400, 400, 400]
    assert counts[:100].tolist() == [4] * 100
    assert np.ptp(counts[100:103]) <= 1
    assert np.array_equal(balanced_batch(rows, 8, 7, 4), balanced_batch(rows, 8, 7, 4))
    assert not np.array_equal(balanced_batch(rows, 8, 7, 4), balanced_batch(rows, 8, 7, 5))


def test_to_grey_by_hand():
    image = np.zeros((1, 3, 1, 3), np.uint8)
    image[0, :, 0, 0], image[0, 0, 0, 1], image[0, :, 0, 2] = 77, 255, (10, 20, 30)
    assert to_grey(image)[0, :, 0].tolist() == [[77, 76, 18]] * 3
