"""Measure how good a run's generator is: how realistic, how diverse, and how much of it is copied.

Prints a table with each score beside its floor, the same score of real images in place of generated ones,
and a verdict. Writes both to evaluation/ in the run folder as JSON with two pictures: generated beside real
faces, and the most likely copies beside the nearest training faces.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from tyro.conf import arg

from engine.cli import parse
from engine.errors import UserError, run_script
from engine.progress import ProgressBar
from engine.runs import RunInfo
from engine.settings import Device, Groups, at_least
from gan.config import read_info
from gan.latent.render import generate_images
from gan.latent.vectors import draw
from gan.options import GeneratorArguments

if TYPE_CHECKING:
    from gan.metrics.features import FeatureSpace

Features = Literal["random", "inception", "classifier"]


@dataclass(frozen=True)
class EvaluationArguments(GeneratorArguments):
    """Which generator to measure, and how."""

    GROUPS: ClassVar[Groups] = {
        "everyday": "run real count checkpoint",
        "feature space": "features weights classifier classifiers",
        "expert": "output only_held_out k draws seed raw device",
    }

    real: Path | None = None
    """Folder of real images to compare with; by default the folder that the run was trained on."""
    device: Device = "auto"
    """Device to compute on, always in float32; auto selects CUDA, else Apple's MPS, else the CPU."""
    count: int = 5000
    """Number of generated images, and of real ones to compare them with; at most half of the real images."""
    only_held_out: bool = False
    """Compare only with real images that the run was not trained on."""
    features: Annotated[tuple[Features, ...], arg(metavar="{random,inception,classifier} ...")] = ("random",)
    """Feature spaces: random, a small network that comes with the project; inception, the usual one, whose
    weights must be available; classifier, a network of train_classifier.py."""
    weights: Path | None = None
    """File of the Inception weights; by default that in the cache of torch hub."""
    classifier: Annotated[str | None, arg(metavar="RUN")] = None
    """Network of the feature space classifier: a run of train_classifier.py (folder, or name or number in
    --classifiers), or a checkpoint file."""
    classifiers: Path = Path("outputs/classifiers")
    """Folder of the runs of train_classifier.py."""
    k: int = 5
    """Number of nearest neighbours, for precision, recall, density and coverage."""
    draws: int = 3
    """Number of draws, over which means and standard deviations are taken."""
    seed: int = 0
    """Seed of the first draw; each later draw uses the next one."""

    def __post_init__(self) -> None:
        at_least(self, 1, "count k")
        at_least(self, 2, "draws")
        at_least(self, 0, "seed")
        if self.seed + self.draws > 2**63:
            raise UserError(f"--seed plus --draws must be at most 2**63, not {self.seed + self.draws}")
        if len(set(self.features)) < max(1, len(self.features)):
            raise UserError("--features needs one or more feature spaces, each once")
        if self.weights is not None and "inception" not in self.features:
            raise UserError("--weights is for inception: add --features inception")
        if (self.classifier is not None) != ("classifier" in self.features):
            raise UserError("--features classifier and --classifier RUN go together")

    @property
    def seeds(self) -> range:
        """The seeds of the draws."""
        return range(self.seed, self.seed + self.draws)

    def spaces(self) -> list[FeatureSpace]:
        """Load the feature spaces. Raises `UserError` if the weights of one are missing."""
        from engine.device import choose_device
        from gan.metrics.features import inception_space, random_space

        device = choose_device(self.device)
        load = {
            "random": lambda: random_space(device=device),
            "inception": lambda: inception_space(self.weights, device=device),
            "classifier": self._classifier_space,
        }
        return [load[name]() for name in self.features]

    def _classifier_space(self) -> FeatureSpace:
        from faces.recognition.commands import find_recognizer
        from gan.metrics.features import callable_space

        assert self.classifier is not None, "it was checked that both are given"
        classifier = find_recognizer(self.classifier, self.classifiers, self.device)
        return callable_space(
            "classifier", classifier.digest[:8], classifier.features, device=classifier.device
        )


def main() -> None:
    """Parse the command line, measure, print the table and the path of the JSON file."""
    arguments = parse(EvaluationArguments, description=__doc__)
    arguments.check_generator()
    # Importing torch takes seconds, so mistakes on the command line are reported first.
    from gan.metrics.compare import set_size
    from gan.metrics.evaluate import evaluate
    from gan.metrics.references import load_reference
    from gan.metrics.report import conditions_of, pictures, save, table
    from gan.metrics.verdict import verdict

    spaces = arguments.spaces()
    generator = arguments.load_generator(arguments.device)
    info = RunInfo(generator.settings, {}, {}) if generator.is_file else read_info(generator.run)
    reference = load_reference(info, arguments.real, only_held_out=arguments.only_held_out)
    for note in reference.notes:
        print(note)
    count = set_size(len(reference.faces.pool), arguments.count, arguments.k)

    def generate(seed: int) -> NDArray[np.uint8]:
        images = generate_images(generator, draw(count, generator.latent_size, seed))
        return np.stack(list(ProgressBar(images, "generating", count, unit=" images")))

    evaluation = evaluate(
        generate,
        reference.faces,
        spaces,
        count=count,
        k=arguments.k,
        seed=arguments.seed,
        draws=arguments.draws,
    )
    conditions = conditions_of(
        generator,
        reference,
        spaces,
        count=count,
        k=arguments.k,
        seeds=arguments.seeds,
        only_held_out=arguments.only_held_out,
    )
    print(table(evaluation, conditions))
    path = save(evaluation, conditions, generator.run / "evaluation")
    print(f"\nverdict: {verdict(evaluation, count)}", *pictures(evaluation, path), path, sep="\n")


if __name__ == "__main__":
    run_script(main)
