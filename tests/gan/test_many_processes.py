"""Two processes that train one pair of networks, against one process that does."""

from __future__ import annotations

import copy
import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.tensorboard import SummaryWriter

from engine.budget import TrainingResult
from engine.checkpoint import load
from engine.distributed import World
from engine.run_logger import RunLogger
from engine.runs import checkpoints, sample_grids, step_of
from gan.loop import GanLoop
from gan.trainer import Trainer
from images.tiles import to_float
from tests.processes import run_processes
from tests.small_trainer import IMAGES, batches_of, first_gradients, relative, trainer, weights
from tests.states import assert_equal

FORMS = {
    "default, unequal shares": {"batch_size": 7, "negatives": 0.5},
    "negatives that straddle the shares": {"batch_size": 8, "negatives": 0.4},
    "batch norm": {"normalisation": "batch", "batch_size": 7, "negatives": 0.5},
    "plain": {"plain": True},
}


@pytest.mark.parametrize("form", FORMS)
def test_two_processes_make_the_steps_of_one_and_have_equal_weights(tmp_path, form):
    options = FORMS[form]

    def work(world: World) -> dict:
        made = trainer(world=world, seed=1, **options)
        made.step()
        result = {"gradients": first_gradients(made), "statistics": made.statistics()}
        for _ in range(3):
            made.step()
        average = weights_of(made.average.network) if made.average else []
        return result | {"weights": weights(made), "average": average}

    first, second = run_processes(work, tmp_path).results
    assert_equal(first, second)
    alone = trainer(seed=1, **options)
    alone.step()
    assert first["statistics"] == pytest.approx(alone.statistics(), rel=1e-4)
    for gradient, true in zip(first["gradients"], first_gradients(alone), strict=True):
        assert relative(gradient, true) < 1e-3


def weights_of(network: torch.nn.Module) -> list[torch.Tensor]:
    return [weight.detach().clone() for weight in network.parameters()]


def test_all_begin_with_the_weights_of_the_first(tmp_path):
    def work(world: World) -> list[torch.Tensor]:
        return weights(trainer(world=world, seed=world.rank))

    first, second = run_processes(work, tmp_path).results
    assert_equal(first, second)
    assert_equal(first, weights(trainer(seed=0)))


def test_no_image_is_seen_twice_in_an_epoch(tmp_path):
    """30 images in batches of 6: five steps."""

    def work(world: World) -> list[bytes]:
        made = trainer(world=world, batch_size=6, flip=False)
        batches = batches_of(made)
        for _ in range(5):
            made.step()
        return [image.numpy().tobytes() for batch in batches for image in batch.real]

    first, second = run_processes(work, tmp_path).results
    assert len(first) == len(second) == 15
    every_image = to_float(torch.from_numpy(IMAGES))
    assert sorted(first + second) == sorted(image.numpy().tobytes() for image in every_image)


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_a_state_goes_on_with_another_number_of_processes(tmp_path, before, after):
    def steps(world: World, state: dict | None = None) -> dict:
        made = trainer(world=world)
        if state:
            made.load_state(state)
        for _ in range(2):
            made.step()
        return copy.deepcopy(made.state()) | {"step": made.step_count}

    straight = trainer()
    for _ in range(4):
        straight.step()
    state = done(steps, tmp_path, before)
    assert state["step"] == 2
    went_on = done(lambda world: steps(world, state), tmp_path, after)
    assert went_on["step"] == 4
    for name, true in straight.generator.named_parameters():
        # Adam's first steps are as long where a gradient is all but 0, and its sign chance: the mean.
        assert (went_on["generator"][name] - true).abs().mean() < 2e-6


def done(work, folder: Path, size: int) -> dict:
    """Its result, by so many processes."""
    return work(World()) if size == 1 else run_processes(work, folder, size).results[0]


LOOP = {"log_every": 3, "sample_every": 4, "checkpoint_every": 5, "keep": 10}
LOOP |= {"ema_half_life": 0.0}  # its statistics are most of the time


class Disturbed(Trainer):
    """A trainer to which something happens after a step, once."""

    def __init__(self, world: World, what, at: int, **changes) -> None:
        settings = replace(trainer().settings, **LOOP | changes)
        super().__init__(settings, IMAGES, torch.device("cpu"), world=world)
        self.what, self.at = what, at

    def step(self) -> None:
        super().step()
        if self.step_count == self.at:
            self.at = -1
            self.what()


def looped(made: Trainer, run: Path) -> TrainingResult:
    """The training loop, with a logger in the first process alone, as `open_run` has it."""
    logger = RunLogger(run, 0) if made.world.is_rank_zero else None
    try:
        return GanLoop(made, logger, IMAGES).train()
    finally:
        if logger:
            logger.close()


def made_by(run: Path) -> tuple[list[int], list[int], list[int]]:
    """Steps of checkpoints, samples and log lines."""
    logged = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [step_of(path) for path in checkpoints(run)], [step_of(path) for path in sample_grids(run)], logged


def test_a_signal_to_any_process_ends_all_after_the_same_step(tmp_path):
    run = tmp_path / "run"
    run.mkdir()

    def work(world: World) -> tuple[TrainingResult, list[torch.Tensor]]:
        def hit() -> None:
            if world.rank == 1:
                # As from the terminal, and once more from torchrun.
                for _ in range(2):
                    os.kill(os.getpid(), signal.SIGINT)

        made = Disturbed(world, hit, 7, steps=50)
        return looped(made, run), weights(made)

    ended = run_processes(work, tmp_path)
    assert ended.codes == [0, 0]
    for outcome, _ in ended.results:
        assert (outcome.step, outcome.exit_code) == (7, 130)
    assert made_by(run) == ([5, 7], [0, 4, 7], [3, 6])
    (_, first), (_, second) = ended.results
    assert_equal(first, second)


def test_all_go_back_together_and_only_the_first_writes(tmp_path):
    run = tmp_path / "run"
    run.mkdir()

    def work(world: World) -> tuple[TrainingResult, int, list[torch.Tensor]]:
        def poison() -> None:
            if world.rank == 1:
                with torch.no_grad():
                    made.generator.project.weight[0, 0] = float("nan")

        made = Disturbed(world, poison, 7, steps=12)
        return looped(made, run), made.step_count, weights(made)

    ended = run_processes(work, tmp_path)
    assert ended.codes == [0, 0]
    (outcome, steps, first), (_, _, second) = ended.results
    assert outcome.step == steps == 12
    assert_equal(first, second)
    assert made_by(run) == ([5, 10, 12], [0, 4, 8, 12], [3, 6, 9, 12])
    assert len(list(run.glob("events.out.tfevents.*"))) == 2  # that before, and that after going back
    events = (run / "events.txt").read_text()
    assert events.count("alarm: ") == events.count("rollback 1 of 3") == 1
    (group,) = load(checkpoints(run)[-1])["generator_optimizer"]["param_groups"]
    assert group["lr"] == 5e-5


def test_a_disk_that_fails_the_first_ends_all_with_one_line(tmp_path, monkeypatch):
    run = tmp_path / "run"
    run.mkdir()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(SummaryWriter, "add_scalar", full)
    ended = run_processes(lambda world: looped(Disturbed(world, None, -1, steps=9), run), tmp_path)
    assert ended.codes == [2, 2]
    lines = [line for line in ended.errors.splitlines() if line.startswith("error: ")]
    assert lines == [
        f"error: {run} cannot be written to: No space left on device; its checkpoints are intact"
    ]
