"""Two processes that train one pair of networks, compared with one process."""

from __future__ import annotations

import copy
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.utils.tensorboard import SummaryWriter

from engine.budget import TrainingResult
from engine.checkpoint import load
from engine.distributed import World
from engine.runs import checkpoints, sample_grids, step_of
from gan.trainer import Trainer
from images.tiles import to_float
from tests.processes import run_processes
from tests.small_trainer import (
    IMAGES,
    after_each_step,
    first_gradients,
    record_batches,
    relative_error,
    run_loop,
    set_weight,
    trainer,
    weights,
)
from tests.states import assert_equal

VARIANTS = {
    "unequal shares": {"batch_size": 7, "negatives": 0.5, "pack": 1},
    "unequal shares of packs": {"batch_size": 6, "negatives": 0.4},
    "packs of 4": {"batch_size": 8, "negatives": 0.5, "pack": 4},
    "negatives across shares": {"batch_size": 8, "negatives": 0.4},
    "batch norm": {"normalisation": "batch", "batch_size": 14, "negatives": 0.5},
    "textbook": {"textbook": True},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_two_processes_take_the_steps_of_one_and_keep_equal_weights(tmp_path, variant):
    options = VARIANTS[variant]

    def work(world: World) -> dict:
        made = trainer(world=world, seed=1, **options)
        made.step()
        result = {"gradients": first_gradients(made), "statistics": made.statistics()}
        for _ in range(3):
            made.step()
        average = list(made.average.network.parameters()) if made.average else []
        return result | {"weights": weights(made), "average": [weight.detach() for weight in average]}

    first, second = run_processes(work, tmp_path).results
    assert_equal(first, second)
    alone = trainer(seed=1, **options)
    alone.step()
    assert first["statistics"] == pytest.approx(alone.statistics(), rel=1e-4)
    for gradient, true in zip(first["gradients"], first_gradients(alone), strict=True):
        assert relative_error(gradient, true) < 1e-3


def test_all_processes_start_with_the_weights_of_rank_0(tmp_path):
    first, second = run_processes(
        lambda world: weights(trainer(world=world, seed=world.rank)), tmp_path
    ).results
    assert_equal(first, second)
    assert_equal(first, weights(trainer(seed=0)))


def test_an_epoch_contains_each_image_once(tmp_path):
    """30 images in batches of 6: five steps."""

    def work(world: World) -> list[bytes]:
        made = trainer(world=world, batch_size=6, flip=False, pack=1)
        batches = record_batches(made)
        for _ in range(5):
            made.step()
        return [image.numpy().tobytes() for batch in batches for image in batch.real]

    first, second = run_processes(work, tmp_path).results
    assert len(first) == len(second) == 15
    every_image = to_float(torch.from_numpy(IMAGES))
    assert sorted(first + second) == sorted(image.numpy().tobytes() for image in every_image)


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_a_state_resumes_with_another_number_of_processes(tmp_path, before, after):
    def take_two_steps(world: World, state: dict | None = None) -> dict:
        made = trainer(world=world)
        if state:
            made.load_state(state)
        for _ in range(2):
            made.step()
        return copy.deepcopy(made.state()) | {"step": made.step_count}

    def result(work: Callable[[World], dict], size: int) -> dict:
        return work(World()) if size == 1 else run_processes(work, tmp_path, size).results[0]

    straight = trainer()
    for _ in range(4):
        straight.step()
    state = result(take_two_steps, before)
    resumed = result(lambda world: take_two_steps(world, state), after)
    assert (state["step"], resumed["step"]) == (2, 4)
    for name, true in straight.generator.named_parameters():
        # Where a gradient is almost 0, its sign is chance and Adam's first steps are as long: the mean.
        assert (resumed["generator"][name] - true).abs().mean() < 2e-6


SCHEDULE = {"log_every": 3, "sample_every": 4, "checkpoint_every": 5, "keep": 10}
SCHEDULE |= {"ema_half_life": 0.0}  # estimating its statistics would take most of the time


def recorded_steps(run: Path) -> tuple[list[int], list[int], list[int]]:
    """Steps of checkpoints, samples and log lines."""
    logged = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [step_of(path) for path in checkpoints(run)], [step_of(path) for path in sample_grids(run)], logged


def disturbed(world: World, steps: int, at: int, action: Callable[[Trainer], object]) -> Trainer:
    """A trainer on which rank 1 applies `action` once, after step `at`."""
    pending = [at]

    def act(trainer: Trainer) -> None:
        if world.rank == 1 and [trainer.step_count] == pending:
            pending.clear()
            action(trainer)

    return after_each_step(trainer(world=world, steps=steps, **SCHEDULE), act)


def test_a_signal_to_one_process_ends_all_after_the_same_step(tmp_path):
    run = tmp_path / "run"

    def interrupt(_: Trainer) -> None:
        for _ in range(2):  # once from the terminal, once from torchrun
            os.kill(os.getpid(), signal.SIGINT)

    def work(world: World) -> tuple[TrainingResult, list[torch.Tensor]]:
        trainer = disturbed(world, 50, 7, interrupt)
        return run_loop(trainer, run)[0], weights(trainer)

    ended = run_processes(work, tmp_path)
    assert ended.codes == [0, 0]
    (outcome, first), (other_outcome, second) = ended.results
    for result in (outcome, other_outcome):
        assert (result.step, result.exit_code) == (7, 130)
    assert recorded_steps(run) == ([5, 7], [0, 4, 7], [3, 6])
    assert_equal(first, second)


def test_all_processes_roll_back_together_and_rank_0_alone_writes(tmp_path):
    run = tmp_path / "run"

    def poison(trainer: Trainer) -> None:
        set_weight(trainer.generator.project.weight, float("nan"))

    def work(world: World) -> tuple[TrainingResult, int, list[torch.Tensor]]:
        trainer = disturbed(world, 12, 7, poison)
        return run_loop(trainer, run)[0], trainer.step_count, weights(trainer)

    ended = run_processes(work, tmp_path)
    assert ended.codes == [0, 0]
    (outcome, step, first), (_, _, second) = ended.results
    assert outcome.step == step == 12
    assert_equal(first, second)
    assert recorded_steps(run) == ([5, 10, 12], [0, 4, 8, 12], [3, 6, 9, 12])
    assert len(list(run.glob("events.out.tfevents.*"))) == 2  # before and after the rollback
    events = (run / "events.txt").read_text()
    assert events.count("alarm: ") == events.count("rollback 1 of 3") == 1
    (group,) = load(checkpoints(run)[-1])["generator_optimizer"]["param_groups"]
    assert group["lr"] == 5e-5


def test_a_full_disk_on_rank_0_ends_all_processes_with_one_line(tmp_path, monkeypatch):
    run = tmp_path / "run"

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(SummaryWriter, "add_scalar", fail)
    ended = run_processes(lambda world: run_loop(trainer(world=world, steps=9, **SCHEDULE), run), tmp_path)
    assert ended.codes == [2, 2]
    errors = [line for line in ended.errors.splitlines() if line.startswith("error: ")]
    assert errors == [
        f"error: {run} cannot be written to: No space left on device; its checkpoints are intact"
    ]
