"""Tell how good a run's generator is: how near to real faces, how varied, and how much of it is copied.

Prints one table, in which each score stands beside its floor (the same score of real images in the place
of generated ones), and writes it into the run's folder, under evaluation/, as JSON with two pictures:
generated beside real faces, and those that look most like copies beside the nearest training faces.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from engine.cli import parse
from engine.errors import UserError, run_script
from engine.runs import find_checkpoint
from engine.settings import Device, at_least
from gan.config import read_info
from gan.latent.render import make_images
from gan.latent.vectors import draw
from gan.options import RunArguments

if TYPE_CHECKING:
    from gan.metrics.features import FeatureSpace

Features = Literal["random", "inception", "classifier"]


@dataclass(frozen=True)
class EvaluationArguments(RunArguments):
    """Which generator, and how it is measured."""

    real: Path | None = None
    """Folder of real images to compare with; the one the run was trained on if none is given."""
    checkpoint: str | None = None
    """Step or file of the checkpoint, `best` or `newest`; the best if none is named, or the newest where
    no step has a score yet."""
    raw: bool = False
    """Take the weights of the last training step instead of their moving average (EMA)."""
    device: Device = "auto"
    """Where the networks compute, always in float32; auto takes CUDA, then Apple's MPS, then the CPU."""
    count: int = 5000
    """Generated images, and real ones they are compared with; half of the real images where they are
    fewer than twice as many."""
    only_held_out: bool = False
    """Compare with real images alone that the run was not trained on."""
    features: tuple[Features, ...] = ("random",)
    """Feature spaces: random, which comes with the project; inception, the usual one, whose weights have
    to be there; classifier, that of a network of train_classifier.py."""
    weights: Path | None = None
    """File of the weights of inception; sought in the usual cache if none is given."""
    classifier: str | None = None
    """Of the feature space classifier: a run of train_classifier.py (folder, or name or number in
    --classifiers), or a checkpoint's file."""
    classifiers: Path = Path("outputs/classifiers")
    """Folder of runs, in which the classifier is sought."""
    k: int = 5
    """Neighbours of precision, recall, density and coverage."""
    draws: int = 3
    """Draws over which the spread is taken."""
    seed: int = 0
    """Of the first draw's latent vectors, the others having the next ones; and of the real images of all."""

    def __post_init__(self) -> None:
        at_least(self, 1, "count k")
        at_least(self, 2, "draws")
        at_least(self, 0, "seed")
        if self.seed + self.draws > 2**63:
            raise UserError(f"--seed must be less than 2**63, and those of all draws, not {self.seed}")
        if len(set(self.features)) < max(1, len(self.features)):
            raise UserError("--features takes one or more feature spaces, each once")
        if self.weights is not None and "inception" not in self.features:
            raise UserError("--weights is of inception: add --features inception")
        if (self.classifier is not None) != ("classifier" in self.features):
            raise UserError("--features classifier and --classifier CHECKPOINT go together")

    @property
    def seeds(self) -> range:
        """The seeds of the draws."""
        return range(self.seed, self.seed + self.draws)

    def spaces(self) -> list[FeatureSpace]:
        """The feature spaces. Raises `UserError` where the weights of one are not there."""
        from engine.device import choose_device
        from gan.metrics.features import inception_space, random_space

        device = choose_device(self.device)
        made = {
            "random": lambda: random_space(device=device),
            "inception": lambda: inception_space(self.weights, device=device),
            "classifier": self._classifier_space,
        }
        return [made[name]() for name in self.features]

    def _classifier_space(self) -> FeatureSpace:
        from faces.recognition.commands import find_recognizer

        assert self.classifier is not None, "it was checked that both are given"
        return find_recognizer(self.classifier, self.classifiers, self.device).feature_space()


def main() -> None:
    """Parse the command line, measure, print, and say where it is written."""
    choice = parse(EvaluationArguments, description=__doc__)
    run = choice.folder()
    find_checkpoint(run, choice.checkpoint)
    # These import torch, which takes seconds.
    from gan.generator import load_generator
    from gan.metrics.compare import set_size
    from gan.metrics.evaluate import evaluate
    from gan.metrics.references import load_reference
    from gan.metrics.report import conditions_of, save, table

    spaces = choice.spaces()
    generator = load_generator(run, choice.checkpoint, raw=choice.raw, device=choice.device)
    reference = load_reference(read_info(run), choice.real, only_held_out=choice.only_held_out)
    count = set_size(len(reference.faces.pool), choice.count, choice.k)

    def generate(seed: int) -> NDArray[np.uint8]:
        images = make_images(generator, draw(count, generator.latent_size, seed))
        return np.stack(list(tqdm(images, "generating", count, unit=" images")))

    evaluation = evaluate(
        generate,
        reference.faces,
        spaces,
        count=count,
        k=choice.k,
        seed=choice.seed,
        draws=choice.draws,
    )
    conditions = conditions_of(
        generator,
        reference,
        spaces,
        count=count,
        k=choice.k,
        seeds=choice.seeds,
        only_held_out=choice.only_held_out,
    )
    print(table(evaluation, conditions))
    print(save(evaluation, conditions, run / "evaluation"))


if __name__ == "__main__":
    run_script(main)
