import json
import os
import re
import signal
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.tensorboard import SummaryWriter

from engine import budget as clock
from engine.budget import TrainingResult
from engine.checkpoint import load, load_newest
from engine.errors import UserError
from engine.png import load_png
from engine.run_logger import RunLogger
from engine.runs import checkpoints, sample_grids, sample_path, step_of
from engine.signals import GRACE_SECONDS, SignalHandler
from gan.config import preset_settings
from gan.loop import GanLoop
from gan.monitor import Alarm, Monitor
from gan.rollback import UnrecoverableError
from gan.trainer import Trainer
from gan.training_step import Batch

IMAGES = np.random.default_rng(0).integers(0, 256, (30, 3, 32, 32), np.uint8)
SETTINGS = replace(
    preset_settings("plain"),
    image_size=32,
    batch_size=8,
    generator_widths=(8, 6, 4, 4),
    discriminator_widths=(4, 4, 6, 8),
    precision="float32",
    log_every=3,
    sample_every=4,
    checkpoint_every=5,
    keep=10,
)


class Disturbed(Trainer):
    """A trainer to which something happens right after a step."""

    def __init__(self, what, at: int, **changes) -> None:
        super().__init__(replace(SETTINGS, **changes), IMAGES, torch.device("cpu"))
        self.what, self.at = what, at

    def step(self) -> None:
        super().step()
        if self.step_count == self.at:
            self.what(self)


def plain(**changes) -> Trainer:
    return Disturbed(None, -1, **changes)


def run_loop(trainer: Trainer, run: Path) -> TrainingResult:
    run.mkdir(exist_ok=True)
    logger = RunLogger(run, trainer.step_count)
    try:
        return GanLoop(trainer, logger, IMAGES).train()
    finally:
        logger.close()


def logged(run: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def saved(run: Path) -> list[int]:
    return [step_of(path) for path in checkpoints(run)]


def sampled(run: Path) -> list[int]:
    return [step_of(path) for path in sample_grids(run)]


def test_each_thing_is_done_at_its_steps_and_the_last_is_sampled_and_saved(tmp_path):
    outcome = run_loop(plain(steps=11), tmp_path)
    assert (outcome.step, outcome.exit_code, outcome.checkpoint) == (11, 0, checkpoints(tmp_path)[-1])
    assert outcome.seconds > 0
    assert logged(tmp_path) == [3, 6, 9]
    assert sampled(tmp_path) == [0, 4, 8, 11]
    assert saved(tmp_path) == [5, 10, 11]


def test_every_step_may_be_sampled(tmp_path):
    run_loop(plain(steps=3, sample_every=1), tmp_path)
    assert sampled(tmp_path) == [0, 1, 2, 3]


def test_a_sample_is_of_the_step_in_its_name(tmp_path):
    run_loop(plain(steps=4, sample_every=2), tmp_path)
    alone = plain(steps=2)
    run_loop(alone, tmp_path / "alone")
    assert sample_path(tmp_path, 2).read_bytes() != sample_path(tmp_path, 4).read_bytes()
    two = [load_png(sample_path(run, 2)) for run in (tmp_path, tmp_path / "alone")]
    assert np.array_equal(*two)


def test_only_the_last_few_checkpoints_are_kept(tmp_path):
    run_loop(plain(steps=9, checkpoint_every=2, keep=2), tmp_path)
    assert saved(tmp_path) == [8, 9]


@pytest.fixture
def slow(monkeypatch) -> Callable[..., Trainer]:
    """Makes trainers whose steps take 25 seconds."""
    now = [0.0]
    monkeypatch.setattr(clock.time, "monotonic", lambda: now[0])

    class Slow(Disturbed):
        def step(self) -> None:
            super().step()
            now[0] += 25

    return partial(Slow, None, -1)


def test_minutes_end_a_run_after_the_step_in_which_they_pass(tmp_path, slow):
    outcome = run_loop(slow(steps=None, minutes=1.0), tmp_path)
    assert (outcome.step, outcome.seconds) == (3, 75)
    assert (saved(tmp_path), sampled(tmp_path)) == ([3], [0, 3])
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line)["speed/images_per_second"] == pytest.approx(3 * 8 / 75)


def test_a_process_of_torchruns_has_as_long_to_end_as_its_turns_take(tmp_path, monkeypatch, slow):
    """Or a step that takes half a minute would be ended before it is saved."""
    asked = []

    class Watched(SignalHandler):
        def __init__(self, grace_period) -> None:
            super().__init__(grace_period)
            asked.append(grace_period)

    monkeypatch.setattr("engine.loop.SignalHandler", Watched)
    run_loop(slow(steps=3), tmp_path / "alone")
    launched = slow(steps=3)
    launched.world.launched = True
    run_loop(launched, tmp_path / "launched")
    alone, patient = asked
    assert alone is None
    assert patient() == GRACE_SECONDS + 2 * 25


