"""A run's curves as one picture, from its metrics.jsonl."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import UserError, missing_extra
from engine.files import atomic_write
from images.fonts import Label, find_labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Metrics = dict[str, tuple[list[int], list[float]]]
"""For each curve its steps and its values."""

Panels = tuple[tuple[str, dict[str, str]], ...]

PANELS: Panels = (
    ("loss [nats]", {"loss/discriminator": "D", "loss/generator": "G"}),
    ("probability of being real", {"probability/real": "D(x)", "probability/fake": "D(G(z))"}),
    (
        "D's accuracy, and augmented",
        {"accuracy/real": "real", "accuracy/fake": "generated", "augmentation/share": "share augmented"},
    ),
    ("gradient norm", {"gradient/discriminator": "D", "gradient/generator": "G"}),
    ("KID against held-out images", {"score/kid": "averaged G"}),
    ("against real images", {"score/coverage": "coverage", "score/diversity": "diversity"}),
)
LOGARITHMIC = ("gradient norm",)
LARGEST = 1e38
"""Of a value: a float32 holds hardly more, and what draws cannot scale an axis far beyond."""
SMOOTHED_POINTS = 30
"""Points of a curve after smoothing by a running mean; the raw one stays behind it, pale."""


def read_metrics(run: Path) -> Metrics:
    """The curves in a run's metrics.jsonl.

    A last line without its end, as a run leaves it that is writing or was killed, is passed over.

    Raises:
        UserError: there are no metrics, or they are not readable.
    """
    path = run / "metrics.jsonl"
    try:
        complete = path.read_text(encoding="utf-8").rpartition("\n")[0]
        rows = [json.loads(line) for line in complete.splitlines()]
        if not rows:
            raise UserError(f"{path} is empty: nothing was logged yet")
        metrics: Metrics = {}
        for row in rows:
            for name in row.keys() - {"step"}:
                steps, values = metrics.setdefault(name, ([], []))
                steps.append(int(row["step"]))
                values.append(float(row[name]))
                if not 0 <= steps[-1] < 2**53 or LARGEST < abs(values[-1]) < float("inf"):
                    raise ValueError(f"no run has written {name} {values[-1]:g} at step {steps[-1]:g}")
        return metrics
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    except (OverflowError, RecursionError) as error:
        raise UserError(f"{path} was changed into what no run has written: {error}") from None


def save_curves(path: Path, metrics: Metrics, title: str, panels: Panels = PANELS) -> None:
    """Draw curves over the steps into a PNG: of a GAN losses, D(x) and D(G(z)), accuracies and so on.

    A curve that the run has not is left out.

    Args:
        path: of the PNG.
        metrics: the curves.
        title: above them all.
        panels: an even number of labels, each with the curves it stands for and their names.

    Raises:
        UserError: matplotlib, the extra `plots`, is not installed.
    """
    figure = new_figure("curves", 10, 1.6 * len(panels))
    # An axis without a positive value is warned of: nothing to be done about it.
    with warnings.catch_warnings(action="ignore"):
        _fill(figure, metrics, title, panels)
        save_figure(path, figure)


def _fill(figure: Figure, metrics: Metrics, title: str, panels: Panels) -> None:
    # A run may be named after a folder in letters that no font here has.
    heading = find_labels([title]).get(title) or Label(title.encode("ascii", "replace").decode())
    heading.set_font(figure.suptitle(heading.text, parse_math=False))
    grid = figure.subplots(len(panels) // 2, 2, sharex=True).flat
    for axes, (label, curves) in zip(grid, panels, strict=True):
        for name, shown in curves.items():
            if name in metrics:
                _draw(axes, *metrics[name], shown)
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
        if label in LOGARITHMIC:
            axes.set_yscale("log")
        if axes.get_subplotspec().is_last_row():
            axes.set_xlabel("step")


def new_figure(what: str, width: float, height: float) -> Figure:
    """A figure to draw `what`, such as "curves", on; width and height in inches of 110 pixels.

    Raises:
        UserError: matplotlib, the extra `plots`, is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as missing:
        raise missing_extra(f"{what} need", "plots", missing) from missing
    return Figure(figsize=(width, height), layout="constrained")


def save_figure(path: Path, figure: Figure) -> None:
    """Write a figure as a PNG. Raises `OSError` where it cannot be written; an earlier one is untouched."""
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=110)


def _draw(axes: Axes, steps: list[int], values: list[float], label: str) -> None:
    (line,) = axes.plot(steps, values, alpha=0.3, linewidth=0.8)
    width = max(1, len(values) // SMOOTHED_POINTS)
    means = [sum(values[i : i + width]) / width for i in range(len(values) - width + 1)]
    # A mean stands at the middle of the steps it is taken over.
    middles = steps[width // 2 : width // 2 + len(means)]
    axes.plot(middles, means, color=line.get_color(), label=label)
