"""Runs that fail: the loop raises an alarm, rolls back, and gives up when that does not help."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.checkpoint import load, save_as_best
from engine.run_logger import RunLogger
from engine.runs import best_path, checkpoints, gave_up, sample_grids, step_of
from gan.config import preset_settings
from gan.loop import GanLoop
from gan.monitor import Limits
from gan.rollback import UnrecoverableError
from gan.trainer import Trainer
from tests.small_trainer import CPU, SMALL, after_each_step, run_loop, set_weight
from tests.states import assert_equal

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 3, 4, 4))
IMAGES = IMAGES.repeat(8, axis=2).repeat(8, axis=3).astype(np.uint8)
SETTINGS = replace(
    preset_settings("evening"),
    **SMALL | {"generator_widths": (8, 6, 4, 4), "discriminator_widths": (8, 8, 8, 8)},
    log_every=2,
    sample_every=8,
    checkpoint_every=8,
    keep=100,
)
WIDE = {"generator_widths": (64, 48, 32, 16), "discriminator_widths": (16, 32, 64, 128)}
"""Networks in which D can win soon."""
QUICK = replace(Limits(), grace=12, window=8, sample_window=8, min_probability=0.04)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Alarms after a few steps, and batch-norm statistics from few latent vectors."""
    monkeypatch.setattr("gan.loop.Limits", lambda: QUICK)
    monkeypatch.setattr("gan.generator.STATISTICS_BATCHES", 1)


def troubled(trouble, rollbacks: int = 1, **changes) -> Trainer:
    """A trainer that `trouble` is applied to after each step until it has rolled back so often."""
    trainer = Trainer(replace(SETTINGS, **changes), IMAGES, CPU)
    trainer.rollbacks = 0
    roll_back = trainer.roll_back

    def count(rollback, state) -> None:
        roll_back(rollback, state)
        trainer.rollbacks = rollback.times

    trainer.roll_back = count
    return after_each_step(trainer, lambda _: trainer.rollbacks < rollbacks and trouble(trainer))


def poison(trainer: Trainer, at: int = 20) -> None:
    if trainer.step_count == at:
        set_weight(trainer.discriminator.head.weight, float("nan"))


def collapse(trainer: Trainer) -> None:
    """Every latent vector gives the same image, whose colours keep changing."""
    if trainer.step_count >= 18:
        with torch.no_grad():
            for network in (trainer.generator, trainer.average.network):
                network.project.weight.mul_(1e-9)


def remove_gradient(trainer: Trainer) -> None:
    """As a D does that is so certain that it gives G no direction."""
    if trainer.step_count == 22:
        for weight in trainer.generator.parameters():
            weight.register_hook(lambda gradient: gradient * (1e-9 if trainer.rollbacks == 0 else 1))


def freeze(trainer: Trainer, initial: list[torch.Tensor]) -> None:
    """G stays as it was at the start, so D wins."""
    with torch.no_grad():
        if not initial:
            initial.extend(weight.clone() for weight in trainer.generator.parameters())
        for weight, start in zip(trainer.generator.parameters(), initial, strict=True):
            weight.copy_(start)


def events(run: Path) -> str:
    return (run / "events.txt").read_text()


def saved_steps(run: Path) -> list[int]:
    return [step_of(path) for path in checkpoints(run)]


def learning_rate(checkpoint: Path) -> float:
    (group,) = load(checkpoint)["generator_optimizer"]["param_groups"]
    return group["lr"]