def test_of_steps_and_minutes_the_first_ends_the_run(tmp_path):
    assert run_loop(plain(steps=3, minutes=5.0), tmp_path / "steps").step == 3
    assert run_loop(plain(steps=10**6, minutes=1e-9), tmp_path / "minutes").step == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_finishes_the_step_samples_and_saves(tmp_path, number, code):
    def interrupt(_: Trainer) -> None:
        os.kill(os.getpid(), number)
        # From here on another one leaves at once.
        assert signal.getsignal(signal.SIGINT) == signal.getsignal(signal.SIGTERM) == signal.SIG_DFL

    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    outcome = run_loop(Disturbed(interrupt, 7, steps=50), tmp_path)
    assert (outcome.step, outcome.exit_code) == (7, code)
    assert (saved(tmp_path), sampled(tmp_path)) == ([5, 7], [0, 4, 7])
    assert load(outcome.checkpoint)["step"] == 7
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def poison_weight(trainer: Trainer) -> None:
    with torch.no_grad():
        trainer.generator.project.weight[0, 0] = float("nan")


def poison_last_bias(trainer: Trainer) -> None:
    with torch.no_grad():
        trainer.discriminator.head.bias[0] = float("inf")


@pytest.mark.parametrize("poison", [poison_weight, poison_last_bias])
def test_a_loss_that_is_never_finite_stops_the_run_at_the_next_look_and_names_its_step(tmp_path, poison):
    with pytest.raises(UnrecoverableError, match=r"at step 7, again after 3 rollbacks$"):
        run_loop(Disturbed(poison, 6, steps=50, log_every=100, sample_every=100), tmp_path)
    assert (saved(tmp_path), sampled(tmp_path), logged(tmp_path)) == ([5], [0], [])
    _, state, damaged = load_newest(tmp_path)
    assert (state["step"], damaged) == (5, [])
    assert all(torch.isfinite(tensor).all() for tensor in state["generator"].values())


def test_of_a_run_given_up_no_checkpoint_of_after_the_trouble_began_is_left(tmp_path, monkeypatch):
    def alarmed(self: Monitor, step: int, values: dict[str, float]) -> Alarm | None:
        return Alarm("D wins", step, 8, "D wins", certain=True) if step >= 12 else None

    monkeypatch.setattr(Monitor, "check_statistics", alarmed)
    with pytest.raises(UnrecoverableError, match="D wins"):
        run_loop(plain(steps=50), tmp_path)
    assert saved(tmp_path) == [5]


def test_it_is_seen_at_the_next_log_too(tmp_path):
    with pytest.raises(UnrecoverableError, match=r"at step 8, "):
        run_loop(Disturbed(poison_weight, 7, steps=50), tmp_path)
    assert (saved(tmp_path), logged(tmp_path)) == ([5], [3, 6])


def test_a_weight_that_is_not_finite_is_not_saved_though_its_losses_were(tmp_path):
    with pytest.raises(UnrecoverableError, match=r"project\.weight.* at step 10, "):
        run_loop(Disturbed(poison_weight, 10, steps=50, sample_every=100), tmp_path)
    assert saved(tmp_path) == [5]


def test_a_batch_that_is_not_finite_is_found(tmp_path):
    class BadBatch(Disturbed):
        def _batch(self) -> Batch:
            batch = super()._batch()
            return batch._replace(real=batch.real * float("nan")) if self.step_count + 1 == 4 else batch

    with pytest.raises(UnrecoverableError, match=r"at step 4, "):
        run_loop(BadBatch(None, -1, steps=50), tmp_path)
    assert checkpoints(tmp_path) == []


@pytest.mark.parametrize("method", ["add_scalar", "add_image", "flush"])
def test_a_full_disk_stops_the_run_in_a_line_whatever_was_being_written(tmp_path, monkeypatch, method):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    trainer = Disturbed(lambda _: monkeypatch.setattr(SummaryWriter, method, full), 6, steps=50)
    with pytest.raises(UserError, match="cannot be written to: No space left on device"):
        run_loop(trainer, tmp_path)
    assert load_newest(tmp_path)[1]["step"] == 5


def test_the_bar_tells_losses_speed_and_the_end(tmp_path, capsys):
    run_loop(plain(steps=6), tmp_path)
    last = capsys.readouterr().err.rpartition("training")[2]
    assert "6/6" in last
    assert all(part in last for part in ("D ", "G ", "images/s"))
    assert re.search(r"\d\d:\d\d<00:00", last)  # time gone < time left
