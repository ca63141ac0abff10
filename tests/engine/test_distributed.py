"""Two processes that communicate over gloo."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
import time
from datetime import timedelta

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.distributed import EXIT_PROCESS_LOST, World, join_world
from engine.errors import UserError
from tests.processes import launcher_environment, run_processes


@given(st.integers(1, 300), st.integers(1, 20))
def test_shards_cover_the_batch_and_are_nearly_equal(batch_size, size):
    world, rows = World(), []
    world.size = size
    for world.rank in range(size):
        shard = world.shard(batch_size)
        rows.extend(range(batch_size)[shard])
        assert shard.stop - shard.start in (batch_size // size, -(-batch_size // size))
    assert rows == list(range(batch_size))


def test_a_single_process_waits_for_nothing():
    world = World()
    tensor = torch.ones(3)
    world.all_reduce_sum([tensor])
    world.broadcast([tensor])
    world.check_equal("a", "never raised")
    assert torch.equal(tensor, torch.ones(3))
    assert torch.equal(world.all_gather(tensor), tensor[None])
    assert world.all_reduce_max(3, 0) == [3, 0]
    assert world.on_rank_zero(lambda: 5) == world.rank_zero_first(lambda: 5) == 5
    assert world.stored_run() is None


def test_all_processes_get_the_same(tmp_path):
    order = tmp_path / "order"

    def work(world: World) -> dict:
        own = [torch.full((2, 3), world.rank + 1.0), torch.tensor(10.0 * world.rank)]
        world.all_reduce_sum(own)
        drawn = torch.rand(4) if world.is_rank_zero else torch.zeros(4)
        world.broadcast([drawn])

        def write() -> int:
            with order.open("a") as file:
                file.write(str(world.rank))
            return world.rank

        if world.is_rank_zero:
            time.sleep(0.2)
        rank = world.rank_zero_first(write)
        world.store_run(tmp_path / f"run{world.rank}")
        return {
            "sums": [tensor.tolist() for tensor in own],
            "all_gather": world.all_gather(torch.tensor([world.rank, 5])).tolist(),
            "all_reduce_max": world.all_reduce_max(world.rank, -world.rank),
            "on_rank_zero": world.on_rank_zero(lambda: os.getpid()),
            "drawn": drawn.tolist(),
            "stored_run": world.on_rank_zero(world.stored_run).name,
            "own": (rank, world.is_single, world.on_rank_zero(lambda: world.is_single)),
        }

    first, second = run_processes(work, tmp_path).results
    assert first.pop("own") == (0, False, True)
    assert second.pop("own") == (1, False, True)
    assert first == second
    assert first["sums"] == [[[3.0] * 3] * 2, 10.0]
    assert first["all_gather"] == [[0, 5], [1, 5]]
    assert first["all_reduce_max"] == [1, 0]
    assert first["stored_run"] == "run0"
    assert order.read_text() == "01"


def fail(message: str) -> None:
    raise UserError(message)


def fail_on_rank_0(world: World) -> None:
    world.on_rank_zero(lambda: fail("no such run"))


def fail_on_rank_1(world: World) -> None:
    world.rank_zero_first(lambda: fail("no such folder") if world.rank == 1 else None)


def differ_on_rank_1(world: World) -> None:
    world.check_equal(str(world.rank), "another folder")


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (fail_on_rank_0, "error: no such run\n"),
        (fail_on_rank_1, "error: no such folder\n"),
        (differ_on_rank_1, "error: another folder (rank 1)\n"),
    ],
)
def test_a_user_error_in_one_process_ends_all_with_one_line(tmp_path, work, message):
    ended = run_processes(work, tmp_path)
    assert ended.codes == [2, 2]
    assert ended.errors == message


@pytest.mark.parametrize("lost", [0, 1])
@pytest.mark.parametrize("operation", ["all_reduce_sum", "on_rank_zero", "all_reduce_max"])
def test_a_lost_process_soon_ends_the_others_with_one_line(tmp_path, lost, operation):
    def work(world: World) -> None:
        if world.rank == lost:
            time.sleep(0.3)
            os.kill(os.getpid(), signal.SIGKILL)
        while True:
            if operation == "on_rank_zero":
                world.on_rank_zero(lambda: None)
            elif operation == "all_reduce_max":
                world.all_reduce_max(1)
            else:
                world.all_reduce_sum([torch.ones(1000)])

    start = time.monotonic()
    ended = run_processes(work, tmp_path)
    assert time.monotonic() - start < 20
    assert ended.codes[lost] == -signal.SIGKILL
    assert ended.codes[1 - lost] == EXIT_PROCESS_LOST
    assert ended.errors.startswith("error: another process of this run has ended (")
    assert ended.errors.count("\n") == 1
    assert "gloo" not in ended.errors


@pytest.mark.parametrize("saved", [False, True])
def test_a_lost_process_is_reported_with_how_to_resume(tmp_path, saved):
    run = tmp_path / "run"

    def work(world: World) -> None:
        world.store_run(run)
        world.all_reduce_max(1)
        if not world.is_rank_zero:
            os.kill(os.getpid(), signal.SIGKILL)
        while True:
            world.all_reduce_max(1)

    if saved:
        (run / "checkpoints").mkdir(parents=True)
        (run / "checkpoints" / "step_000003.pt").touch()
    ended = run_processes(work, tmp_path)
    if saved:
        assert ended.errors.endswith(f"--resume {run} continues from the newest\n")
    else:
        assert ended.errors.endswith(f"{run} has no checkpoint yet, so training has to start again\n")


@pytest.mark.parametrize(
    ("rank", "occupied", "message"),
    [
        (0, True, "cannot join the others: The server socket has failed to listen"),
        (0, False, "waited 1 seconds for the others to join"),
        (1, True, "waited 1 seconds for the others to join"),  # the other server does not answer
        (1, False, "waited 1 seconds for the others to join"),
        (2, False, "cannot join the others: rank or port out of range"),
        ("first", False, "cannot join the others: invalid literal"),
    ],
)
def test_a_process_that_cannot_join_ends_with_one_line(tmp_path, monkeypatch, rank, occupied, message):
    monkeypatch.setattr("engine.distributed.JOIN_TIMEOUT", timedelta(seconds=1))
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        if occupied:
            server.listen()
        else:
            server.close()

        def join_alone() -> None:
            os.environ.update(launcher_environment(rank, 2, port))
            error = os.open(tmp_path / "error", os.O_CREAT | os.O_WRONLY)
            os.dup2(error, 2)  # torch writes to it too
            sys.stderr = os.fdopen(2, "w", buffering=1)
            with join_world():
                pass

        process = multiprocessing.get_context("fork").Process(target=join_alone)
        process.start()
        process.join(60)
        if process.is_alive():
            process.kill()
    assert process.exitcode == EXIT_PROCESS_LOST
    (line,) = (tmp_path / "error").read_text().splitlines()
    assert line.startswith(f"error: process {rank} of 2, at 127.0.0.1:{port}, {message}")


def test_a_bug_keeps_its_traceback(tmp_path):
    def work(world: World) -> None:
        world.on_rank_zero(lambda: {}["missing"])

    ended = run_processes(work, tmp_path)
    assert ended.codes == [1, 1]
    assert "KeyError: 'missing'" in ended.errors
