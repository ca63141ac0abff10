"""train_landmarks.py on tables with points that are not marked, and on the five points of detectors."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from faces.landmarks.annotations import read_annotations, write_landmarks
from faces.landmarks.point_set import load_point_set
from tests.conftest import LANDMARK_FLAGS, copy_some_annotated
from tests.in_process import refusal, succeed

refuse = partial(refusal, "train_landmarks.py")
SHORT = (*LANDMARK_FLAGS, "--batch-size", 8, "--steps", 4, "--score-every", 2, "--log-every", 1)
INDICES = load_point_set("drawn-29").indices


@pytest.fixture
def folder(drawn_faces, tmp_path, monkeypatch) -> Path:
    """A copy of 30 drawn faces that a test may change; its parent is the working directory."""
    monkeypatch.chdir(tmp_path)
    return copy_some_annotated(drawn_faces, 30, tmp_path / "faces")


def train(*argv: object) -> list[str]:
    """The lines printed by a run that must succeed."""
    return succeed("train_landmarks.py", *argv).lines


@pytest.mark.parametrize("loss", ["wing", "triangles", "areas"])
def test_unmarked_points_are_masked_and_reported_once(folder, loss):
    annotations = read_annotations(folder)
    chin, pupil, eye = INDICES(["chin", "pupil_left", "eye_left_outer"])
    annotations.points[::2, chin] = np.nan
    annotations.points[3:6, pupil] = -1
    annotations.points[9, eye] = 0
    write_landmarks(folder / "labels.csv", annotations.files, annotations.points)
    lines = train(folder, *SHORT, "--loss", loss)
    assert "29 faces of" in lines[0]
    assert "outside their image: 0 points of 0 faces" in lines[0]
    assert "row 11: eye_left_outer and eye_right_outer" in lines[1]
    assert lines[1].endswith("are not both marked")
    assert [line for line in lines if "not marked" in line] == [
        "not marked: 19 points of 18 faces; loss and scores omit them",
        "1 of 30 faces have points at 0, 0, which counts as not marked",
    ]
    (run,) = Path("outputs/landmarks").iterdir()
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert all(np.isfinite(value) for line in metrics for value in line.values())
    assert any("score/nme" in line for line in metrics)
    assert json.loads((run / "config.json").read_text())["data"]["points_unmarked"] == 18


def test_point_that_no_face_has_is_refused(folder):
    annotations = read_annotations(folder)
    annotations.points[:, INDICES(["chin"])] = np.nan
    write_landmarks(folder / "labels.csv", annotations.files, annotations.points)
    assert "has no face to train on with a marked chin; remove the columns" in refuse(folder, *SHORT)


def test_five_points_of_a_detector_need_no_point_set(folder):
    annotations = read_annotations(folder)
    names = ("pupil_left", "pupil_right", "nose_tip", "mouth_left", "mouth_right")
    points = annotations.points[:, INDICES(names)]
    write_landmarks(folder / "labels.csv", annotations.files, points)
    lines = train(folder, *SHORT)
    assert "5 points each (faces-5)" in lines[0]
    assert not any("mouth" in line for line in lines)
    write_landmarks(folder / "labels.csv", annotations.files, points[:, [1, 0, 2, 3, 4]])
    line = refuse(folder, *SHORT)
    assert "not in the order of faces-5 (eye_left, eye_right, nose, mouth_left, mouth_right;" in line
    assert "on most faces the left eye is to the right of the right eye" in line
