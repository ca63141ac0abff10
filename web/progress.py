"""How far a run is: the new lines of metrics.jsonl, its state, best step, alarms and the time left.

Nothing here imports torch.
"""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from engine.best import BestTracker
from engine.runs import checkpoints, sample_grids, step_of
from lab.kinds import KINDS
from lab.run_state import RUNNING, run_state
from web.library import read_config

Row = dict[str, float]
"""The step and the finite values of a line of metrics.jsonl."""

MAX_ROWS = 3000
"""Most rows of earlier log lines that a page is sent; those with scores are sent in any case."""
STATE_SECONDS = 3.0
"""Time between looks at whether a run is locked, for which its lock is taken for a moment."""
RATES = 10
"""Log lines from which the speed is the median."""
EVENT = re.compile(r"step (\d[\d,]{0,30}): (.*)")
SPEED = "speed/images_per_second"


class Follower:
    """Reads metrics.jsonl as it grows.

    Args:
        run: the run's folder. Neither it nor the file need exist.
    """

    def __init__(self, run: Path) -> None:
        self._path = run / "metrics.jsonl"
        self._file: tuple[int, int] | None = None
        self._offset = 0

    def poll(self) -> tuple[bool, list[Row]]:
        """The complete lines since the last call, and whether they replace all before them.

        They do at the first call, and after the file was truncated, as by a rollback or a resume. Damaged
        lines are left out.
        """
        try:
            with self._path.open("rb") as file:
                status = os.fstat(file.fileno())
                identity = status.st_dev, status.st_ino
                again = identity != self._file or status.st_size < self._offset
                if again:
                    self._file, self._offset = identity, 0
                file.seek(self._offset)
                complete = file.read().rpartition(b"\n")
        except OSError:
            first, self._file, self._offset = self._file is not None or self._offset > 0, None, 0
            return first, []
        self._offset += len(complete[0]) + len(complete[1])
        return again, [row for line in complete[0].splitlines() if (row := _row(line)) is not None]


def _row(line: bytes) -> Row | None:
    try:
        values = json.loads(line)
        step = int(values["step"])
        numbers = {
            str(name): float(value)
            for name, value in values.items()
            if name != "step" and isinstance(value, int | float)
        }
    except (ValueError, TypeError, LookupError, RecursionError, OverflowError):
        return None
    return {"step": step, **{name: value for name, value in numbers.items() if math.isfinite(value)}}


def to_columns(rows: Sequence[Row]) -> dict[str, list[float | None]]:
    """Rows as columns of equal length, rounded to six digits; None where a row has no value."""
    names = {name: None for row in rows for name in row}
    return {name: [_rounded(row.get(name)) for row in rows] for name in names}


def downsample(rows: Sequence[Row], limit: int = MAX_ROWS) -> list[Row]:
    """About `limit` rows, evenly chosen, with the last, and all that have scores."""
    every = max(1, math.ceil(len(rows) / limit))
    return [
        row
        for index, row in enumerate(rows)
        if index % every == 0 or index == len(rows) - 1 or any(name.startswith("score/") for name in row)
    ]


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")


class Progress:
    """Follows a run.

    Args:
        run: its folder.
    """

    def __init__(self, run: Path) -> None:
        self._run = run
        self._follower = Follower(run)
        self._speeds: list[float] = []
        self._step = 0
        self._best = BestTracker()
        self._state, self._looked = "", -math.inf

    def poll(self) -> dict[str, Any]:
        """What a page shows: new rows as `columns`, whether they replace all others, and the status."""
        config = read_config(self._run)
        kind = KINDS.get(config["kind"])
        reset, rows = self._follower.poll()
        if reset:
            self._speeds, self._step = [], 0
            self._best = BestTracker(kind.smoothed if kind else 1)
        for row in rows:
            self._step = int(row["step"])
            if SPEED in row:
                self._speeds = [*self._speeds, row[SPEED]][-RATES:]
            if kind and kind.metric in row:
                self._best.add(self._step, row[kind.metric])
        return {
            "reset": reset,
            "columns": to_columns(downsample(rows)),
            "status": self._status(config),
        }

    def _status(self, config: dict[str, Any]) -> dict[str, Any]:
        settings = config["settings"]
        steps, minutes, batch = (_number(settings.get(key)) for key in ("steps", "minutes", "batch_size"))
        kind = KINDS.get(config["kind"])
        if time.monotonic() - self._looked > STATE_SECONDS:
            saved = [step_of(path) for path in checkpoints(self._run)]
            whole_steps = None if steps is None else int(steps)
            step, last_saved = max([self._step, *saved]), max(saved, default=0)
            self._state = run_state(self._run, step, last_saved, whole_steps, minutes)
            self._looked = time.monotonic()
        speed = median(self._speeds) if self._speeds else None
        return {
            "state": self._state,
            "step": self._step,
            "steps": steps,
            "minutes": minutes,
            "images_per_second": speed,
            "seconds_left": self._seconds_left(steps, minutes, batch, speed),
            "best": self._best.step,
            "score": _rounded(self._best.score) if self._best.step is not None else None,
            "label": kind.label if kind else None,
            "metric": kind.metric if kind else None,
            "events": read_events(self._run),
            "samples": list_samples(self._run),
        }

    def _seconds_left(
        self, steps: float | None, minutes: float | None, batch: float | None, speed: float | None
    ) -> float | None:
        """An estimate for a run that is training; None if there is none."""
        if self._state != RUNNING:
            return None
        left = []
        if steps is not None and batch and speed:
            left.append(max(0.0, steps - self._step) * batch / speed)
        started = started_at(self._run)
        if minutes is not None and started is not None:
            left.append(max(0.0, started + 60 * minutes - time.time()))
        return round(min(left), 1) if left else None


def _number(value: object) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return value if is_number else None


def started_at(run: Path) -> float | None:
    """When the run was started or resumed last [s since 1970], which wrote its config.json; None without one.

    A rollback starts another TensorBoard file, but the minutes go on.
    """
    try:
        return (run / "config.json").stat().st_mtime
    except OSError:
        return None


def read_events(run: Path) -> list[dict[str, Any]]:
    """The lines of events.txt: step, text, and whether it is an alarm."""
    try:
        text = (run / "events.txt").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    found = (EVENT.fullmatch(line) for line in text.splitlines())
    return [
        {
            "step": int(match[1].replace(",", "")),
            "text": match[2],
            "alarm": match[2].startswith(("alarm: ", "warning: ", "stopped: ")),
        }
        for match in found
        if match
    ]


def list_samples(run: Path) -> list[tuple[int, int]]:
    """Step and version of each sample grid; the version changes with the file."""
    samples = []
    for path in sample_grids(run):
        try:
            samples.append((step_of(path), path.stat().st_mtime_ns // 1_000_000))
        except OSError:  # removed by a rollback
            continue
    return samples
