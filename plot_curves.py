"""Draw a run's curves (losses, D(x) and D(G(z)), accuracies, gradient norms, scores) as a picture.

It goes into the run's folder, as curves.png, and replaces an earlier one.
"""

from __future__ import annotations

from gan.choices import RunChoice
from gan.command import parse
from gan.curves import PANELS, read_metrics, save_curves
from gan.errors import UserError, run_script
from gan.pictures import writing


def main() -> None:
    """Parse the command line, draw the curves, say where they are."""
    run = parse(RunChoice, description=__doc__).folder()
    picture, metrics = run / "curves.png", read_metrics(run)
    if not any(name in metrics for _, curves in PANELS for name in curves):
        raise UserError(f"{run / 'metrics.jsonl'} holds no curve of a GAN; is {run} a run of train_gan.py?")
    with writing(picture):
        save_curves(picture, metrics, run.name)
    print(picture)


if __name__ == "__main__":
    run_script(main)
