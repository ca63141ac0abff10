"""What a run has left in its folder, as tests look at it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from engine.checkpoint import load
from engine.png import load_png
from engine.runs import checkpoints, samples, step_of
from tests.states import assert_equal


def newest_run() -> Path:
    """The run begun last, in the working directory."""
    return max(Path("outputs").iterdir())


def read_config(run: Path) -> dict:
    """What config.json holds."""
    return json.loads((run / "config.json").read_text(encoding="utf-8"))


def read_metrics(run: Path) -> list[dict]:
    """The lines of metrics.jsonl without the speed, which no two runs share."""
    read = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{name: value for name, value in line.items() if not name.startswith("speed")} for line in read]


def steps(paths: list[Path]) -> list[int]:
    """Those that the names of checkpoints or sample grids tell."""
    return [step_of(path) for path in paths]


def assert_same_training(run: Path, other: Path) -> None:
    """The same checkpoint and curves, whatever the runs are called."""
    one, two = (load(checkpoints(each)[-1]) for each in (run, other))
    for state in (one, two):
        state["settings"].pop("name")
    assert_equal(one, two)
    assert read_metrics(run) == read_metrics(other)


def assert_same_run(run: Path, other: Path) -> None:
    """The same weights of all networks, optimizers, losses, samples and curves, each step once."""
    assert_equal(load(checkpoints(run)[-1]), load(checkpoints(other)[-1]))
    assert read_metrics(run) == read_metrics(other)
    assert steps(samples(run)) == steps(samples(other))
    for one, two in zip(samples(run), samples(other), strict=True):
        assert np.array_equal(load_png(one), load_png(two))
    for one in (run, other):
        board = EventAccumulator(str(one), {"scalars": 0, "images": 0}).Reload()
        for name in set(read_metrics(one)[0]) - {"step"}:
            points = [(point.step, point.value) for point in board.Scalars(name)]
            told = [(line["step"], pytest.approx(line[name], rel=1e-6)) for line in read_metrics(one)]
            assert sorted(points) == told
        assert sorted(image.step for image in board.Images("samples")) == steps(samples(one))
