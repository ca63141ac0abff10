"""What a run's folder contains, for tests."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from engine.checkpoint import load
from engine.png import load_png
from engine.runs import checkpoints, sample_grids, step_of
from tests.states import assert_equal


def newest_run() -> Path:
    """The newest run in the working directory."""
    return max(Path("outputs").iterdir())


def read_config(run: Path) -> dict:
    """The contents of config.json."""
    return json.loads((run / "config.json").read_text(encoding="utf-8"))


def read_metrics(run: Path) -> list[dict]:
    """The lines of metrics.jsonl, without the speed, which differs between runs."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{name: value for name, value in line.items() if not name.startswith("speed")} for line in lines]


def steps(paths: list[Path]) -> list[int]:
    """The steps in the names of checkpoints or sample grids."""
    return [step_of(path) for path in paths]


def count_event_file_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let TensorBoard read event files in the order of creation.

    It sorts them by name, which contains the second and an unpadded counter: 10 would come before 9.
    """
    clock = SimpleNamespace(time=itertools.count(1_700_000_000).__next__)
    monkeypatch.setattr("tensorboard.summary.writer.event_file_writer.time", clock)


def assert_same_results(left: Path, right: Path) -> None:
    """Fail unless two runs have the same last checkpoint and metrics; their names may differ."""
    states = [load(checkpoints(run)[-1]) for run in (left, right)]
    for state in states:
        state["settings"].pop("name", None)
    assert_equal(*states)
    assert read_metrics(left) == read_metrics(right)


def assert_same_run(left: Path, right: Path) -> None:
    """As `assert_same_results`, with equal samples and TensorBoard logs that contain each step once."""
    assert_same_results(left, right)
    assert steps(sample_grids(left)) == steps(sample_grids(right))
    for pair in zip(sample_grids(left), sample_grids(right), strict=True):
        assert np.array_equal(*map(load_png, pair))
    for run in (left, right):
        board = EventAccumulator(str(run), {"scalars": 0, "images": 0}).Reload()
        for name in set(read_metrics(run)[0]) - {"step"}:
            points = [(point.step, point.value) for point in board.Scalars(name)]
            assert sorted(points) == [
                (line["step"], pytest.approx(line[name], rel=1e-6)) for line in read_metrics(run)
            ]
        assert sorted(image.step for image in board.Images("samples")) == steps(sample_grids(run))
