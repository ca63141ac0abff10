"""The comparison of landmark losses: reuse of runs."""

from __future__ import annotations

import sys
from pathlib import Path
from unittest import mock

import pytest

from engine.errors import UserError
from experiments import landmark_losses, running
from tests.conftest import LANDMARK_FLAGS
from tests.in_process import succeed

TINY = (*map(str, LANDMARK_FLAGS), "--batch-size", "8", "--checkpoint-every", "1")


@pytest.fixture
def compare(drawn_faces, tmp_path, monkeypatch):
    """Calls the script; a function from train_landmarks.py's arguments takes the place of `call_script`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(landmark_losses.RECIPES, "point", ("--loss", "point", *TINY))
    # The scores of the mean face would be of all images at full size.
    untrained = dict.fromkeys(landmark_losses.FORMATS, 0.5)
    monkeypatch.setattr(landmark_losses, "_untrained_scores", lambda _: untrained)

    def call(train) -> None:
        monkeypatch.setattr(running, "call_script", lambda script, *arguments, **_: train(*arguments))
        argv = ["losses.py", drawn_faces, "--only", "point", "--steps", 2, "--seeds", 0, "--output", "runs"]
        with mock.patch.object(sys, "argv", list(map(str, argv))):
            landmark_losses.main()

    return call


def train(*arguments: object) -> None:
    succeed("train_landmarks.py", *arguments)


def stop_early(*arguments: object) -> None:
    """Stops after a step, as by Ctrl-C."""
    train(*arguments, "--minutes", 1e-6)
    raise UserError("stopped")


def refuse_to_train(*arguments: object) -> None:
    raise AssertionError(f"this run is finished already: {arguments}")


def test_runs_are_resumed_and_reused_and_other_settings_refused(compare, capsys, monkeypatch):
    with pytest.raises(UserError, match="stopped"):
        compare(stop_early)
    compare(train)
    assert len(list(Path("runs").iterdir())) == 1
    compare(refuse_to_train)
    assert "| point | " in capsys.readouterr().out
    monkeypatch.setitem(landmark_losses.RECIPES, "point", ("--loss", "point", *TINY, "--turn", "3"))
    with pytest.raises(UserError, match="was trained with a different --turn; give another folder"):
        compare(refuse_to_train)
