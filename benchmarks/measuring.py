"""What the benchmarks of speed share: fresh processes, their time and memory, spreads, exponents, tables.

Every measurement is made in a process of its own, so that none finds what another left warm but for the
system's file cache. Memory is anonymous memory: what the processes cannot share and the system cannot
drop, as it could pages of files. Reading it needs Linux.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import multiprocessing.pool
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import numpy as np

from engine.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
Value = TypeVar("Value")

LOOK_EVERY = 0.1
"""Seconds between looks at the memory; shorter peaks can be missed."""


@dataclass(frozen=True)
class Cost:
    """What a process and those that it started took."""

    seconds: float
    """From its start to its end, the start of the interpreter included."""
    cpu_seconds: float
    """Of all its threads and processes; on a busy machine the better guide."""
    memory: float
    """Largest sum of anonymous memory [MB of 10^6 bytes]."""


@dataclass(frozen=True)
class Spread:
    """Repeated measurements of one thing."""

    median: float
    least: float
    most: float
    times: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of one or more values."""
        return cls(median(values), min(values), max(values), len(values))

    def __str__(self) -> str:
        text = short(self.median)
        return text if self.times == 1 else f"{text} ({short(self.least)} to {short(self.most)})"


def short(value: float) -> str:
    """A number with two or three digits that count."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def exponent(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """The b of y = a x^b, by least squares of the logarithms, and its standard error.

    Args:
        x: positive, three or more different values.
        y: positive, as many.
    """
    log_x, log_y = np.log(x), np.log(y)
    (slope, level), residuals = np.polyfit(log_x, log_y, 1), 0.0
    residuals = float(((log_y - slope * log_x - level) ** 2).sum())
    spread = float(((log_x - log_x.mean()) ** 2).sum())
    return float(slope), (residuals / (len(log_x) - 2) / spread) ** 0.5


def run(*words: object, folder: Path, threads: int | None = None) -> Cost:
    """Run Python with these words in a process of its own.

    Args:
        words: a script and what it is told.
        folder: working directory.
        threads: of the arithmetic; as many as it wants if None.

    Raises:
        UserError: it failed; with the last line that it wrote.
    """
    # Compiled files are written once and found again, as a user has it.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    before, start = _cpu_seconds_of_children(), time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *map(str, words)],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    peak = 0.0
    with multiprocessing.pool.ThreadPool(1) as reader:
        told = reader.apply_async(process.stderr.read)
        while not told.ready():
            peak = max(peak, anonymous(process.pid))
            told.wait(LOOK_EVERY)
        error = told.get()
    code = process.wait()
    seconds = time.perf_counter() - start
    if code:
        last = (error.splitlines() or ["without a word"])[-1].removeprefix("error: ")
        raise UserError(f"{Path(str(words[0])).name} failed: {last}")
    return Cost(seconds, _cpu_seconds_of_children() - before, peak)


def fresh(task: Callable[..., Value], *arguments: object) -> tuple[Value, Cost]:
    """What a function gives in a process of its own, and what that cost. All must be fit for pickling."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    before, start = _cpu_seconds_of_children(), time.perf_counter()
    process = context.Process(target=_send, args=(there, task, arguments))
    process.start()
    there.close()
    peak = 0.0
    while not here.poll(LOOK_EVERY):
        peak = max(peak, anonymous(process.pid))
    try:
        value = here.recv()
    except EOFError:
        process.join()
        raise UserError(f"{task.__name__} failed, as told above") from None
    process.join()
    return value, Cost(time.perf_counter() - start, _cpu_seconds_of_children() - before, peak)


def anonymous(pid: int | None = None) -> float:
    """Anonymous memory of a process, this one if None, and of those it started [MB]; 0 once it has ended.

    Raises:
        UserError: on another system than Linux.
    """
    return sum(map(_anonymous, _family(os.getpid() if pid is None else pid)))


def forget_peak() -> None:
    """Let `peak_anonymous` be of what comes after this."""
    _on_linux(lambda: Path("/proc/self/clear_refs").write_text("5"))  # see proc_pid_clear_refs(5)


def peak_anonymous() -> float:
    """The largest anonymous memory of this process [MB], however short it lasted.

    It is low by at most the pages of files that came in after the peak.
    """
    status = _on_linux(Path("/proc/self/status").read_text)
    sizes = {line.split(":")[0]: line.split()[1] for line in status.splitlines() if line.endswith(" kB")}
    return (int(sizes["VmHWM"]) - int(sizes["RssFile"]) - int(sizes["RssShmem"])) * 1024e-6


def in_turn(tasks: Mapping[str, Callable[[], Value]], times: int) -> dict[str, list[Value]]:
    """What each task gives, so many times: one after another and all over again.

    What changes slowly, such as the clock of a warm processor, then meets all alike.
    """
    found: dict[str, list[Value]] = {name: [] for name in tasks}
    for _ in range(times):
        for name, task in tasks.items():
            found[name].append(task())
    return found


def show(rows: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    """Print rows, all with the same names, as a Markdown table, or as JSON with every number in full."""
    if as_json:
        print(json.dumps(rows, indent=1, default=vars))
        return
    print(f"| {' | '.join(rows[0])} |\n|{'---|' * len(rows[0])}")
    for row in rows:
        print(f"| {' | '.join(_cell(value) for value in row.values())} |")


def tell(text: str) -> None:
    """Say on standard error what is being done, so that standard output holds results alone."""
    print(text, file=sys.stderr, flush=True)


def _send(there: Connection, task: Callable[..., Any], arguments: tuple[object, ...]) -> None:
    there.send(task(*arguments))


def _family(pid: int) -> list[int]:
    """A process and those it started, and so on, as far as they still run."""
    children: list[int] = []
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            children += map(int, (thread / "children").read_text().split())
    return [pid, *(member for child in children for member in _family(child))]


def _anonymous(pid: int) -> float:
    try:
        rollup = _on_linux(Path(f"/proc/{pid}/smaps_rollup").read_text)
    except OSError:
        return 0.0  # it has just ended
    # Of pages that a forked process shares with its parent each has a part (PSS).
    return sum(int(line.split()[1]) * 1024e-6 for line in rollup.splitlines() if line.startswith("Pss_Anon"))


def _on_linux(look: Callable[[], Value]) -> Value:
    if sys.platform != "linux":
        raise UserError("memory is told on Linux alone")
    return look()


def _cpu_seconds_of_children() -> float:
    times = os.times()
    return times.children_user + times.children_system


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return short(value) if isinstance(value, float) else str(value)
