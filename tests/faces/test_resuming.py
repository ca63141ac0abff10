"""What every training of a network that looks at faces tells, by each of the scripts."""

import shlex
import signal
from pathlib import Path

import pytest

from faces.landmarks.trainer import LandmarkTrainer
from faces.recognition.trainer import ClassifierTrainer
from tests.conftest import CLASSIFIER_FLAGS, LANDMARK_FLAGS
from tests.in_process import after_steps, call

FEW = ("--batch-size", 8, "--steps", 6, "--checkpoint-every", 2, "--score-every", 4)


@pytest.mark.parametrize(
    ("script", "learner", "flags", "folder", "output"),
    [
        ("train_classifier.py", ClassifierTrainer, CLASSIFIER_FLAGS, "drawn_people", "classifiers"),
        ("train_landmarks.py", LandmarkTrainer, LANDMARK_FLAGS, "drawn_faces", "landmarks"),
    ],
)
def test_a_run_that_is_stopped_tells_what_is_missing_and_how_to_go_on(
    script, learner, flags, folder, output, request, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("faces.recognition.report._draw", lambda *_: [])
    with after_steps(learner, {2, 5}, lambda: signal.raise_signal(signal.SIGINT)):
        told = call(script, request.getfixturevalue(folder), *flags, *FEW)
        assert told.code == 130
        assert told.lines[-2].endswith("checkpoints/step_000002.pt")
        (run,) = Path("outputs", output).iterdir()
        way = f"`python {script} --resume {shlex.quote(str(run))}` continues"
        assert told.lines[-1] == (f"stopped before step 6; the first score is due at step 4; {way}")
        told = call(script, "--resume")
        assert told.code == 130
        assert f"stopped before step 6; {way}" in told.lines
        told = call(script, "--resume")
    assert told.code == 0
    assert not any("continues" in line for line in told.lines)