@pytest.mark.parametrize(
    ("trouble", "changes", "message", "has_warning"),
    [
        (poison, {}, "NaN or infinite at step 21", False),
        (collapse, {}, "mode collapse", False),  # two grids leave no time for a warning
        (remove_gradient, {}, "vanishing gradient", True),
        # With layer norm, D would soon win again over so small a G at this learning rate.
        (partial(freeze, initial=[]), {**WIDE, "normalisation": "none"}, "D wins", True),
    ],
    ids=["not finite", "collapse", "no gradient", "D wins"],
)
def test_trouble_raises_an_alarm_and_rolls_the_run_back(tmp_path, trouble, changes, message, has_warning):
    # The learning rate is high enough for D to win over a frozen G within few steps.
    outcome, loop = run_loop(troubled(trouble, steps=64, learning_rate=1e-3, **changes), tmp_path)
    assert (outcome.step, loop.rollback.times) == (64, 1)
    log = events(tmp_path)
    order = [log.index(f"alarm: {message}" if message[0] != "N" else message), log.index("returning to step")]
    if has_warning:
        order.insert(0, log.index(f"warning: {message}"))
    assert order == sorted(order)
    assert "rollback 1 of 3" in log
    assert learning_rate(outcome.checkpoint) == 5e-4


def test_a_learning_rate_a_hundred_times_too_high_is_halved(tmp_path):
    # Networks as small as these bear a rate of 1e-2.
    trainer = troubled(lambda _: None, steps=28, learning_rate=1.0, **WIDE)
    with contextlib.suppress(UnrecoverableError):
        run_loop(trainer, tmp_path)
    assert "alarm: " in events(tmp_path)
    assert "a learning rate of 0.5: rollback 1 of 3" in events(tmp_path)
    (group,) = trainer.state()["generator_optimizer"]["param_groups"]
    assert group["lr"] <= 0.5


def test_a_rollback_removes_what_was_recorded_since_and_repeats_each_step_once(tmp_path):
    run_loop(troubled(poison, steps=32), tmp_path)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(2, 33, 2))
    assert all(json.loads(line)["speed/images_per_second"] > 0 for line in lines)
    assert [step_of(path) for path in sample_grids(tmp_path)] == list(range(0, 33, 8))
    assert saved_steps(tmp_path) == [8, 16, 24, 32]
    assert not gave_up(tmp_path)


def test_a_rollback_forgets_later_scores_and_keeps_what_the_monitor_knew(tmp_path, monkeypatch):
    monkeypatch.setattr(GanLoop, "scores", lambda loop: {"score/kid": float(loop.trainer.step_count)})
    _, loop = run_loop(troubled(poison, steps=24, score_every=8), tmp_path)
    assert loop.best.state()["recent"] == [8.0, 16.0, 24.0]
    assert len(loop.monitor.state()["gradients"]) == 12  # one for each logged step


def test_a_checkpoint_that_was_never_written_is_not_the_best(tmp_path, monkeypatch):
    monkeypatch.setattr(GanLoop, "scores", lambda loop: {"score/kid": 40.0 - loop.trainer.step_count})
    _, loop = run_loop(troubled(partial(poison, at=24), steps=24, score_every=8), tmp_path)
    assert load(best_path(tmp_path))["step"] == loop.best.step == 24


def test_a_rollback_skips_a_damaged_checkpoint(tmp_path):
    def trouble(trainer: Trainer) -> None:
        poison(trainer)
        if trainer.step_count == 20:
            checkpoints(tmp_path)[-1].write_bytes(b"cut short")

    outcome, loop = run_loop(troubled(trouble, steps=32), tmp_path)
    assert (outcome.step, loop.rollback.from_step) == (32, 8)
    assert "returning to step 8 " in events(tmp_path)
    assert saved_steps(tmp_path) == [8, 16, 24, 32]


def test_a_rollback_returns_to_the_best_checkpoint_if_no_other_is_old_enough(tmp_path):
    """As with a small --keep, or with the longer windows of a small learning rate."""

    def trouble(trainer: Trainer) -> None:
        if trainer.step_count == 9:
            save_as_best(tmp_path / "checkpoints" / "step_000008.pt")
        remove_gradient(trainer)

    outcome, loop = run_loop(troubled(trouble, steps=64, learning_rate=1e-3, keep=1), tmp_path)
    assert (outcome.step, loop.rollback.times, loop.rollback.from_step) == (64, 1, 8)
    assert saved_steps(tmp_path) == [64]
    assert load(best_path(tmp_path))["step"] == 8


