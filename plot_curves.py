"""Draw a run's curves (losses, D(x) and D(G(z)), accuracies, gradient norms, scores) as a picture.

It goes into the run's folder, as curves.png, and replaces an earlier one.
"""

from __future__ import annotations

from gan.choices import RunChoice
from gan.command import parse
from gan.curves import read_metrics, save_curves
from gan.errors import run_script


def main() -> None:
    """Parse the command line, draw the curves, say where they are."""
    run = parse(RunChoice, description=__doc__).folder()
    picture = run / "curves.png"
    save_curves(picture, read_metrics(run), run.name)
    print(picture)


if __name__ == "__main__":
    run_script(main)
