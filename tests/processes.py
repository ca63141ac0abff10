"""Processes that train together, forked from the test's own so that torch need not be loaded again."""

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


class Ended(NamedTuple):
    """How the processes ended, in the order of their ranks."""

    codes: list[int | None]
    results: list[Any]
    """What the work gave; None where it did not come to its end."""
    errors: str
    """What all of them wrote to standard error."""


@cache
def warm_up() -> None:
    """Make a step, so that what torch loads and compiles at the first is there in forked processes."""
    made = trainer(batch_size=4)
    made.step()
    made.samples()


def run_processes(work: Callable[[World], Any], folder: Path, size: int = 2) -> Ended:
    """Do `work` in so many processes of one world, as if torchrun had started them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    warm_up()
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_one, args=(work, folder, rank, size, port)) for rank in range(size)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(100)
        if process.is_alive():
            process.kill()
    results = [folder / f"result{rank}" for rank in range(size)]
    return Ended(
        [process.exitcode for process in processes],
        [pickle.loads(path.read_bytes()) if path.exists() else None for path in results],
        "".join((folder / f"error{rank}").read_text() for rank in range(size)),
    )


def _one(work: Callable[[World], Any], folder: Path, rank: int, size: int, port: int) -> None:
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(size), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    sys.stderr = (folder / f"error{rank}").open("w", buffering=1)
    with join_world() as world:
        (folder / f"result{rank}").write_bytes(pickle.dumps(work(world)))
