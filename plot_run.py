"""Plot the curves of a run, or make a film of its sample grids.

The curves (losses, D(x) and D(G(z)), accuracies, gradient norms, scores) are written to curves.png in the
run's folder, the film (--film) to timelapse.gif or timelapse.mp4, or either to --file. Existing files are
replaced. The best step, which is marked, has the lowest mean of its KID and the two before.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from engine.best import SMOOTHED, BestTracker
from engine.cli import parse
from engine.errors import UserError, run_script
from engine.files import is_file
from engine.output import counted
from engine.runs import report_write_errors, sample_grids
from engine.settings import Groups
from gan.curves import PANELS, RANKED_BY
from gan.options import PictureArguments, RunArguments
from images import VideoFormat

if TYPE_CHECKING:
    from images.plots import Mark, Metrics

FILM_ONLY = ("fps", "hold")
FILM_SUFFIXES: dict[str, VideoFormat] = {".gif": "gif", ".mp4": "mp4"}
CURVE_SUFFIXES = (".png", ".pdf", ".svg")
FILM_SCALE = 0.5


@dataclass(frozen=True)
class PlotArguments(RunArguments, PictureArguments):
    """Which run, and curves or a film."""

    GROUPS: ClassVar[Groups] = {
        "everyday": "run film scale file",
        "film": "fps hold",
        "expert": "output",
    }

    film: VideoFormat | None = None
    """Make a film instead of curves: gif has 256 colours, mp4 is smaller and needs the extra 'video'. By
    default the suffix of --file decides."""
    scale: float | None = None
    """Size of the curves, by default 1, or of the film in proportion to the sample grids, by default 0.5."""
    fps: float = 8.0
    """Sample grids per second of the film."""
    hold: float = 2.0
    """Seconds for which the last grid is shown."""

    def __post_init__(self) -> None:
        self.picture_file(self.suffixes())
        if (film := self.film_format()) is not None:
            from images.video import check_fps

            check_fps(film, self.fps)
        for name in FILM_ONLY:
            if film is None and getattr(self, name) != getattr(PlotArguments, name):
                raise UserError(f"--{name} is an option of a film: add --film gif or --film mp4")
        if not 0 <= self.hold <= 60:
            raise UserError(f"--hold must be 0 to 60 seconds, not {self.hold:g}")

    def film_format(self) -> VideoFormat | None:
        """--film, or by default what fits the suffix of --file; None for curves."""
        suffix = "" if self.file is None else self.file.suffix.lower()
        return self.film or FILM_SUFFIXES.get(suffix)

    def suffixes(self) -> list[str]:
        """Suffixes that --file may have, the first one by default."""
        return [f".{self.film}"] if self.film else [*CURVE_SUFFIXES, *FILM_SUFFIXES]


def main() -> None:
    """Parse the command line, write the plot or the film, and print its path."""
    arguments = parse(PlotArguments, description=__doc__)
    is_film = arguments.film_format() is not None
    run = arguments.folder(_without_film if is_film else _without_curves)
    print((make_film if is_film else plot_curves)(run, arguments))


def _without_curves(run: Path) -> str | None:
    metrics = run / "metrics.jsonl"
    return None if is_file(metrics) and metrics.stat().st_size else "has no curves yet"


def _without_film(run: Path) -> str | None:
    count = len(sample_grids(run))
    return None if count > 1 else f"has {counted(count, 'sample grid')} so far, and a film needs 2 or more"


def plot_curves(run: Path, arguments: PlotArguments) -> Path:
    """Plot a run's curves and return the path of the picture."""
    from images.plots import read_metrics, save_curves

    path = arguments.picture_file(arguments.suffixes()) or run / "curves.png"
    metrics = read_metrics(run)
    if not any(name in metrics for _, curves in PANELS for name in curves):
        raise UserError(
            f"{run / 'metrics.jsonl'} contains no curve of a GAN; is {run} a run of train_gan.py?"
        )
    with report_write_errors(path):
        title, marks = run.resolve().name, _mark_best(metrics)
        save_curves(path, metrics, title, PANELS, marks, scale=arguments.scale or 1.0)
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
        found = counted(len(grids), "sample grid")
        raise UserError(f"{run / 'samples'} contains {found}; a film needs 2 or more")
    scale = arguments.scale or FILM_SCALE
    frames = read_frames(grids, scale, hold=round(arguments.hold * arguments.fps))
    path = arguments.picture_file(arguments.suffixes()) or run / f"timelapse.{arguments.film_format()}"
    with report_write_errors(path):
        save_video(path, frames, arguments.fps)
    return path


if __name__ == "__main__":
    run_script(main)
