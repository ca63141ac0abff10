"""Make a film of how a run learnt: its sample grids one after the other, as a GIF or an MP4.

It goes into the run's folder, as timelapse.gif or timelapse.mp4, and replaces an earlier one.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.cli import parse
from engine.errors import UserError, run_script
from engine.runs import sample_grids
from gan.latent.render import writing
from gan.options import RunArguments
from images.video import Kind, check_rate, read_frames, save_video


@dataclass(frozen=True)
class TimelapseArguments(RunArguments):
    """Which run, and what kind of film."""

    form: Kind = "gif"
    """gif needs nothing more and shows 256 colours; mp4 is smaller, and needs the extra 'video'."""
    fps: float = 8.0
    """Grids a second."""
    shrink: int = 2
    """How many times smaller than the grids either side of the film is; 1 keeps their size."""
    hold: float = 2.0
    """Seconds for which the last grid stays."""

    def __post_init__(self) -> None:
        check_rate(self.form, self.fps)
        if self.shrink < 1:
            raise UserError(f"--shrink must be 1 or more, not {self.shrink}")
        if not 0 <= self.hold <= 60:
            raise UserError(f"--hold must be 0 to 60 seconds, not {self.hold:g}")


def main() -> None:
    """Parse the command line, make the film, say where it is."""
    choice = parse(TimelapseArguments, description=__doc__)
    run = choice.folder()
    grids = sample_grids(run)
    if len(grids) < 2:
        raise UserError(f"{run / 'samples'} holds {len(grids)} sample grids; a timelapse needs 2 or more")
    frames = read_frames(grids, choice.shrink, hold=round(choice.hold * choice.fps))
    film = run / f"timelapse.{choice.form}"
    with writing(film):
        save_video(film, frames, choice.fps)
    print(film)


if __name__ == "__main__":
    run_script(main)
