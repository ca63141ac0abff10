"""Processes that train together, forked from the test's own so that torch is loaded only once."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import socket
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from engine.distributed import World, join_world
from tests.small_trainer import trainer


class ProcessResults(NamedTuple):
    """How the processes ended, ordered by rank."""

    codes: list[int | None]
    results: list[Any]
    """What the work returned; None if it did not finish."""
    errors: str
    """Standard error of all processes."""


@cache
def warm_up() -> None:
    """Make a step, so that forked processes inherit what torch loads and compiles at the first one."""
    warm = trainer(batch_size=4)
    warm.step()
    warm.samples()


def launcher_environment(rank: object, size: object, port: object) -> dict[str, str]:
    """The environment variables that torchrun sets."""
    return {"RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


def run_processes(work: Callable[[World], Any], folder: Path, size: int = 2) -> ProcessResults:
    """Call `work` in `size` processes of one world, as if torchrun had started them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    warm_up()
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_run, args=(work, folder, rank, size, port)) for rank in range(size)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(100)
        if process.is_alive():
            process.kill()
    results = [folder / f"result{rank}" for rank in range(size)]
    return ProcessResults(
        [process.exitcode for process in processes],
        [pickle.loads(path.read_bytes()) if path.exists() else None for path in results],
        "".join((folder / f"error{rank}").read_text() for rank in range(size)),
    )


def _run(work: Callable[[World], Any], folder: Path, rank: int, size: int, port: int) -> None:
    os.environ.update(launcher_environment(rank, size, port))
    sys.stderr = (folder / f"error{rank}").open("w", buffering=1)
    with join_world() as world:
        (folder / f"result{rank}").write_bytes(pickle.dumps(work(world)))
