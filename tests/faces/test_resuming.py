"""Messages of interrupted runs: what is missing, and how to resume."""

import shlex
import shutil
import signal
from pathlib import Path

import pytest

from faces.landmarks.trainer import LandmarkTrainer
from faces.recognition.trainer import ClassifierTrainer
from tests.conftest import CLASSIFIER_FLAGS, LANDMARK_FLAGS
from tests.in_process import after_steps, call, refusal, succeed

SHORT_RUN = ("--batch-size", 8, "--steps", 6, "--checkpoint-every", 2, "--score-every", 4)


@pytest.mark.parametrize(
    ("script", "trainer", "flags", "folder", "output"),
    [
        ("train_classifier.py", ClassifierTrainer, CLASSIFIER_FLAGS, "drawn_people", "classifiers"),
        ("train_landmarks.py", LandmarkTrainer, LANDMARK_FLAGS, "drawn_faces", "landmarks"),
    ],
)
def test_interrupted_run_reports_how_to_resume(
    script, trainer, flags, folder, output, request, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("faces.recognition.report._draw", lambda *_: [])
    with after_steps(trainer, {2, 5}, lambda: signal.raise_signal(signal.SIGINT)):
        result = call(script, request.getfixturevalue(folder), *flags, *SHORT_RUN)
        assert result.code == 130
        assert result.lines[-2].endswith("checkpoints/step_000002.pt")
        (run,) = Path("outputs", output).iterdir()
        command = f"`python {script} --resume {shlex.quote(str(run))}` continues"
        assert result.lines[-1] == f"stopped before step 6; the first score is due at step 4; {command}"
        result = call(script, "--resume")
        assert result.code == 130
        assert f"stopped before step 6; {command}" in result.lines
        assert not any("continues" in line for line in succeed(script, "--resume").lines)


@pytest.mark.parametrize(
    ("script", "trainer", "flags", "fixture"),
    [
        ("train_classifier.py", ClassifierTrainer, CLASSIFIER_FLAGS, "drawn_people"),
        ("train_landmarks.py", LandmarkTrainer, LANDMARK_FLAGS, "drawn_faces"),
    ],
)
def test_a_folder_that_is_gone_is_named_with_the_way_to_continue(
    script, trainer, flags, fixture, request, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("faces.recognition.report._draw", lambda *_: [])
    folder = Path(shutil.copytree(request.getfixturevalue(fixture), tmp_path / "before"))
    if script == "train_landmarks.py":
        flags = (*flags, "--csv", folder / "labels.csv")
    with after_steps(trainer, {2}, lambda: signal.raise_signal(signal.SIGINT)):
        assert call(script, folder, *flags, *SHORT_RUN).code == 130
    moved = folder.rename(tmp_path / "after")
    line = refusal(script, "--resume")
    assert f"{folder}, which " in line
    assert f"`python {script} NEWFOLDER --resume outputs/" in line
    words = [moved, "--resume"]
    if script == "train_landmarks.py":
        assert "is no longer there: give the new --csv" in refusal(script, *words)
        words += ["--csv", moved / "labels.csv"]
    assert any("resuming" in line for line in succeed(script, *words).lines)
