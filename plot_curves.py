"""Draw a run's curves (losses, D(x) and D(G(z)), accuracies, gradient norms, scores) as a picture.

It goes into the run's folder, as curves.png, and replaces an earlier one.
"""

from __future__ import annotations

from engine.cli import parse
from engine.errors import UserError, run_script
from gan.latent.render import writing
from gan.options import RunArguments
from images.plots import PANELS, read_metrics, save_curves


def main() -> None:
    """Parse the command line, draw the curves, say where they are."""
    run = parse(RunArguments, description=__doc__).folder()
    picture, metrics = run / "curves.png", read_metrics(run)
    if not any(name in metrics for _, curves in PANELS for name in curves):
        raise UserError(f"{run / 'metrics.jsonl'} holds no curve of a GAN; is {run} a run of train_gan.py?")
    with writing(picture):
        save_curves(picture, metrics, run.name)
    print(picture)


if __name__ == "__main__":
    run_script(main)
