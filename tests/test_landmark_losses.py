"""The comparison of losses for landmarks: it goes on where it was stopped, and takes no run for another."""

from __future__ import annotations

import sys
from pathlib import Path
from unittest import mock

import pytest

from benchmarks import landmark_losses
from engine.errors import UserError
from tests.conftest import LANDMARK_FLAGS
from tests.in_process import succeed

TINY = (*map(str, LANDMARK_FLAGS), "--batch-size", "8", "--checkpoint-every", "1")


@pytest.fixture
def compare(drawn_faces, tmp_path, monkeypatch):
    """Calls the script; a function takes the place of train_landmarks.py, from its words to its exit code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(landmark_losses.RECIPES, "point", ("--loss", "point", *TINY))
    # That of the mean face would be of all images at full size.
    monkeypatch.setattr(landmark_losses, "_untrained", lambda _: dict.fromkeys(landmark_losses.SCORES, 0.5))

    def call(training) -> None:
        monkeypatch.setattr(landmark_losses, "run_to_end", lambda script, *words, out: training(*words))
        words = ("losses.py", drawn_faces, "--only", "point", "--steps", 2, "--seeds", 0, "--output", "runs")
        with mock.patch.object(sys, "argv", list(map(str, words))):
            landmark_losses.main()

    return call


def trained(*words: object) -> int:
    return succeed("train_landmarks.py", *words).code


def stopped(*words: object) -> int:
    """As by Ctrl-C after a step."""
    return trained(*words, "--minutes", 1e-6) or 130


def never(*words: object) -> int:
    raise AssertionError(f"this is trained already: {words}")


def test_what_was_stopped_goes_on_and_other_settings_are_told(compare, capsys, monkeypatch):
    with pytest.raises(UserError, match="code 130; the same command goes on"):
        compare(stopped)
    compare(trained)
    assert len(list(Path("runs").iterdir())) == 1
    compare(never)
    assert "| point | " in capsys.readouterr().out
    monkeypatch.setitem(landmark_losses.RECIPES, "point", ("--loss", "point", *TINY, "--turn", "3"))
    with pytest.raises(UserError, match="was trained with another --turn than its row has now"):
        compare(never)
