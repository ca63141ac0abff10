import io
import json
import os
import re
import signal
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.tensorboard import SummaryWriter

from engine import budget
from engine.budget import BudgetTimer
from engine.checkpoint import load, load_newest
from engine.errors import UserError
from engine.png import load_png
from engine.runs import checkpoints, sample_grids, sample_path, step_of
from engine.signals import GRACE_SECONDS, SignalHandler
from gan.loop import GanLoop
from gan.monitor import Alarm, Limits, Monitor
from gan.rollback import UnrecoverableError
from gan.trainer import Trainer
from tests.gan.other_losses import LOSSES
from tests.in_process import Terminal
from tests.small_trainer import after_each_step, run_loop, set_weight, trainer

NAN = float("nan")
SCHEDULE = {"log_every": 3, "sample_every": 4, "checkpoint_every": 5, "keep": 10}
textbook = partial(trainer, textbook=True)


def scheduled(action=None, **changes) -> Trainer:
    """A trainer that calls `action` after each step."""
    trainer = textbook(**SCHEDULE | changes)
    return after_each_step(trainer, action) if action else trainer


def recorded_steps(run: Path) -> tuple[list[int], list[int], list[int]]:
    """The steps that were saved, sampled and logged."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    logged = [json.loads(line)["step"] for line in lines]
    return [step_of(path) for path in checkpoints(run)], [step_of(path) for path in sample_grids(run)], logged


def test_steps_are_logged_sampled_and_saved_on_schedule_and_at_the_end(tmp_path):
    outcome, _ = run_loop(scheduled(steps=11), tmp_path)
    assert (outcome.step, outcome.exit_code, outcome.checkpoint) == (11, 0, checkpoints(tmp_path)[-1])
    assert outcome.seconds > 0
    assert recorded_steps(tmp_path) == ([5, 10, 11], [0, 4, 8, 11], [3, 6, 9])


def test_the_monitor_knows_the_loss_and_the_learning_rate(monkeypatch):
    monkeypatch.setattr("gan.losses.adversarial_loss", LOSSES["hinge"])
    monitor = GanLoop(scheduled(learning_rate=5e-5), None, np.zeros((2, 3, 32, 32), np.uint8)).monitor
    assert not monitor._check_discriminator
    assert monitor.limits == Limits().at(5e-5) != Limits()


def test_samples_show_the_step_in_their_name(tmp_path):
    run_loop(textbook(steps=4, sample_every=2), tmp_path / "long")
    run_loop(textbook(steps=2), tmp_path / "short")
    two, four = (load_png(sample_path(tmp_path / "long", step)) for step in (2, 4))
    assert np.array_equal(two, load_png(sample_path(tmp_path / "short", 2)))
    assert not np.array_equal(two, four)


def test_only_the_newest_checkpoints_are_kept(tmp_path):
    run_loop(textbook(steps=9, checkpoint_every=2, keep=2), tmp_path)
    assert recorded_steps(tmp_path)[0] == [8, 9]


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """The time in seconds, which only tests advance."""
    now = [0.0]
    monkeypatch.setattr(budget.time, "monotonic", lambda: now[0])
    return now


def slow_trainer(clock: list[float], **changes) -> Trainer:
    """A trainer whose steps take 25 seconds."""
    return scheduled(lambda _: clock.__setitem__(0, clock[0] + 25), **changes)


def test_training_stops_after_the_step_in_which_the_minutes_pass(tmp_path, clock):
    outcome, _ = run_loop(slow_trainer(clock, steps=None, minutes=1.0), tmp_path)
    assert (outcome.step, outcome.seconds) == (3, 75)
    assert recorded_steps(tmp_path) == ([3], [0, 3], [3])
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line)["speed/images_per_second"] == pytest.approx(3 * 8 / 75)


def test_training_stops_at_the_first_of_steps_and_minutes(tmp_path):
    assert run_loop(textbook(steps=3, minutes=5.0), tmp_path / "steps")[0].step == 3
    assert run_loop(textbook(steps=10**6, minutes=1e-9), tmp_path / "minutes")[0].step == 1


def test_a_process_of_torchrun_has_time_to_finish_two_turns_after_a_signal(tmp_path, monkeypatch, clock):
    patience = []

    class RecordingHandler(SignalHandler):
        def __init__(self, seconds, acknowledge) -> None:
            super().__init__(seconds, acknowledge)
            patience.append(seconds)

    monkeypatch.setattr("engine.loop.SignalHandler", RecordingHandler)
    run_loop(slow_trainer(clock, steps=3), tmp_path / "alone")
    launched = slow_trainer(clock, steps=3)
    launched.world.launched = True
    run_loop(launched, tmp_path / "launched")
    assert patience[0] is None
    assert patience[1]() == GRACE_SECONDS + 2 * 25


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_after_a_signal_the_step_is_finished_sampled_and_saved(tmp_path, number, code):
    def interrupt(trainer: Trainer) -> None:
        if trainer.step_count == 7:
            os.kill(os.getpid(), number)
            # Sent twice at once, as by `timeout`: it is the same one.
            os.kill(os.getpid(), number)

    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    outcome, _ = run_loop(scheduled(interrupt, steps=50), tmp_path)
    assert (outcome.step, outcome.exit_code) == (7, code)
    assert recorded_steps(tmp_path) == ([5, 7], [0, 4, 7], [3, 6])
    assert load(outcome.checkpoint)["step"] == 7
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_signal_at_the_step_of_an_alarm_ends_the_run_after_the_rollback(tmp_path):
    def interrupt(trainer: Trainer) -> None:
        if trainer.step_count == 7:
            set_weight(trainer.generator.project.weight, NAN)
        if trainer.step_count == 8:
            os.kill(os.getpid(), signal.SIGINT)

    outcome, loop = run_loop(scheduled(interrupt, steps=50), tmp_path)
    assert (outcome.step, outcome.exit_code, loop.rollback.from_step) == (6, 130, 5)
    assert recorded_steps(tmp_path)[0] == [5, 6]


def poison_generator(trainer: Trainer, at: int) -> None:
    if trainer.step_count == at:
        set_weight(trainer.generator.project.weight, NAN)


def poison_discriminator(trainer: Trainer, at: int) -> None:
    if trainer.step_count == at:
        set_weight(trainer.discriminator.head.bias, float("inf"))


@pytest.mark.parametrize(
    ("poison", "at", "error", "found"),
    [
        (poison_generator, 6, r"at step 7, again after 3 rollbacks$", ([5], [0], [])),
        (poison_discriminator, 6, r"at step 7, again after 3 rollbacks$", ([5], [0], [])),
        # The weight is checked where it is saved, before any loss depends on it.
        (poison_generator, 10, r"project\.weight.* at step 10, ", ([5], [0], [])),
    ],
)
def test_values_that_are_not_finite_end_the_run_at_the_next_save(tmp_path, poison, at, error, found):
    with pytest.raises(UnrecoverableError, match=error):
        run_loop(scheduled(partial(poison, at=at), steps=50, log_every=100, sample_every=100), tmp_path)
    assert recorded_steps(tmp_path) == found
    _, state, damaged = load_newest(tmp_path)
    assert (state["step"], damaged) == (5, [])
    assert all(torch.isfinite(tensor).all() for tensor in state["generator"].values())


def test_a_value_that_is_not_finite_is_noticed_at_the_next_log(tmp_path):
    with pytest.raises(UnrecoverableError, match=r"at step 8, "):
        run_loop(scheduled(partial(poison_generator, at=7), steps=50), tmp_path)
    assert recorded_steps(tmp_path) == ([5], [0, 4], [3, 6])


def test_a_batch_that_is_not_finite_is_noticed(tmp_path):
    trainer = scheduled(steps=50)
    make_batch = trainer._batch

    def bad_batch():
        batch = make_batch()
        return batch._replace(real=batch.real * NAN) if trainer.step_count + 1 == 4 else batch

    trainer._batch = bad_batch
    with pytest.raises(UnrecoverableError, match=r"at step 4, "):
        run_loop(trainer, tmp_path)
    assert checkpoints(tmp_path) == []


def test_giving_up_removes_checkpoints_from_after_the_trouble_began(tmp_path, monkeypatch):
    def check(self: Monitor, step: int, values: dict[str, float]) -> Alarm | None:
        return Alarm("D wins", step, 8, "D wins", certain=True) if step >= 12 else None

    monkeypatch.setattr(Monitor, "check_statistics", check)
    with pytest.raises(UnrecoverableError, match="D wins"):
        run_loop(scheduled(steps=50), tmp_path)
    assert recorded_steps(tmp_path)[0] == [5]


@pytest.mark.parametrize("method", ["add_scalar", "add_image", "flush"])
def test_a_full_disk_stops_the_run_with_one_line(tmp_path, monkeypatch, method):
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    def fill_disk(trainer: Trainer) -> None:
        if trainer.step_count == 6:
            monkeypatch.setattr(SummaryWriter, method, fail)

    with pytest.raises(UserError, match="cannot be written to: No space left on device"):
        run_loop(scheduled(fill_disk, steps=50), tmp_path)
    assert load_newest(tmp_path)[1]["step"] == 5


def scored(monkeypatch, **changes) -> Trainer:
    """A trainer whose KID is 9, 6 and 5 at steps 2, 4 and 6."""
    kids = {2: 9.0, 4: 6.0, 6: 5.0}
    monkeypatch.setattr(GanLoop, "scores", lambda loop: {"score/kid": kids[loop.trainer.step_count]})
    return scheduled(score_every=2, steps=6, **changes)


def test_the_progress_bar_shows_scores_losses_speed_and_time_left(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    run_loop(scored(monkeypatch), tmp_path)
    first, *_, last = sys.stderr.getvalue().split("KID ")
    assert "6/6" in sys.stderr.getvalue()
    assert re.search(r"\d\d:\d\d<", first)  # time passed < time left
    assert last.startswith("5 falling, best at step 6, D ")
    assert re.search(r"D \d\.\d+, G \d+\.\d+, \d+ images/s", last)


def test_a_log_has_a_line_for_each_score_and_no_frames(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    run_loop(scored(monkeypatch), tmp_path)
    lines = sys.stderr.getvalue().splitlines()
    assert [re.sub(r"( after|, D).*", "", line) for line in lines] == [
        "training: 2 of 6 steps",
        "training: 4 of 6 steps",
        "training: 6 of 6 steps",
    ]
    assert "KID 9, best at step 2" in lines[0]
    assert "KID 6 falling, best at step 4, D " in lines[1]
    assert "\r" not in sys.stderr.getvalue()


def test_when_faces_are_to_be_expected_is_printed_once_the_speed_is_known(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    run_loop(scheduled(steps=25), tmp_path)
    (line,) = (line for line in sys.stderr.getvalue().splitlines() if "a step" in line)
    assert "the end at step 25" in line
    assert "too early for faces, which is normal" in line


def test_a_run_from_other_networks_expects_no_grey_fields():
    loop = GanLoop(scheduled(steps=25), None, np.zeros((2, 3, 32, 32), np.uint8))
    loop.fine_tuned, loop.timer = True, BudgetTimer(loop.trainer.settings, 0)
    assert loop.forecast(0.5).startswith("0.5 s a step; the end at step 25")
