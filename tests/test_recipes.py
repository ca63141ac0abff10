"""The comparison of recipes: it goes on where it was stopped, and says what it cannot compare."""

from __future__ import annotations

import re
import shutil
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest

from engine.errors import UserError
from engine.png import load_png
from gan.metrics import compare as comparison
from gan.metrics.ms_ssim import mean_ms_ssim
from images.dataset import load_folder
from tests.conftest import TINY, run_training
from tests.in_process import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))

import recipes

from benchmarks import recipe_tables
from benchmarks.recipe_tables import worse_by


@pytest.fixture
def compare(many_pictures, train, monkeypatch):
    """Calls the script; a function takes the place of train_gan.py, from its words to its exit code."""
    monkeypatch.setattr(recipe_tables, "DRAWS", 2)
    monkeypatch.setitem(recipes.RECIPES, "plain", ("--plain", *TINY))
    # These would take most of the time.
    monkeypatch.setattr(comparison, "MAX_PIXEL_IMAGES", 10)
    monkeypatch.setattr(comparison, "mean_ms_ssim", partial(mean_ms_ssim, pairs=2))

    def call(training, *words: object, folder: Path = many_pictures) -> None:
        load_folder(folder, 32, cache="data/cache", workers=0)  # or two processes would be started for it
        words = ("recipes.py", folder, "--only", "plain", "--image-size", 32, "--output", "runs", *words)
        monkeypatch.setattr(recipes, "run_to_end", lambda script, *words, out: training(*words))
        with mock.patch.object(sys, "argv", list(map(str, words))):
            recipes.main()

    return call


@pytest.fixture
def done(many_pictures, train, monkeypatch):
    """Has the recipe of the tests trained, for 20 steps, where it is not."""
    monkeypatch.setitem(recipes.RECIPES, "plain", ("--plain", *TINY))
    choice = recipes.Choice(str(many_pictures), image_size=32, steps=20, output=Path("runs"))
    part = recipes.Part(str(many_pictures), "", np.arange(0))
    return lambda: recipes._trained(choice, "plain", 0, part)


def stopped(*words: object) -> int:
    """As by Ctrl-C after ten steps."""
    run_training(*words, "--steps", 10)
    return 130


def scored(*words: object) -> int:
    """To the end, with a score and so with a best."""
    return run_training(*words, "--score-every", 10)


def never(*words: object) -> int:
    raise AssertionError(f"this is trained already: {words}")


def test_what_was_stopped_goes_on_and_what_is_done_is_not_done_again(compare, done, capsys):
    with pytest.raises(UserError, match=r"exit code 130.*the same command goes on"):
        compare(stopped, "--steps", 20)
    compare(scored, "--steps", 20)
    assert len(list(Path("runs").glob("0*"))) == 1
    out = capsys.readouterr().out
    told = [line for line in out.splitlines() if line.startswith("| ")]
    assert told[0].startswith("| recipe | settings | step | s a step | minutes | KID | coverage | ")
    assert told[2].startswith("| real images |")
    assert told[3].startswith("| plain, seed 0 | --plain ")
    assert told[4].startswith("| plain, seed 0, its best | | 20 | ".replace("| |", "|  |"))
    assert told[7].startswith("| plain, seed 0 | 20 | 20 | ")
    assert told[7].endswith(" | +0.0% | +0.0 |")
    assert told[10].startswith("| plain, seed 0 | 20 | ")
    assert "20 generated images against 20 held out of 100" in out
    assert "nearer to training" not in out
    assert load_png("runs/samples.png").shape[0] == load_png("runs/scores.png").shape[0] == 3
    with mock.patch.object(recipes, "_train", never):
        assert done().parent == Path("runs")


def test_a_run_of_what_the_recipe_was_before_is_not_taken_for_it(compare, monkeypatch):
    with pytest.raises(UserError, match="exit code 130"):
        compare(stopped, "--steps", 20)
    monkeypatch.setitem(recipes.RECIPES, "plain", ("--plain", *TINY, "--beta2", "0.9"))
    with pytest.raises(UserError, match=r"trained with another --beta2 than its recipe has now.*--output"):
        compare(never, "--steps", 20)


def test_a_recipe_that_left_nothing_is_left_out(compare, capsys):
    with pytest.raises(UserError, match="nothing is left to compare"):
        compare(lambda *_: 3, "--steps", 20)
    told = capsys.readouterr().err
    assert "plain seed 0 went wrong beyond repair before its first checkpoint: left out" in told


def test_a_run_that_gave_up_is_not_begun_again(done, monkeypatch):
    def gives_up(*words: object) -> None:
        assert stopped(*words) == 130
        (run,) = Path("runs").glob("0*")
        (run / "events.txt").write_text("step 12: alarm: D wins\nstep 12: stopped: D wins, once more\n")

    monkeypatch.setattr(recipes, "_train", gives_up)
    first = done()
    monkeypatch.setattr(recipes, "_train", never)
    assert done() == first


def test_few_images_are_trained_on_beside_the_same_held_out_ones_and_copies_are_told(
    compare, many_pictures, capsys
):
    compare(scored, "--steps", 20, "--few", 30)
    data, few = (
        load_folder(folder, 32, cache="data/cache", workers=0, held_out=0.05)
        for folder in (many_pictures, *Path("runs").glob("images-30-*"))
    )
    assert len(few.trained) == 30
    assert set(few.fingerprints[few.held]) == set(data.fingerprints[data.held])
    assert set(few.fingerprints[few.trained]) < set(data.fingerprints[data.trained])
    _, _, told = capsys.readouterr().out.partition("Copies at the end")
    cells = [line.split(" | ") for line in told.splitlines() if line.startswith("| ")][2:]
    trained = str(len(data.trained))
    assert [row[:2] for row in cells] == [
        *(["| real images", trained], ["| plain, seed 0", trained]),
        *(["| real images", "30"], ["| plain, seed 0, 30 images", "30"]),
    ]
    assert all(re.fullmatch(r"0\.\d+ ± 0\.\d+ \[0\.\d{3}, [01]\.\d{3}\]", row[3]) for row in cells)


def test_copies_of_few_images_are_told(many_pictures):
    data = load_folder(many_pictures, 32, cache="data/cache", workers=0, held_out=0.05)
    judge = recipe_tables.Judge(data)
    rows = data.trained[:30]

    def copied(z: np.ndarray) -> np.ndarray:
        return data.images[np.resize(rows, len(z))][..., ::-1]

    shares = judge.copying(SimpleNamespace(images=copied, latent_size=4), rows)
    assert min(share.low for found in shares.values() for share in found) > 0.7
    floor = judge.copying_floor(rows)
    assert all(share.low < 0.5 < share.high for share in floor["nearer to training"])


@pytest.mark.parametrize("few", [5, 95])
def test_too_few_or_too_many_of_the_images_are_told(compare, few):
    with pytest.raises(UserError, match=r"--few must be \d\d, as many as are held out, to \d\d"):
        compare(never, "--few", few)


def test_how_much_worse_an_end_is_by_hand():
    # Of means 2 and 3 over a floor of 1, with variances of 1 and 4 over three draws: sqrt(5 / 3).
    share, errors = worse_by([1.0, 2.0, 3.0], [1.0, 3.0, 5.0], floor=1.0)
    assert share == pytest.approx(1)
    assert errors == pytest.approx((3 / 5) ** 0.5)


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
