"""Shared by the benchmarks: measurements in new processes, spreads, exponents, tables.

Each measurement is made in a process of its own, so that nothing but the system's file cache is warm. Memory
is anonymous memory, which processes cannot share and the system cannot drop. Reading it needs Linux.
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

MEMORY_INTERVAL = 0.1
"""Seconds between readings of the memory; shorter peaks can be missed."""


@dataclass(frozen=True)
class Cost:
    """Resources used by a process and its children."""

    seconds: float
    """Wall-clock time, the start of the interpreter included."""
    cpu_seconds: float
    """CPU time of all threads and processes; more reliable on a busy machine."""
    memory: float
    """Peak sum of anonymous memory [MB of 10^6 bytes]."""


@dataclass(frozen=True)
class Spread:
    """Median and range of repeated measurements."""

    median: float
    min: float
    max: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of one or more values."""
        return cls(median(values), min(values), max(values), len(values))

    def __str__(self) -> str:
        text = rounded(self.median)
        return text if self.count == 1 else f"{text} ({rounded(self.min)} to {rounded(self.max)})"


def rounded(value: float) -> str:
    """A number with three significant digits, or without decimals from 100 on."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def exponent(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """The exponent b of y = a x^b by least squares of the logarithms, and its standard error.

    Args:
        x: positive, three or more different values.
        y: positive, as many.
    """
    log_x, log_y = np.log(x), np.log(y)
    slope, intercept = np.polyfit(log_x, log_y, 1)
    residual = float(((log_y - slope * log_x - intercept) ** 2).sum())
    variation = float(((log_x - log_x.mean()) ** 2).sum())
    return float(slope), (residual / (len(log_x) - 2) / variation) ** 0.5


def run_python(*arguments: object, folder: Path, threads: int | None = None) -> Cost:
    """Run the Python interpreter in a new process.

    Args:
        arguments: of the interpreter: a script and its arguments.
        folder: working directory.
        threads: of the arithmetic; the default of the libraries if None.

    Raises:
        UserError: the process failed; the message is the last line that it wrote.
    """
    # A user finds compiled files from the first start on.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    cpu_before, start = _cpu_seconds_of_children(), time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    peak = 0.0
    with multiprocessing.pool.ThreadPool(1) as reader:
        pending = reader.apply_async(process.stderr.read)
        while not pending.ready():
            peak = max(peak, anonymous_memory(process.pid))
            pending.wait(MEMORY_INTERVAL)
        errors = pending.get()
    code = process.wait()
    seconds = time.perf_counter() - start
    if code:
        last = (errors.splitlines() or [f"exit code {code}"])[-1].removeprefix("error: ")
        raise UserError(f"{Path(str(arguments[0])).name} failed: {last}")
    return Cost(seconds, _cpu_seconds_of_children() - cpu_before, peak)


def call_in_subprocess(function: Callable[..., Value], *arguments: object) -> tuple[Value, Cost]:
    """Call a function in a new process; its result and cost. Function, arguments and result are pickled.

    Raises:
        UserError: the function raised; the process has printed the traceback.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    cpu_before, start = _cpu_seconds_of_children(), time.perf_counter()
    process = context.Process(target=_send_result, args=(sender, function, arguments))
    process.start()
    sender.close()
    peak = 0.0
    while not receiver.poll(MEMORY_INTERVAL):
        peak = max(peak, anonymous_memory(process.pid))
    try:
        value = receiver.recv()
    except EOFError:
        process.join()
        raise UserError(f"{function.__name__} failed, see above") from None
    process.join()
    return value, Cost(time.perf_counter() - start, _cpu_seconds_of_children() - cpu_before, peak)


def anonymous_memory(pid: int | None = None) -> float:
    """Anonymous memory of a process (by default this one) and its children [MB]; 0 once it has ended.

    Raises:
        UserError: on other systems than Linux.
    """
    return sum(map(_anonymous_memory, _with_descendants(os.getpid() if pid is None else pid)))


def reset_peak() -> None:
    """Restart the measurement of `peak_anonymous_memory`."""
    _on_linux(lambda: Path("/proc/self/clear_refs").write_text("5"))  # see proc_pid_clear_refs(5)


def peak_anonymous_memory() -> float:
    """Peak anonymous memory of this process [MB], however short the peak.

    Too low by at most the pages of files that were read after the peak.
    """
    status = _on_linux(Path("/proc/self/status").read_text)
    sizes = {line.split(":")[0]: line.split()[1] for line in status.splitlines() if line.endswith(" kB")}
    return (int(sizes["VmHWM"]) - int(sizes["RssFile"]) - int(sizes["RssShmem"])) * 1024e-6


def interleave(tasks: Mapping[str, Callable[[], Value]], times: int) -> dict[str, list[Value]]:
    """Run all tasks one after another, `times` times; the results of each.

    Slow changes, such as a warm processor's clock rate, then affect all tasks alike.
    """
    results: dict[str, list[Value]] = {name: [] for name in tasks}
    for _ in range(times):
        for name, task in tasks.items():
            results[name].append(task())
    return results


def print_rows(rows: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    """Print rows with equal keys as a Markdown table, or as JSON with unrounded numbers."""
    if as_json:
        print(json.dumps(rows, indent=1, default=vars))
        return
    print(f"| {' | '.join(rows[0])} |\n|{'---|' * len(rows[0])}")
    for row in rows:
        print(f"| {' | '.join(_cell(value) for value in row.values())} |")


def log(text: str) -> None:
    """Report progress on standard error; standard output is for results."""
    print(text, file=sys.stderr, flush=True)


def _send_result(sender: Connection, function: Callable[..., Any], arguments: tuple[object, ...]) -> None:
    sender.send(function(*arguments))


def _with_descendants(pid: int) -> list[int]:
    """A process and its descendants that are still running."""
    children: list[int] = []
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            children += map(int, (thread / "children").read_text().split())
    return [pid, *(process for child in children for process in _with_descendants(child))]


def _anonymous_memory(pid: int) -> float:
    try:
        rollup = _on_linux(Path(f"/proc/{pid}/smaps_rollup").read_text)
    except OSError:
        return 0.0  # it has just ended
    # A page that several forked processes share counts in parts (PSS).
    return sum(int(line.split()[1]) * 1024e-6 for line in rollup.splitlines() if line.startswith("Pss_Anon"))


def _on_linux(function: Callable[[], Value]) -> Value:
    if sys.platform != "linux":
        raise UserError("memory can be measured on Linux only")
    return function()


def _cpu_seconds_of_children() -> float:
    times = os.times()
    return times.children_user + times.children_system


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return rounded(value) if isinstance(value, float) else str(value)
