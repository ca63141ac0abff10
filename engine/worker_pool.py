"""A pool of processes that end with their parent and leave Ctrl-C and SIGHUP to it."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from engine.errors import UserError
from engine.output import protect_output

Job = TypeVar("Job")
Result = TypeVar("Result")

MAX_WORKERS = 32
"""The one process that collects the results cannot keep more workers busy."""


def worker_count(requested: int | None) -> int:
    """The number of worker processes; if None, one for each core that this process may use."""
    if requested is not None:
        return requested
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def parallel_map(task: Callable[[Job], Result], jobs: Sequence[Job], workers: int) -> Iterator[Result]:
    """Call `task` for each job and yield the results in order, computing a few ahead of the caller.

    Close the iterator (`contextlib.closing`) if it may not be exhausted.

    Args:
        task: can be pickled, as can jobs and results.
        jobs: each should take at least a few milliseconds, as passing one to a worker takes 0.1 ms.
        workers: number of processes; 0 runs the task in this one. Workers are spawned, not forked, so that
            they are safe beside threads: a script that uses them needs its `if __name__ == "__main__"`.

    Raises:
        UserError: a worker was killed or could not start.
    """
    if workers == 0:
        yield from map(task, jobs)
        return
    if not jobs:
        return
    workers = min(workers, len(jobs), MAX_WORKERS)
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_start_worker)
    pending: deque[Future[Result]] = deque()
    try:
        for job in jobs:
            with _blocked_signals():
                pending.append(pool.submit(task, job))
            if len(pending) > 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except BrokenProcessPool:
        raise UserError(
            "a worker process ended unexpectedly (out of memory?); --workers 0 works without one"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _blocked_signals() -> Iterator[None]:
    """Block Ctrl-C and SIGHUP in processes started here, which would die of them before `_start_worker`."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker() -> None:
    protect_output()
    # Ctrl-C and a closing terminal reach all of its processes; only the parent handles them.
    for name in ("SIGINT", "SIGHUP", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    """Exit when the parent is gone: a worker would otherwise wait for its next task forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)