def test_without_a_checkpoint_training_starts_over_with_new_weights(tmp_path):
    trainer = troubled(partial(poison, at=7), steps=20)
    before = trainer.generator.project.weight.detach().clone()
    outcome, loop = run_loop(trainer, tmp_path)
    assert (outcome.step, loop.rollback.from_step) == (20, 0)
    assert "starting over at step 0" in events(tmp_path)
    # Twenty steps at a rate of 5e-5 move a weight by 0.001 at most.
    assert (trainer.generator.project.weight - before).abs().mean() > 0.01


def test_training_gives_up_after_three_rollbacks_and_keeps_its_checkpoints(tmp_path):
    with pytest.raises(UnrecoverableError, match=r"step 21, again after 3 rollbacks$"):
        run_loop(troubled(poison, rollbacks=9, steps=32), tmp_path)
    assert saved_steps(tmp_path)[-1] <= 16
    assert events(tmp_path).count("returning to") + events(tmp_path).count("starting over") == 3
    assert events(tmp_path).splitlines()[-1].startswith("step 22: stopped: a loss or gradient")
    assert gave_up(tmp_path)


def test_giving_up_keeps_the_oldest_checkpoint_that_was_trained(tmp_path):
    """Even if it contains the trouble; and not that of step 0, which each start over saves."""

    def always_collapse(trainer: Trainer) -> None:
        with torch.no_grad():
            for network in (trainer.generator, trainer.average.network):
                network.project.weight.mul_(1e-9)

    with pytest.raises(UnrecoverableError, match="mode collapse"):
        run_loop(troubled(always_collapse, rollbacks=9, steps=256), tmp_path)
    assert "starting over" in events(tmp_path)
    assert len(saved_steps(tmp_path)) == 1
    assert saved_steps(tmp_path) > [0]


def test_resuming_after_a_rollback_is_bit_exact(tmp_path):
    run_loop(troubled(poison, steps=32), tmp_path)
    straight = load(tmp_path / "checkpoints" / "step_000032.pt", mapped=False)
    with contextlib.closing(RunLogger(tmp_path, 24)) as logger:
        loop = GanLoop(troubled(lambda _: None, steps=32), logger, IMAGES)
        loop.load_state(load(tmp_path / "checkpoints" / "step_000024.pt", mapped=False))
        outcome = loop.train()
    assert_equal(load(outcome.checkpoint), straight)


@pytest.mark.parametrize(("at", "returned_to"), [(20, 16), (7, 0)])
def test_a_kill_after_a_rollback_does_not_repeat_it(tmp_path, at, returned_to):
    """Before the next checkpoint: at step 0 there was none before."""

    def kill(trainer: Trainer) -> None:
        if trainer.rollbacks == 1 and trainer.step_count == returned_to + 2:
            raise KeyboardInterrupt
        poison(trainer, at)

    straight, killed = tmp_path / "straight", tmp_path / "killed"
    run_loop(troubled(partial(poison, at=at), steps=32), straight)
    with pytest.raises(KeyboardInterrupt):
        run_loop(troubled(kill, rollbacks=2, steps=32), killed)
    assert saved_steps(killed)[-1] == returned_to
    state = load(checkpoints(killed)[-1], mapped=False)
    with contextlib.closing(RunLogger(killed, returned_to)) as logger:
        trainer = troubled(partial(poison, at=at), rollbacks=0, steps=32)
        loop = GanLoop(trainer, logger, IMAGES)
        loop.load_state(state)
        assert (loop.rollback.times, loop.rollback.from_step) == (1, returned_to)
        outcome = loop.train()
    assert events(killed).count("rollback 1 of 3") == 1
    assert_equal(load(outcome.checkpoint), load(checkpoints(straight)[-1]))


@pytest.mark.parametrize("seed", range(3))
def test_healthy_runs_raise_no_alarm(tmp_path, seed):
    _, loop = run_loop(troubled(lambda _: None, steps=64, learning_rate=1e-3, seed=seed), tmp_path)
    assert loop.rollback.times == 0
    assert not (tmp_path / "events.txt").exists()
