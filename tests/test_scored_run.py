"""A run that is scored on held-out images and keeps its best networks."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import numpy as np
import pytest

from engine.checkpoint import load
from engine.finite import EXIT_DIVERGED
from engine.runs import best_path, checkpoints
from gan.generator import load_generator
from gan.loop import GanLoop
from gan.trainer import Trainer
from images.dataset import load_folder
from tests.conftest import run_training
from tests.in_process import call
from tests.run_contents import assert_same_run, newest_run, read_config, read_metrics
from tests.small_trainer import set_weight
from tests.states import assert_equal

FLAGS = ("--score-every", 1, "--keep", 1, "--sample-every", 4)


@pytest.fixture(scope="module")
def scored(many_pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 7 steps, each scored; the newest checkpoint and the best are kept."""
    with contextlib.chdir(tmp_path_factory.mktemp("scored")):
        assert run_training(many_pictures, *FLAGS, "--steps", 7) == 0
        return newest_run().absolute()


@pytest.fixture
def run(scored: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(scored, tmp_path / "outputs" / scored.name))


def test_held_out_images_are_not_trained_on(many_pictures, run, train, tmp_path, capsys):
    data = load_folder(many_pictures, 32, cache=tmp_path / "cache", workers=0, held_out=0.05)
    assert read_config(run)["data"]["held_out"] == data.held_out.sum() >= 20
    remaining = shutil.copytree(many_pictures, tmp_path / "remaining")
    for name in np.array(data.files)[data.held_out]:
        (remaining / str(name)).unlink()
    capsys.readouterr()
    assert train(remaining, "--held-out", 0, "--steps", 7) == 0
    assert "not scored" in capsys.readouterr().out
    assert_equal(load(checkpoints(newest_run())[-1])["generator"], load(checkpoints(run)[-1])["generator"])
    assert not best_path(newest_run()).exists()
    ended = call("sample.py", newest_run(), "--checkpoint", "best")
    assert ended.code == 2
    assert "has no best checkpoint" in ended.error


def test_the_best_checkpoint_has_the_lowest_mean_of_three_scores(run):
    scores = [line["score/kid"] for line in read_metrics(run)]
    means = [np.mean(scores[max(0, index - 2) : index + 1]) for index in range(7)]
    best = load(best_path(run))
    assert best["step"] == 1 + int(np.argmin(means))
    assert best["course"]["best"]["score"] == pytest.approx(min(means))
    assert [load(path)["step"] for path in checkpoints(run)] == [7]


def test_scripts_use_the_best_checkpoint_by_default_and_name_it(run):
    best = load(best_path(run))["step"]
    assert load_generator(run).is_best
    for argv, text in (
        (("sample.py", run), f"best.pt (step {best}, the run's best by the mean of three KIDs)"),
        (("sample.py", run, "--checkpoint", "best"), "the run's best"),
        (("interpolate.py", run, "--tiles", 0, 1, "--checkpoint", "newest"), "(step 7)"),
    ):
        ended = call(*argv)
        assert ended.code == 0
        assert text in "".join(ended.lines)


def test_a_damaged_best_checkpoint_gives_way_to_the_newest(run):
    truncated = best_path(run).read_bytes()[:1000]
    best_path(run).unlink()  # it may be a hard link to the newest
    best_path(run).write_bytes(truncated)
    generator = load_generator(run)
    assert (generator.step, generator.is_best) == (7, False)
    ended = call("sample.py", run, "--checkpoint", "best")
    assert ended.code == 2
    assert "best.pt is damaged" in ended.error


def test_a_resumed_run_keeps_the_same_best_checkpoint(many_pictures, run, train):
    assert train(many_pictures, *FLAGS, "--steps", 4) == 0
    resumed = newest_run()
    # As after a kill between saving the checkpoint and saving it as the best.
    if load(best_path(resumed))["step"] == 4:
        best_path(resumed).unlink()
    assert train("--resume", resumed, "--steps", 7) == 0
    assert_same_run(resumed, run)
    assert_equal(load(best_path(resumed)), load(best_path(run)))


def test_a_kill_before_the_best_checkpoint_is_copied_is_made_good(many_pictures, train, monkeypatch):
    kids = {1: 9.0, 2: 8.0, 3: 7.0, 4: 1.0}
    monkeypatch.setattr(
        GanLoop, "scores", lambda loop: {"score/kid": kids.get(loop.trainer.step_count, 99.0)}
    )
    assert train(many_pictures, *FLAGS, "--steps", 4) == 0
    best_path(newest_run()).unlink()
    assert train("--resume", newest_run(), "--steps", 5) == 0
    assert load(best_path(newest_run()))["step"] == 4


def test_the_best_checkpoint_outlasts_all_others(run):
    best = load(best_path(run))["step"]
    for path in checkpoints(run):
        path.unlink()
    assert load_generator(run).step == best


def test_a_run_that_gives_up_keeps_its_best_checkpoint(many_pictures, train, monkeypatch, capsys):
    step = Trainer.step

    def poisoned_step(self: Trainer) -> None:
        step(self)
        if self.step_count == 5:
            set_weight(self.discriminator.head.weight, float("nan"))

    monkeypatch.setattr(Trainer, "step", poisoned_step)
    assert train(many_pictures, *FLAGS, "--steps", 8) == EXIT_DIVERGED == 3
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("stopped: ")]
    assert f"again after 3 rollbacks; the checkpoints in {newest_run()}/checkpoints predate that" in line
    assert load(best_path(newest_run()))["step"] <= 4
    assert load_generator(newest_run()).is_best
