"""The comparison of recipes: it goes on where it was stopped, and says what it cannot compare."""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest

from gan import comparison
from gan.dataset import load_folder
from gan.errors import UserError
from gan.images import load_png
from gan.metrics.diversity import mean_similarity
from tests.conftest import TINY, run_training
from tests.in_process import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))

import recipes


@pytest.fixture
def compare(many_pictures, train, monkeypatch):
    """Calls the script; a function takes the place of train_gan.py, from its words to its exit code."""
    monkeypatch.setattr(recipes, "DRAWS", 2)
    monkeypatch.setitem(recipes.RECIPES, "plain", ("--plain", *TINY))
    # These would take most of the time.
    monkeypatch.setattr(comparison, "PIXELS_OF", 10)
    monkeypatch.setattr(comparison, "mean_similarity", partial(mean_similarity, pairs=2))

    def call(training, *words: object, folder: Path = many_pictures) -> None:
        def run(command: list[object], **_: object) -> subprocess.CompletedProcess[str]:
            return subprocess.CompletedProcess([], training(*command[2:]))

        load_folder(folder, 32, cache="data/cache", workers=0)  # or two processes would be started for it
        words = ("recipes.py", folder, "--only", "plain", "--image-size", 32, "--output", "runs", *words)
        monkeypatch.setattr(recipes, "subprocess", SimpleNamespace(run=run))
        with mock.patch.object(sys, "argv", list(map(str, words))):
            recipes.main()

    return call


def stopped(*words: object) -> int:
    """As by Ctrl-C after ten steps."""
    run_training(*words, "--steps", 10)
    return 130


def scored(*words: object) -> int:
    """To the end, with a score and so with a best."""
    return run_training(*words, "--score-every", 10)


def never(*words: object) -> int:
    raise AssertionError(f"this is trained already: {words}")


def test_what_was_stopped_goes_on_and_what_is_done_is_not_done_again(compare, many_pictures, capsys):
    with pytest.raises(UserError, match=r"exit code 130.*the same command goes on"):
        compare(stopped, "--steps", 20)
    compare(scored, "--steps", 20)
    assert len(list(Path("runs").glob("0*"))) == 1
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert told[0].startswith("| recipe | step | s a step | KID | coverage | checkerboard | nearest two |")
    assert told[2].startswith("| real images |")
    assert told[3].startswith("| plain, seed 0 | 20 | ")
    assert told[4].startswith("| plain, seed 0, its best | 20 | ")
    assert load_png("runs/samples.png").shape[0] == load_png("runs/scores.png").shape[0] == 3
    with mock.patch.object(recipes, "_train", never):
        done = recipes.Choice(str(many_pictures), image_size=32, steps=20, output=Path("runs"))
        assert recipes._trained(done, "plain", 0).parent == Path("runs")


def test_a_run_of_what_the_recipe_was_before_is_not_taken_for_it(compare, monkeypatch):
    with pytest.raises(UserError, match="exit code 130"):
        compare(stopped, "--steps", 20)
    monkeypatch.setitem(recipes.RECIPES, "plain", ("--plain", *TINY, "--beta2", "0.9"))
    with pytest.raises(UserError, match=r"trained with another --beta2 than its recipe has now.*--output"):
        compare(never, "--steps", 20)


def test_a_recipe_that_left_nothing_is_one_line(compare):
    with pytest.raises(UserError, match="plain seed 0 went wrong beyond repair before its first checkpoint"):
        compare(lambda *_: 3, "--steps", 20)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--only", "magic"), "no recipe is called magic"),
        (("--steps", 19), "--steps must be 20 or more"),
        (("--seeds", -1), "--seed must be 0 or more"),
        (("--image-size", 50), "nearest: 48 or 64"),
    ],
)
def test_mistakes_are_told_before_anything_is_trained(compare, words, message):
    with pytest.raises(UserError, match=message):
        compare(never, *words)


def test_too_few_images_are_told_before_anything_is_trained(compare, pictures):
    Path("few").mkdir()
    for picture in sorted(pictures.iterdir())[:10]:
        shutil.copy(picture, "few")
    with pytest.raises(UserError, match=r"needs at least \d real images"):
        compare(never, folder=Path("few"))
