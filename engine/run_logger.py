"""What a run records for people to look at: TensorBoard, metrics.jsonl, sample grids."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from engine.files import atomic_write, remove_partial_files
from engine.png import save_png
from engine.runs import RunInfo, report_write_errors, sample_grids, sample_path, step_of
from engine.settings import to_json


class RunLogger:
    """Writes a run's metrics and images, starting or resuming at a step.

    Whatever an earlier process recorded after that step is removed first, so that no step appears twice.
    Every method raises `UserError` if the folder is read-only or its disk is full.

    Args:
        run: the run's folder, which no other process may write to until `close`: see `engine.lock`.
        step: steps completed so far.
    """

    def __init__(self, run: Path, step: int) -> None:
        self.run = run
        self._report_errors = partial(report_write_errors, run, "its checkpoints are intact")
        self._open(step)

    def _open(self, step: int) -> None:
        with self._report_errors():
            _remove_after(self.run, step)
            self._metrics = (self.run / "metrics.jsonl").open("a", encoding="utf-8")
            # TensorBoard then hides what earlier event files contain from this step on.
            self._tensorboard = SummaryWriter(str(self.run), purge_step=step + 1)

    def truncate(self, step: int) -> None:
        """Remove what was recorded after a step, from which training resumes."""
        self.close()
        self._open(step)

    def log_event(self, step: int, text: str) -> None:
        """Append a line to events.txt, which is never truncated, and show it in TensorBoard."""
        with self._report_errors():
            with (self.run / "events.txt").open("a", encoding="utf-8") as file:
                file.write(f"step {step}: {text}\n")
            self._tensorboard.add_text("events", text, step)

    def log_info(self, step: int, info: RunInfo) -> None:
        """Show what config.json contains as a table in TensorBoard's text tab."""
        parts = {"settings": to_json(info.settings), "data": info.data, "environment": info.environment}
        for name, values in parts.items():
            rows = [f"| {key} | {_cell(value)} |" for key, value in values.items()]
            with self._report_errors():
                self._tensorboard.add_text(name, "\n".join(["| | |", "|---|---|", *rows]), step)

    def log_scalars(self, step: int, values: dict[str, float]) -> None:
        """Add a point to each curve, and a line with all values to metrics.jsonl."""
        with self._report_errors():
            self._metrics.write(json.dumps({"step": step, **values}) + "\n")
            self._metrics.flush()
            for name, value in values.items():
                self._tensorboard.add_scalar(name, value, step)

    def log_real_images(self, grid: NDArray[np.uint8]) -> None:
        """Write a grid of images of the data set, uint8 [3, H, W], to real.png."""
        with self._report_errors():
            text = {"run": self.run.resolve().name, "content": "images of the data set"}
            save_png(self.run / "real.png", grid, text)
            self._tensorboard.add_image("real", grid, 0)

    def log_samples(self, step: int, grid: NDArray[np.uint8], seed: int) -> None:
        """Write a grid of the network's outputs, uint8 [3, H, W], for inputs drawn with `seed`."""
        with self._report_errors():
            text = {"run": self.run.resolve().name, "step": str(step), "seed": str(seed)}
            save_png(sample_path(self.run, step), grid, text)
            self._tensorboard.add_image("samples", grid, step)

    def log_histograms(self, step: int, networks: Mapping[str, nn.Module | Mapping[str, Tensor]]) -> None:
        """Add a histogram of every weight of the networks, or of every tensor in a mapping."""
        with self._report_errors():
            for network_name, network in networks.items():
                tensors = network.named_parameters() if isinstance(network, nn.Module) else network.items()
                for name, tensor in tensors:
                    values = tensor.detach().cpu()
                    self._tensorboard.add_histogram(f"{network_name}/{name}", values, step)

    def flush(self) -> None:
        """Write everything to disk, as is due before a checkpoint."""
        with self._report_errors():
            self._tensorboard.flush()

    def close(self) -> None:
        """Close the files. A full disk is ignored: everything up to the last checkpoint was flushed."""
        for file in (self._metrics, self._tensorboard):
            with contextlib.suppress(OSError):
                file.close()


def _cell(value: object) -> str:
    """A JSON value as text in a table, in any encoding that a folder's name may have."""
    if isinstance(value, list | tuple):
        value = " ".join(map(str, value))
    text = "" if value is None else str(value)
    return text.encode("utf-8", "backslashreplace").decode().replace("|", "\\|")


def _remove_after(run: Path, step: int) -> None:
    """Remove metrics and sample grids recorded after a step, and the partial files of a killed process."""
    metrics = run / "metrics.jsonl"
    remove_partial_files(run / name for name in ("config.json", "skipped.txt", "real.png", metrics.name))
    for unfinished in sample_path(run, 0).parent.glob(".step_*.png"):
        unfinished.unlink()
    if metrics.exists():
        lines = [line for line in metrics.read_bytes().splitlines() if _is_up_to(step, line)]
        with atomic_write(metrics) as path:
            path.write_bytes(b"".join(line + b"\n" for line in lines))
    for grid in sample_grids(run):
        if step_of(grid) > step:
            grid.unlink()


def _is_up_to(step: int, line: bytes) -> bool:
    try:
        return json.loads(line)["step"] <= step
    except (ValueError, KeyError, TypeError):  # the process was killed while writing the line
        return False
