"""The comparison of recipes: reuse of runs, tables, and refusals."""

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
from experiments import recipe_tables, recipes, running
from experiments.recipe_tables import degradation, settling
from gan.metrics import compare as comparison
from gan.metrics.ms_ssim import mean_ms_ssim
from images.dataset import load_folder
from tests.conftest import TINY, run_training


@pytest.fixture
def compare(many_pictures, train, monkeypatch):
    """Calls the script; a function from train_gan.py's arguments takes the place of `call_script`."""
    monkeypatch.setattr(recipe_tables, "DRAWS", 2)
    monkeypatch.setitem(recipes.RECIPES, "textbook", ("--preset", "textbook", *TINY))
    # These would take most of the time.
    monkeypatch.setattr(comparison, "MAX_PIXEL_IMAGES", 10)
    monkeypatch.setattr(comparison, "mean_ms_ssim", partial(mean_ms_ssim, pairs=2))

    def call(train, *flags: object, folder: Path = many_pictures) -> None:
        load_folder(folder, 32, cache="data/cache", workers=0)  # or two processes would be started for it
        monkeypatch.setattr(running, "call_script", lambda script, *arguments, **_: train(*arguments))
        argv = ["recipes.py", folder, "--only", "textbook", "--image-size", 32, "--output", "runs", *flags]
        with mock.patch.object(sys, "argv", list(map(str, argv))):
            recipes.main()

    return call


def stop_early(*arguments: object) -> None:
    """Stops after ten steps, as by Ctrl-C."""
    run_training(*arguments, "--steps", 10)
    raise UserError("stopped")


def train_to_end(*arguments: object) -> None:
    """Scores the last step, so that there is a best one."""
    run_training(*arguments, "--score-every", 10)


def refuse_to_train(*arguments: object) -> None:
    raise AssertionError(f"this run is finished already: {arguments}")


def test_stopped_runs_are_resumed_and_finished_runs_reused(compare, capsys):
    with pytest.raises(UserError, match="stopped"):
        compare(stop_early, "--steps", 20)
    compare(train_to_end, "--steps", 20)
    assert len(list(Path("runs").glob("0*"))) == 1
    out = capsys.readouterr().out
    lines = [line for line in out.splitlines() if line.startswith("| ")]
    assert lines[0].startswith("| recipe | settings | step | s a step | minutes | KID | recall | coverage | ")
    assert lines[2].startswith("| real images |")
    assert lines[3].startswith("| textbook, seed 0 | --preset textbook ")
    assert lines[4].startswith("| textbook, seed 0, its best |  | 20 | ")
    assert lines[7].startswith("| textbook, seed 0 | 20 | 20 | ")
    assert lines[7].endswith(" | +0.0% | +0.0 |")
    assert lines[10].startswith("| textbook, seed 0 | 20 | ")
    assert "20 generated images against 20 held out of 100" in out
    assert "nearer to training" not in out
    assert load_png("runs/samples.png").shape[0] == load_png("runs/scores.png").shape[0] == 3
    with (
        mock.patch.object(recipes, "print_scores", side_effect=InterruptedError),
        pytest.raises(InterruptedError),
    ):
        compare(refuse_to_train, "--steps", 20)


def test_a_run_with_earlier_settings_of_its_recipe_is_refused(compare, monkeypatch):
    with pytest.raises(UserError, match="stopped"):
        compare(stop_early, "--steps", 20)
    monkeypatch.setitem(recipes.RECIPES, "textbook", ("--preset", "textbook", *TINY, "--beta2", "0.9"))
    with pytest.raises(UserError, match=r"trained with a different --beta2;.*--output"):
        compare(refuse_to_train, "--steps", 20)


def test_a_recipe_without_a_checkpoint_is_left_out(compare, capsys):
    with pytest.raises(UserError, match="no run has a checkpoint"):
        compare(lambda *_: None, "--steps", 20)
    assert "textbook seed 0 failed before its first checkpoint and is left out" in capsys.readouterr().err


def test_a_run_that_gave_up_is_not_resumed(compare):
    with pytest.raises(UserError, match="stopped"):
        compare(stop_early, "--steps", 20)
    (run,) = Path("runs").glob("0*")
    (run / "events.txt").write_text("step 12: alarm: D wins\nstep 12: stopped: D wins, once more\n")
    with (
        mock.patch.object(recipes, "print_scores", side_effect=InterruptedError),
        pytest.raises(InterruptedError),
    ):
        compare(refuse_to_train, "--steps", 20)


