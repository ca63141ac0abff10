"""Work spread over processes that end with their parent and leave Ctrl-C to it."""

from __future__ import annotations

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

Job = TypeVar("Job")
Result = TypeVar("Result")

MOST_WORKERS = 32
"""More than these are never fed by the one process that collects what they made."""


def worker_count(wanted: int | None) -> int:
    """The number of worker processes; one for each core this process may use if None."""
    if wanted is not None:
        return wanted
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def parallel_map(task: Callable[[Job], Result], jobs: Sequence[Job], workers: int) -> Iterator[Result]:
    """Call `task` for each job and yield the results in the order of the jobs, a few ahead of the caller.

    Close the iterator (`contextlib.closing`) where it may not be used up.

    Args:
        task: can be pickled, as can jobs and results.
        jobs: each worth at least a few milliseconds, what handing it over takes being a tenth of one.
        workers: processes; 0 works in this one. They are spawned, never forked, so that they are safe
            beside threads; a script that calls this with workers needs its `if __name__ == "__main__"`.

    Raises:
        UserError: a worker was ended from outside or could not start.
    """
    if workers == 0:
        yield from map(task, jobs)
        return
    if not jobs:
        return
    workers = min(workers, len(jobs), MOST_WORKERS)
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_start_worker)
    waiting: deque[Future[Result]] = deque()
    try:
        for job in jobs:
            waiting.append(pool.submit(task, job))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool:
        raise UserError(
            "a worker process ended early (out of memory?); --workers 0 does its work without one"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    # Ctrl-C reaches every process of a terminal; the parent alone answers it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Leave when the parent is gone; a pool's workers would wait for its next task for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)
