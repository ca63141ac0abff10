"""Trainings that are made to fail: seen, gone back from, and given up when nothing helps."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.budget import TrainingResult
from engine.checkpoint import load, save_as_best
from engine.run_logger import RunLogger
from engine.runs import best_path, checkpoints, gave_up, sample_grids, step_of
from gan import generator, loop
from gan.config import preset_settings
from gan.loop import GanLoop
from gan.monitor import Limits
from gan.rollback import UnrecoverableError
from gan.trainer import Trainer
from tests.states import assert_equal

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (40, 3, 4, 4)).repeat(8, axis=2).repeat(8, axis=3).astype(np.uint8)
SETTINGS = replace(
    preset_settings("light"),
    image_size=32,
    batch_size=8,
    generator_widths=(8, 6, 4, 4),
    discriminator_widths=(8, 8, 8, 8),
    precision="float32",
    log_every=2,
    sample_every=8,
    checkpoint_every=8,
    keep=100,
)
WIDE = {"generator_widths": (64, 48, 32, 16), "discriminator_widths": (16, 32, 64, 128)}
"""Networks in which D can win soon."""
QUICK = replace(Limits(), grace=12, window=8, sample_window=8, min_probability=0.04)
"""Alarms that tests have not to wait for."""


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(loop, "Limits", lambda: QUICK)
    # Most of the time would go into statistics that are better than these tests need.
    monkeypatch.setattr(generator, "STATISTICS_BATCHES", 1)


class Troubled(Trainer):
    """A trainer that something befalls after each step, as long as it has gone back fewer times."""

    def __init__(self, trouble, until: int = 1, **changes) -> None:
        super().__init__(replace(SETTINGS, **changes), IMAGES, torch.device("cpu"))
        self.trouble, self.until, self.times = trouble, until, 0

    def roll_back(self, rollback, state) -> None:
        super().roll_back(rollback, state)
        self.times = rollback.times

    def step(self) -> None:
        super().step()
        if self.times < self.until:
            self.trouble(self)


def poisoned(trainer: Trainer, at: int) -> None:
    if trainer.step_count == at:
        with torch.no_grad():
            trainer.discriminator.head.weight[0, 0] = float("nan")


def constant(trainer: Trainer) -> None:
    """All latent vectors lead to one image, though its colours go on changing."""
    if trainer.step_count >= 18:
        with torch.no_grad():
            for network in (trainer.generator, trainer.average.network):
                network.project.weight.mul_(1e-9)


def without_gradient(trainer: Trainer) -> None:
    """As with a D that is so sure of itself that it tells G nothing any more."""
    if trainer.step_count == 22:
        for weight in trainer.generator.parameters():
            weight.register_hook(lambda gradient: gradient * (1e-9 if trainer.times == 0 else 1))


def frozen(trainer: Trainer, weights: list[torch.Tensor]) -> None:
    """The generator stays as it was at the start, so that D wins."""
    with torch.no_grad():
        if not weights:
            weights.extend(weight.clone() for weight in trainer.generator.parameters())
        for weight, was in zip(trainer.generator.parameters(), weights, strict=True):
            weight.copy_(was)


def run_loop(trainer: Trainer, run: Path) -> tuple[TrainingResult, GanLoop]:
    run.mkdir(exist_ok=True)
    logger = RunLogger(run, 0)
    training = GanLoop(trainer, logger, IMAGES)
    try:
        return training.train(), training
    finally:
        logger.close()


def events(run: Path) -> str:
    return (run / "events.txt").read_text()


@pytest.mark.parametrize(
    ("trouble", "widths", "seen", "warned"),
    [
        (partial(poisoned, at=20), {}, "NaN or infinite at step 21", False),
        (constant, {}, "samples are becoming one", False),  # between two looks there is no time for it
        (without_gradient, {}, "G's gradient is gone", True),
        # With layer norm, D soon wins again over such a small G that learns so fast.
        (partial(frozen, weights=[]), {**WIDE, "normalisation": "none"}, "D wins", True),
    ],
    ids=["poisoned", "constant", "without gradient", "frozen"],
)
def test_what_goes_wrong_is_seen_and_the_run_goes_on_from_before(
    quick, tmp_path, trouble, widths, seen, warned
):
    # So fast because D is to win over a frozen G within few steps.
    outcome, training = run_loop(Troubled(trouble, steps=44, learning_rate=1e-3, **widths), tmp_path)
    assert outcome.step == 44
    assert training.rollback.times == 1
    told = events(tmp_path)
    assert seen in told
    assert "rollback 1 of 3" in told
    if warned:
        assert -1 < told.find(f"warning: {seen}") < told.find(f"alarm: {seen}") < told.find("returning to")
    (group,) = load(outcome.checkpoint)["generator_optimizer"]["param_groups"]
    assert group["lr"] == 5e-4


def test_a_learning_rate_a_hundred_times_too_high_is_seen_and_made_smaller(quick, tmp_path):
    # Networks as small as these bear a rate of 1e-2.
    trainer = Troubled(lambda _: None, steps=28, learning_rate=1.0, **WIDE)
    with contextlib.suppress(UnrecoverableError):
        run_loop(trainer, tmp_path)
    assert "alarm: " in events(tmp_path)
    assert "a learning rate of 0.5: rollback 1 of 3" in events(tmp_path)
    (group,) = trainer.state()["generator_optimizer"]["param_groups"]
    assert group["lr"] <= 0.5


def test_after_going_back_each_step_stands_once_and_nothing_of_the_trouble_is_left(quick, tmp_path):
    run_loop(Troubled(partial(poisoned, at=20), steps=32), tmp_path)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(2, 33, 2))
    assert [step_of(path) for path in sample_grids(tmp_path)] == list(range(0, 33, 8))
    assert [step_of(path) for path in checkpoints(tmp_path)] == [8, 16, 24, 32]
    assert not gave_up(tmp_path)


def test_a_damaged_checkpoint_is_passed_over(quick, tmp_path):
    def trouble(trainer: Trainer) -> None:
        poisoned(trainer, at=20)
        if trainer.step_count == 20:
            checkpoints(tmp_path)[-1].write_bytes(b"cut short")

    outcome, training = run_loop(Troubled(trouble, steps=32), tmp_path)
    assert outcome.step == 32
    assert training.rollback.from_step == 8
    assert "returning to step 8 " in events(tmp_path)
    assert [step_of(path) for path in checkpoints(tmp_path)] == [8, 16, 24, 32]


def test_the_best_is_gone_back_to_where_no_checkpoint_that_is_kept_is_old_enough(quick, tmp_path):
    """As after few --keep, or with the longer patience that a small learning rate asks for."""

    def trouble(trainer: Trainer) -> None:
        if trainer.step_count == 9:
            save_as_best(tmp_path / "checkpoints" / "step_000008.pt")
        without_gradient(trainer)

    outcome, training = run_loop(Troubled(trouble, steps=44, learning_rate=1e-3, keep=1), tmp_path)
    assert (outcome.step, training.rollback.times, training.rollback.from_step) == (44, 1, 8)
    assert "returning to step 8 " in events(tmp_path)
    assert [step_of(path) for path in checkpoints(tmp_path)] == [44]
    assert load(best_path(tmp_path))["step"] == 8


def test_other_random_numbers_are_drawn_than_the_first_time(quick, tmp_path):
    run_loop(Troubled(partial(poisoned, at=20), steps=24), tmp_path / "back")
    run_loop(Troubled(lambda _: None, steps=24, learning_rate=1e-4), tmp_path / "straight")
    back, straight = (load(checkpoints(tmp_path / name)[-1]) for name in ("back", "straight"))
    assert back["step"] == straight["step"] == 24
    assert not torch.equal(back["generator"]["project.weight"], straight["generator"]["project.weight"])


def test_with_no_checkpoint_yet_it_starts_again_with_other_weights(quick, tmp_path):
    trainer = Troubled(partial(poisoned, at=7), steps=20)
    before = trainer.generator.project.weight.detach().clone()
    outcome, training = run_loop(trainer, tmp_path)
    assert (outcome.step, training.rollback.from_step) == (20, 0)
    assert "starting over at step 0" in events(tmp_path)
    # Twenty steps at a rate of 5e-5 move a weight by 0.001 at most; these were drawn anew.
    assert (trainer.generator.project.weight - before).abs().mean() > 0.01


def test_what_nothing_mends_ends_the_run_with_its_checkpoints_kept(quick, tmp_path):
    with pytest.raises(UnrecoverableError, match=r"step 21, again after 3 rollbacks$"):
        run_loop(Troubled(partial(poisoned, at=20), until=9, steps=32), tmp_path)
    assert [step_of(path) for path in checkpoints(tmp_path)][-1] <= 16
    assert events(tmp_path).count("returning to") + events(tmp_path).count("starting over") == 3
    assert events(tmp_path).splitlines()[-1].startswith("step 22: stopped: a loss or gradient")
    assert gave_up(tmp_path)


def test_a_run_that_went_back_goes_on_from_its_checkpoint_in_the_same_form(quick, tmp_path):
    run_loop(Troubled(partial(poisoned, at=20), steps=32), tmp_path)
    state = load(tmp_path / "checkpoints" / "step_000024.pt", mapped=False)
    logger = RunLogger(tmp_path, 24)
    training = GanLoop(Troubled(lambda _: None, steps=32), logger, IMAGES)
    training.load_state(state)
    straight = load(tmp_path / "checkpoints" / "step_000032.pt", mapped=False)
    outcome = training.train()
    logger.close()
    assert_equal(load(outcome.checkpoint), straight)


@pytest.mark.parametrize("seed", range(5))
def test_healthy_runs_see_no_alarm(quick, tmp_path, seed):
    _, training = run_loop(Troubled(lambda _: None, steps=44, learning_rate=1e-3, seed=seed), tmp_path)
    assert training.rollback.times == 0
    assert not (tmp_path / "events.txt").exists()