def test_a_subset_keeps_the_held_out_images_and_reports_copies(compare, many_pictures, capsys):
    compare(train_to_end, "--steps", 20, "--few", 30)
    data, subset = (
        load_folder(folder, 32, cache="data/cache", workers=0, held_out=0.05)
        for folder in (many_pictures, *Path("runs").glob("images-30-*"))
    )
    assert len(subset.training_indices) == 30
    assert set(subset.fingerprints[subset.held_out]) == set(data.fingerprints[data.held_out])
    assert set(subset.fingerprints[subset.training_indices]) < set(data.fingerprints[data.training_indices])
    _, _, table = capsys.readouterr().out.partition("Copies at the end")
    cells = [line.split(" | ") for line in table.splitlines() if line.startswith("| ")][2:]
    trained = str(len(data.training_indices))
    assert [row[:2] for row in cells] == [
        *(["| real images", trained], ["| textbook, seed 0", trained]),
        *(["| real images", "30"], ["| textbook, seed 0, 30 images", "30"]),
    ]
    assert all(re.fullmatch(r"0\.\d+ ± 0\.\d+ \[0\.\d{3}, [01]\.\d{3}\]", row[3]) for row in cells)


def test_copies_of_a_subset_are_detected(many_pictures):
    data = load_folder(many_pictures, 32, cache="data/cache", workers=0, held_out=0.05)
    scorer = recipe_tables.HeldOutScorer(data)
    rows = data.training_indices[:30]

    def copy_rows(z: np.ndarray) -> np.ndarray:
        return data.images[np.resize(rows, len(z))][..., ::-1]

    shares = scorer.copies(SimpleNamespace(images=copy_rows, latent_size=4), rows)
    assert min(share.low for draws in shares.values() for share in draws) > 0.7
    floor = scorer.copies_floor(rows)
    assert all(share.low < 0.5 < share.high for share in floor["nearer to training"])


@pytest.mark.parametrize("few", [5, 95])
def test_a_subset_that_is_too_small_or_too_large_is_refused(compare, few):
    with pytest.raises(UserError, match=r"--few must be \d\d \(the number of held-out images\) to \d\d"):
        compare(refuse_to_train, "--few", few)


def test_degradation_by_hand():
    # Means 2 and 3 over a floor of 1, variances 1 and 4 over three draws: sqrt(5 / 3).
    relative, errors = degradation([1.0, 2.0, 3.0], [1.0, 3.0, 5.0], floor=1.0)
    assert relative == pytest.approx(1)
    assert errors == pytest.approx((3 / 5) ** 0.5)


def test_settling_by_hand():
    kid, raw = [9.0, 4.0, 2.0, 1.0, 1.5, 1.2], [9.0, 9.0, 9.0, 9.0, 3.0, 3.6]
    assert settling(kid, raw) == pytest.approx((2.5, 1.5))
    assert settling([2.0], [3.0]) == (1.5, 1.0)


def test_whether_runs_settle_is_printed_for_those_with_an_average(capsys):
    steps, kid = [250, 500, 750], [4.0, 2.0, 1.0]
    metrics = {"score/kid": (steps, kid), "score/kid_raw": (steps, [5.0, 4.0, 3.0])}
    runs = [
        SimpleNamespace(name="default, seed 0", metrics=metrics),
        SimpleNamespace(name="textbook", metrics={}),
    ]
    recipe_tables.print_settling(runs)
    assert capsys.readouterr().out.splitlines()[-1] == "| default, seed 0 | 3.00 | 1.00 |"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--only", "magic"), "unknown recipe magic"),
        (("--steps", 19), "--steps must be 20 or more"),
        (("--seeds", -1), "--seed must be 0 or more"),
        (("--image-size", 50), "nearest: 48 or 64"),
    ],
)
def test_bad_flags_are_refused_before_training(compare, flags, message):
    with pytest.raises(UserError, match=message):
        compare(refuse_to_train, *flags)


def test_too_few_images_are_refused_before_training(compare, pictures):
    Path("few").mkdir()
    for picture in sorted(pictures.iterdir())[:10]:
        shutil.copy(picture, "few")
    with pytest.raises(UserError, match=r"needs at least \d real images"):
        compare(refuse_to_train, folder=Path("few"))
