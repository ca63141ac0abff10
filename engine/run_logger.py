"""What a run leaves for people to look at: TensorBoard, metrics.jsonl, sample grids."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.summary.writer.record_writer import RecordWriter
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from engine.files import atomic_write, remove_partial_files
from engine.png import save_png
from engine.runs import sample_grids, sample_path, step_of


class RunLogger:
    """Writes a run's curves and pictures, from the step at which it starts or goes on.

    Args:
        run: the run's folder, which no other process may write to until `close`: see `engine.lock`.
        step: steps done so far. What an earlier sitting recorded beyond it is removed first, so that
            no step stands twice in the curves.

    Raises:
        OSError: the folder cannot be written to.
    """

    def __init__(self, run: Path, step: int) -> None:
        self.run = run
        self._open(step)

    def _open(self, step: int) -> None:
        _cut(self.run, step)
        self._metrics = (self.run / "metrics.jsonl").open("a", encoding="utf-8")
        self._board = SummaryWriter(str(self.run))

    def truncate(self, step: int) -> None:
        """Remove what was recorded after a step from which training goes on once more."""
        self.close()
        self._open(step)

    def log_event(self, step: int, text: str) -> None:
        """Tell of something that happened to the run: a line in events.txt, which is only ever added to."""
        with (self.run / "events.txt").open("a", encoding="utf-8") as file:
            file.write(f"step {step}: {text}\n")
        self._board.add_text("events", text, step)

    def log_scalars(self, step: int, values: dict[str, float]) -> None:
        """Add a point to each curve; a line in metrics.jsonl holds them all."""
        self._metrics.write(json.dumps({"step": step, **values}) + "\n")
        self._metrics.flush()
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def log_real_images(self, grid: NDArray[np.uint8]) -> None:
        """Write a tiled picture of training images, uint8 [3, H, W], beside the samples: real.png."""
        save_png(self.run / "real.png", grid, {"run": self.run.name, "content": "images of the data set"})
        self._board.add_image("real", grid, 0)

    def log_samples(self, step: int, grid: NDArray[np.uint8], seed: int) -> None:
        """Write a tiled picture, uint8 [3, H, W], of what the network makes of inputs drawn by `seed`."""
        text = {"run": self.run.name, "step": str(step), "seed": str(seed)}
        save_png(sample_path(self.run, step), grid, text)
        self._board.add_image("samples", grid, step)

    def log_histograms(self, step: int, networks: Mapping[str, nn.Module | Mapping[str, Tensor]]) -> None:
        """Add a histogram of every weight tensor of networks, and of every tensor that is named itself."""
        for network_name, network in networks.items():
            named = network.named_parameters() if isinstance(network, nn.Module) else network.items()
            for name, weight in named:
                self._board.add_histogram(f"{network_name}/{name}", weight.detach().cpu(), step)

    def flush(self) -> None:
        """Have everything on disk, as before a checkpoint that claims it."""
        self._board.flush()

    def close(self) -> None:
        """Finish the files. What is lost on a full disk only now is of no step that was saved."""
        for file in (self._metrics, self._board):
            with contextlib.suppress(OSError):
                file.close()


def _cut(run: Path, step: int) -> None:
    """Remove what was recorded after a step, and what a kill left half-written."""
    metrics = run / "metrics.jsonl"
    ours = ("config.json", "skipped.txt", "real.png", metrics.name)
    remove_partial_files([*(run / name for name in ours), *run.glob("events.out.tfevents.*")])
    for unfinished in sample_path(run, 0).parent.glob(".step_*.png"):
        unfinished.unlink()
    if metrics.exists():
        kept = [line for line in metrics.read_bytes().splitlines() if _within(line, step)]
        with atomic_write(metrics) as path:
            path.write_bytes(b"".join(line + b"\n" for line in kept))
    for events in run.glob("events.out.tfevents.*"):
        _cut_events(events, step)
    for grid in sample_grids(run):
        if step_of(grid) > step:
            grid.unlink()


def _within(line: bytes, step: int) -> bool:
    try:
        return json.loads(line)["step"] <= step
    except (ValueError, KeyError, TypeError):  # a kill in the middle of a line
        return False


def _cut_events(events: Path, step: int) -> None:
    with atomic_write(events) as path, path.open("wb") as file:
        writer = RecordWriter(file)
        for record in RawEventFileLoader(str(events)).Load():
            if Event.FromString(record).step <= step:
                writer.write(record)
