"""A run that scores itself against images it never trains on, and keeps its best networks."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.checkpoint import load
from engine.finite import EXIT_DIVERGED
from engine.runs import best_path, checkpoints
from gan.generator import load_generator
from gan.trainer import Trainer
from images.dataset import load_folder
from tests.conftest import run_training
from tests.in_process import call
from tests.run_contents import assert_same_run, config, lines, newest
from tests.states import assert_equal

EVERY = ("--score-every", 1, "--keep", 1, "--sample-every", 4)


@pytest.fixture(scope="module")
def scored(many_pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 7 steps, each scored; checkpoints at 2, 4, 6 and the end, of which the last is kept."""
    with contextlib.chdir(tmp_path_factory.mktemp("scored")):
        assert run_training(many_pictures, *EVERY, "--steps", 7) == 0
        return newest().absolute()


@pytest.fixture
def run(scored: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    return Path(shutil.copytree(scored, tmp_path / "outputs" / scored.name))


def test_a_fifth_of_few_images_is_held_out_and_makes_no_difference_to_the_weights(
    many_pictures, run, train, tmp_path, capsys
):
    data = load_folder(many_pictures, 32, cache=tmp_path / "cache", workers=0, held_out=0.05)
    assert config(run)["data"]["held_out"] == data.held_out.sum() >= 20
    trained = shutil.copytree(many_pictures, tmp_path / "trained on")
    for name in np.array(data.files)[data.held_out]:
        (trained / str(name)).unlink()
    capsys.readouterr()
    assert train(trained, "--held-out", 0, "--steps", 7) == 0
    assert "not scored" in capsys.readouterr().out
    assert_equal(load(checkpoints(newest())[-1])["generator"], load(checkpoints(run)[-1])["generator"])


def test_the_best_is_that_of_the_lowest_mean_of_three_scores(run):
    scores = [line["score/kid"] for line in lines(run)]
    means = [np.mean(scores[max(0, index - 2) : index + 1]) for index in range(7)]
    best = load(best_path(run))
    assert best["step"] == 1 + int(np.argmin(means))
    assert best["course"]["best"]["score"] == pytest.approx(min(means))
    assert [load(path)["step"] for path in checkpoints(run)] == [7]


def test_scripts_take_the_best_and_say_so_unless_told_otherwise(run):
    best, newest_one = load(best_path(run))["step"], 7
    code, told, _ = call("sample.py", run)
    assert (code, f"best.pt (step {best}, the run's best)" in told[0]) == (0, True)
    assert load_generator(run).is_best
    code, told, _ = call("interpolate.py", run, "--tiles", 0, 1, "--checkpoint", "newest")
    assert (code, f"(step {newest_one})" in "".join(told)) == (0, True)
    code, told, _ = call("sample.py", run, "--checkpoint", "best")
    assert (code, "the run's best" in told[0]) == (0, True)


def test_a_damaged_best_gives_way_to_the_newest(run):
    cut = best_path(run).read_bytes()[:1000]
    best_path(run).unlink()  # it may be another name of the newest
    best_path(run).write_bytes(cut)
    generator = load_generator(run)
    assert (generator.step, generator.is_best) == (7, False)
    code, _, error = call("sample.py", run, "--checkpoint", "best")
    assert code == 2
    assert "best.pt is damaged" in error


def test_no_best_where_nothing_was_scored(many_pictures, train):
    assert train(many_pictures, "--held-out", 0, "--steps", 2) == 0
    assert not best_path(newest()).exists()
    code, _, error = call("sample.py", newest(), "--checkpoint", "best")
    assert code == 2
    assert "has no best checkpoint" in error


def test_going_on_is_the_same_run_with_the_same_best(many_pictures, run, train):
    assert train(many_pictures, *EVERY, "--steps", 4) == 0
    resumed = newest()
    # As a kill leaves it that comes between writing the checkpoint and keeping it as the best.
    if load(best_path(resumed))["step"] == 4:
        best_path(resumed).unlink()
    assert train("--resume", resumed, "--steps", 7) == 0
    assert_same_run(resumed, run)
    assert_equal(load(best_path(resumed)), load(best_path(run)))


def test_the_best_stays_when_its_step_is_no_longer_kept(run):
    best = load(best_path(run))["step"]
    for path in checkpoints(run):
        path.unlink()
    assert load_generator(run).step == best


def test_what_nothing_mends_ends_with_a_code_of_its_own_one_line_and_the_best(
    many_pictures, train, monkeypatch, capsys
):
    whole = Trainer.step

    def poisoned(self: Trainer) -> None:
        whole(self)
        if self.step_count == 5:
            with torch.no_grad():
                self.discriminator.head.weight[0, 0] = float("nan")

    monkeypatch.setattr(Trainer, "step", poisoned)
    assert train(many_pictures, *EVERY, "--steps", 8) == EXIT_DIVERGED == 3
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("stopped: ")]
    assert len(told) == 1
    assert f"again after 3 rollbacks; the checkpoints in {newest()}/checkpoints predate that" in told[0]
    assert load(best_path(newest()))["step"] <= 4
    assert load_generator(newest()).is_best
