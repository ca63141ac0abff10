"""The scores are to be trusted only as far as they catch failures that were planted, here in drawn faces."""

from __future__ import annotations

import csv
import sys

import numpy as np
import pytest

from faces.drawn import write_folder
from gan.dataset import load_folder
from gan.features import random_space
from tests.in_process import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))

from planted_failures import CAUGHT, FLOOR, measure_failures, moved, table

SIZE, COUNT = 48, 50


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """What is measured on 200 drawn people, those with light skin being the ones left out."""
    folder = tmp_path_factory.mktemp("drawn")
    write_folder(folder / "faces", 4 * COUNT, size=SIZE, faces_per_person=1, workers=0)
    faces = load_folder(folder / "faces", SIZE, cache=folder / "cache", workers=0, progress=False)
    with (folder / "faces" / "labels.csv").open(newline="", encoding="utf-8") as file:
        light = {row["file"]: float(row["skin_tone"]) < 0.4 for row in csv.DictReader(file)}
    matched = np.array([light[name] for name in faces.files])
    found, count = measure_failures(
        faces.images, matched, [random_space()], count=COUNT, draws=3, k=3, seed=0
    )
    assert count == COUNT
    return found


@pytest.mark.parametrize(
    ("failure", "score"),
    [
        ("few", ("random", "recall")),
        ("few", ("", "nearest two")),
        ("blur", ("random", "KID")),
        ("blur", ("", "sliced Wasserstein 48 px")),
        ("noise", ("random", "KID")),
        ("noise", ("", "sliced Wasserstein 48 px")),
        ("tint", ("random", "KID")),
        ("copies", ("random", "close to training")),
        ("missing", ("random", "KID")),
    ],
)
def test_each_failure_moves_the_scores_that_tell_of_it(rows, failure, score):
    assert moved(score[1], rows[score][failure], rows[score][FLOOR]) > CAUGHT


def test_copies_are_all_nearer_to_training_and_nothing_else_is(rows):
    nearer, close = rows["random", "nearer to training"], rows["random", "close to training"]
    assert min(nearer["copies"] + close["copies"]) == 1
    for failure in ("blur", "noise", "tint", "missing"):
        assert 0.25 < np.mean(nearer[failure]) < 0.75
        assert np.mean(close[failure]) < 0.2


def test_moved_by_hand():
    floor = [1.0, 2.0, 3.0]
    assert moved("FID", [5.0], floor) == pytest.approx(3)
    assert moved("recall", [5.0], floor) == pytest.approx(-3)
    assert moved("MS-SSIM", [0.0], floor) == pytest.approx(2)
    assert moved("sliced Wasserstein 48 px", [5.0], floor) == pytest.approx(3)


def test_the_table_marks_what_is_worse_and_what_deceives():
    rows = {
        ("random", "FID"): {FLOOR: [1.0, 2.0, 3.0], "blur": [12.0], "copies": [-8.0], "tint": [3.0]},
        ("", "MS-SSIM"): {FLOOR: [0.2, 0.2], "blur": [0.3], "copies": [0.2], "tint": [0.2]},
    }
    assert table(rows).splitlines() == [
        "| score | floor | blur | copies | tint |",
        "|---|---|---|---|---|",
        "| FID, random | 2.0 ± 1.0 | **12 (+10)** | *-8 (-10)* | 3 (+1) |",
        "| MS-SSIM | 0.200 ± 0.000 | **0.3 (> 999)** | 0.2 (+0) | 0.2 (+0) |",
    ]
