"""What a run has left in its folder, as tests look at it."""

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


def newest() -> Path:
    """The run begun last, in the working directory."""
    return max(Path("outputs").iterdir())


def config(run: Path) -> dict:
    """What config.json holds."""
    return json.loads((run / "config.json").read_text(encoding="utf-8"))


def lines(run: Path) -> list[dict]:
    """The lines of metrics.jsonl without the speed, which no two runs share."""
    read = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{name: value for name, value in line.items() if not name.startswith("speed")} for line in read]


def steps(paths: list[Path]) -> list[int]:
    """Those that the names of checkpoints or sample grids tell."""
    return [step_of(path) for path in paths]


def count_event_file_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let TensorBoard read event files in the order of creation.

    It sorts them by name, which contains the second and an unpadded counter: 10 would come before 9.
    """
    clock = SimpleNamespace(time=itertools.count(1_700_000_000).__next__)
    monkeypatch.setattr("tensorboard.summary.writer.event_file_writer.time", clock)


def assert_same_training(run: Path, other: Path) -> None:
    """The same checkpoint and curves, whatever the runs are called."""
    one, two = (load(checkpoints(each)[-1]) for each in (run, other))
    for state in (one, two):
        state["settings"].pop("name")
    assert_equal(one, two)
    assert lines(run) == lines(other)


def assert_same_run(run: Path, other: Path) -> None:
    """The same weights of all networks, optimizers, losses, samples and curves, each step once."""
    assert_equal(load(checkpoints(run)[-1]), load(checkpoints(other)[-1]))
    assert lines(run) == lines(other)
    assert steps(sample_grids(run)) == steps(sample_grids(other))
    for one, two in zip(sample_grids(run), sample_grids(other), strict=True):
        assert np.array_equal(load_png(one), load_png(two))
    for one in (run, other):
        board = EventAccumulator(str(one), {"scalars": 0, "images": 0}).Reload()
        for name in set(lines(one)[0]) - {"step"}:
            points = [(point.step, point.value) for point in board.Scalars(name)]
            told = [(line["step"], pytest.approx(line[name], rel=1e-6)) for line in lines(one)]
            assert sorted(points) == told
        assert sorted(image.step for image in board.Images("samples")) == steps(sample_grids(one))
