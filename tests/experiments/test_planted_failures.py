"""The scores must notice failures planted in drawn faces."""

from __future__ import annotations

import csv
from functools import partial

import numpy as np
import pytest

from experiments import planted_failures
from experiments.planted_failures import (
    CHANGES,
    FLOOR,
    THRESHOLD,
    copies_table,
    deviations,
    measure_copies,
    measure_failures,
    table,
)
from faces.drawn import write_folder
from gan.metrics import compare as comparison
from gan.metrics.distribution import kid
from gan.metrics.features import extract, random_space
from gan.metrics.ms_ssim import mean_ms_ssim
from images.dataset import load_folder

SIZE, COUNT = 48, 100


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """400 drawn people, and how dark the skin of each is."""
    folder = tmp_path_factory.mktemp("drawn")
    write_folder(folder / "faces", 4 * COUNT, size=SIZE, faces_per_person=1, workers=0)
    found = load_folder(folder / "faces", SIZE, cache=folder / "cache", workers=0, progress=False)
    with (folder / "faces" / "labels.csv").open(newline="", encoding="utf-8") as file:
        tones = {row["file"]: float(row["skin_tone"]) for row in csv.DictReader(file)}
    return found.images, np.array([tones[name] for name in found.files])


@pytest.fixture(scope="module")
def rows(faces):
    """What is measured on them.

    With a tenth of the benchmark's images a floor varies ten times as much: so what is done to
    the images is twice as strong. Over five seeds KID, recall and textures then moved by 7 spreads or more.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planted_failures, "TINT", (24, 0, -24))
        patch.setattr(planted_failures, "NOISE", 20)
        patch.setattr(planted_failures, "BLUR", 2 / 96)
        # These would take most of the time.
        patch.setattr(comparison, "MAX_PIXEL_IMAGES", 50)
        patch.setattr(comparison, "mean_ms_ssim", partial(mean_ms_ssim, pairs=2))
        nobody = np.zeros(4 * COUNT, bool)
        found, count = measure_failures(faces[0], nobody, [random_space()], count=COUNT, draws=3, k=3, seed=0)
    assert count == COUNT
    return found


@pytest.mark.parametrize(
    ("failure", "score"),
    [
        ("few", ("random", "KID")),
        ("few", ("random", "recall")),
        ("blur", ("random", "KID")),
        ("blur", ("", "sliced Wasserstein 48 px")),
        ("noise", ("random", "KID")),
        ("noise", ("", "sliced Wasserstein 48 px")),
        ("tint", ("random", "KID")),
        ("copies", ("", "close to training")),
    ],
)
def test_each_failure_moves_the_scores_that_measure_it(rows, failure, score):
    assert deviations(score[1], rows[score][failure], rows[score][FLOOR]) > THRESHOLD


def test_only_copies_raise_the_copy_scores(rows):
    nearer, close = rows["random", "nearer to training"], rows["", "close to training"]
    assert min(nearer["copies"] + close["copies"]) == 1
    for failure in ("blur", "noise", "tint"):
        assert 0.25 < np.mean(nearer[failure]) < 0.75
        assert np.mean(close[failure]) < 0.2


def test_missing_skin_tones_move_kid_and_missing_random_faces_do_not(faces):
    # It moves a hundred images' KID by 3 to 5 spreads, which takes many splits to tell from chance.
    images, tones = faces
    features = extract(random_space(), images)
    dark, anybody = tones > np.median(tones), np.random.default_rng(1).random(len(images)) > 0.5
    found: dict[str, list[float]] = {FLOOR: [], "dark": [], "anybody": []}
    for split in range(30):
        known, rest = np.split(np.random.default_rng(split).permutation(len(images)), [90])
        kept = {FLOOR: rest, "dark": rest[~dark[rest]], "anybody": rest[~anybody[rest]]}
        for name, which in kept.items():
            found[name].append(kid(features[known], features[which[:90]]).mean)
    assert deviations("KID", found["dark"], found[FLOOR]) > 2
    assert abs(deviations("KID", found["anybody"], found[FLOOR])) < 1


def test_matched_images_are_excluded_from_the_failure_missing(monkeypatch):
    levels = np.arange(40)
    images = np.broadcast_to(levels[:, None, None, None], (40, 3, 32, 32)).astype(np.uint8)
    judged = []
    monkeypatch.setattr(planted_failures, "compare", lambda real, what, **_: judged.append(what) or {})
    monkeypatch.setattr(planted_failures, "memorization_scores", lambda *_, **__: {})
    measure_failures(images, levels % 3 == 0, [], count=8, draws=1, k=3, seed=0)
    assert len(judged) == 7
    assert not (judged[-1].images % 3 == 0).all((1, 2, 3)).any()
    assert len(judged[-1].images) == 8


def test_deviations_by_hand():
    floor = [1.0, 2.0, 3.0]
    assert deviations("FID", [5.0], floor) == pytest.approx(3)
    assert deviations("recall", [5.0], floor) == pytest.approx(-3)
    assert deviations("MS-SSIM", [0.0], floor) == pytest.approx(2)
    assert deviations("sliced Wasserstein 48 px", [5.0], floor) == pytest.approx(3)


def test_table_marks_worse_and_misled_scores():
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


def test_changed_copies_are_close_to_training_and_other_images_are_not(faces):
    rows = measure_copies(faces[0], count=50, draws=2, seed=0)
    assert list(rows) == ["none: other real images", *CHANGES]
    assert np.mean(rows.pop("none: other real images")) < 0.1
    # Beyond what a thumbnail tolerates.
    for name in ("shifted by 4 px", "zoomed by 10%", "rotated by 5°"):
        del rows[name]
    for name, values in rows.items():
        assert min(values) > 0.85, name
    assert copies_table({"blur": [0.5, 1.0]}).splitlines()[-1] == "| blur | 0.75 ± 0.35 |"
