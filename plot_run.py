"""Plot the curves of a run, or make a film of its sample grids.

The curves (losses, D(x) and D(G(z)), accuracies, gradient norms, scores) are written to curves.png in the
run's folder, the film (--film) to timelapse.gif or timelapse.mp4. Existing files are replaced. The best step,
which is marked, has the lowest mean of its KID and the two before.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine.best import SMOOTHED, BestTracker
from engine.cli import parse
from engine.errors import UserError, run_script
from engine.files import is_file
from engine.runs import report_write_errors, sample_grids
from gan.options import RunArguments
from images import VideoFormat

if TYPE_CHECKING:
    from images.plots import Mark, Metrics, Panels

PANELS: Panels = (
    ("loss [nats]", {"loss/discriminator": "D", "loss/generator": "G"}),
    ("probability of being real", {"probability/real": "D(x)", "probability/fake": "D(G(z))"}),
    (
        "accuracy of D, augmentation",
        {"accuracy/real": "real", "accuracy/fake": "generated", "augmentation/share": "share augmented"},
    ),
    ("gradient norm", {"gradient/discriminator": "D", "gradient/generator": "G"}),
    ("KID to held-out images", {"score/kid": "EMA of G", "score/kid_raw": "weights of the last step"}),
    ("compared with real images", {"score/coverage": "coverage", "score/diversity": "diversity"}),
)
RANKED_BY = "score/kid"
FILM_ONLY = ("fps", "shrink", "hold")


@dataclass(frozen=True)
class PlotArguments(RunArguments):
    """Which run, and curves or a film."""

    film: VideoFormat | None = None
    """Make a film instead of curves: gif has 256 colours, mp4 is smaller and needs the extra 'video'."""
    fps: float = 8.0
    """Sample grids per second of the film."""
    shrink: int = 2
    """Factor by which the film is smaller than the grids, for both sides."""
    hold: float = 2.0
    """Seconds for which the last grid is shown."""

    def __post_init__(self) -> None:
        if self.film is not None:
            from images.video import check_fps

            check_fps(self.film, self.fps)
        for name in FILM_ONLY:
            if self.film is None and getattr(self, name) != getattr(PlotArguments, name):
                raise UserError(f"--{name} is an option of a film: add --film gif or --film mp4")
        if self.shrink < 1:
            raise UserError(f"--shrink must be 1 or more, not {self.shrink}")
        if not 0 <= self.hold <= 60:
            raise UserError(f"--hold must be 0 to 60 seconds, not {self.hold:g}")


def main() -> None:
    """Parse the command line, write the plot or the film, and print its path."""
    arguments = parse(PlotArguments, description=__doc__)
    run = arguments.folder(_without_curves if arguments.film is None else _without_film)
    print(plot_curves(run) if arguments.film is None else make_film(run, arguments))


def _without_curves(run: Path) -> str | None:
    metrics = run / "metrics.jsonl"
    return None if is_file(metrics) and metrics.stat().st_size else "has no curves yet"


def _without_film(run: Path) -> str | None:
    count = len(sample_grids(run))
    return None if count > 1 else f"has {count} sample grids so far, and a film needs 2 or more"


def plot_curves(run: Path) -> Path:
    """Plot a run's curves and return the path of the picture."""
    from images.plots import read_metrics, save_curves

    path, metrics = run / "curves.png", read_metrics(run)
    if not any(name in metrics for _, curves in PANELS for name in curves):
        raise UserError(
            f"{run / 'metrics.jsonl'} contains no curve of a GAN; is {run} a run of train_gan.py?"
        )
    with report_write_errors(path):
        save_curves(path, metrics, run.name, PANELS, _mark_best(metrics))
    return path


def _mark_best(metrics: Metrics) -> dict[str, Mark]:
    """The mark of the best step, if any has a score."""
    best = BestTracker.of(*metrics.get(RANKED_BY, ([], [])))
    if best.step is None:
        return {}
    return {RANKED_BY: (best.step, f"best step, {best.step:,} (mean of {SMOOTHED})")}


def make_film(run: Path, arguments: PlotArguments) -> Path:
    """Write a film of a run's sample grids and return its path."""
    from images.video import read_frames, save_video

    grids = sample_grids(run)
    if len(grids) < 2:
        raise UserError(f"{run / 'samples'} contains {len(grids)} sample grids; a film needs 2 or more")
    frames = read_frames(grids, arguments.shrink, hold=round(arguments.hold * arguments.fps))
    path = run / f"timelapse.{arguments.film}"
    with report_write_errors(path):
        save_video(path, frames, arguments.fps)
    return path


if __name__ == "__main__":
    run_script(main)
