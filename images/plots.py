"""Plot the metrics of a run, read from its metrics.jsonl."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import UserError, missing_extra
from engine.files import atomic_write
from images.fonts import Label, find_labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Metrics = dict[str, tuple[list[int], list[float]]]
"""Steps and values of each metric."""

Panels = tuple[tuple[str, dict[str, str]], ...]
"""The axis label of each panel, and the legend label of each metric in it."""

Mark = tuple[int, str]
"""A step, and its legend label."""

LOG_SCALE = ("gradient norm",)
"""Panels with a logarithmic axis."""
MAX_VALUE = 1e38
"""Largest magnitude: about that of a float32, and matplotlib cannot scale an axis far beyond it."""
SMOOTHING_WINDOWS = 30
"""The window of the running mean is the length of a curve divided by this number."""


def read_metrics(run: Path) -> Metrics:
    """Read a run's metrics.jsonl.

    An incomplete last line, from a run that is writing or was killed, is ignored.

    Raises:
        UserError: the file is missing, empty or damaged.
    """
    path = run / "metrics.jsonl"
    where = ""
    try:
        lines = path.read_text(encoding="utf-8").rpartition("\n")[0].splitlines()
        if not lines:
            raise UserError(f"{path} is empty: nothing has been logged yet")
        metrics: Metrics = {}
        for number, line in enumerate(lines, start=1):
            where = f", line {number:,},"
            row = json.loads(line)
            for name in row.keys() - {"step"}:
                steps, values = metrics.setdefault(name, ([], []))
                steps.append(int(row["step"]))
                values.append(float(row[name]))
                if not 0 <= steps[-1] < 2**53 or MAX_VALUE < abs(values[-1]) < float("inf"):
                    raise ValueError(f"{name} {values[-1]:g} at step {steps[-1]:g} is out of range")
        return metrics
    except (
        OSError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "msg", None) or error
        raise UserError(f"{path}{where} cannot be read: {reason}") from None


def save_curves(
    path: Path,
    metrics: Metrics,
    title: str,
    panels: Panels,
    marks: Mapping[str, Mark] | None = None,
    *,
    scale: float = 1.0,
) -> None:
    """Plot metrics against the training step.

    Args:
        path: of the file, a PNG, PDF or SVG by its suffix.
        metrics: the metrics; curves of a panel that are not among them are left out.
        title: title of the figure, in any script.
        panels: an even number of panels.
        marks: steps to mark in the panel of a metric.
        scale: factor on the number of pixels.

    Raises:
        UserError: matplotlib, the extra `plots`, is not installed.
    """
    figure = new_figure("curves", 10, 1.6 * len(panels))
    # matplotlib warns about a logarithmic axis without positive values, which is harmless.
    with warnings.catch_warnings(action="ignore"):
        # A run may be named after a folder in a script that no installed font contains.
        label = find_labels([title]).get(title) or Label(title.encode("ascii", "replace").decode())
        label.set_font(figure.suptitle(label.text, parse_math=False))
        grid = figure.subplots(len(panels) // 2, 2, sharex=True).flat
        for axes, (axis_label, curves) in zip(grid, panels, strict=True):
            for name, legend_label in curves.items():
                if name in metrics:
                    _plot(axes, *metrics[name], legend_label)
                if marks and name in marks:
                    step, text = marks[name]
                    axes.axvline(step, color="black", linestyle=":", label=text)
            axes.set_ylabel(axis_label)
            axes.grid(alpha=0.3)
            if axes.lines:
                axes.legend()
            else:
                axes.text(0.5, 0.5, "no values yet", ha="center", va="center", transform=axes.transAxes)
            if axis_label in LOG_SCALE:
                axes.set_yscale("log")
            if axes.get_subplotspec().is_last_row():
                axes.set_xlabel("step")
        save_figure(path, figure, scale)


def new_figure(what: str, width: float, height: float) -> Figure:
    """Create a figure, `width` x `height` inches of 110 pixels.

    Args:
        what: the content in the plural, such as "curves", for the error message.
        width: in inches.
        height: in inches.

    Raises:
        UserError: matplotlib, the extra `plots`, is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing_extra(f"{what} need", "plots", error) from error
    return Figure(figsize=(width, height), layout="constrained")


def save_figure(path: Path, figure: Figure, scale: float = 1.0) -> None:
    """Write a figure, as its suffix says. Raises `OSError` if that fails; an existing file is unchanged."""
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=110 * scale)


def _plot(axes: Axes, steps: list[int], values: list[float], label: str) -> None:
    (line,) = axes.plot(steps, values, alpha=0.3, linewidth=0.8)
    width = max(1, len(values) // SMOOTHING_WINDOWS)
    means = [sum(values[i : i + width]) / width for i in range(len(values) - width + 1)]
    # Each mean is plotted at the centre of its window.
    centres = steps[width // 2 : width // 2 + len(means)]
    # One value makes no line.
    marker = "." if len(values) == 1 else ""
    axes.plot(centres, means, marker, linestyle="-", color=line.get_color(), label=label)
