"""Generated faces with their latent vectors and scores, from which directions are found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from engine.progress import ProgressBar
from faces.recognition.recognizer import Recognizer
from gan.generator import LoadedGenerator
from gan.latent.gaussian import to_gaussian
from gan.latent.vectors import draw
from gan.metrics.features import FeatureSpace, random_space
from lab.scorers import Images, Scorer, Scores

BATCH_SIZE = 256
FEATURES = 4000
"""Fakes of which the features are computed."""
FITTED = 0.75
"""Share of these on which a surrogate is fitted; the others measure how well it agrees."""
RIDGE = 1e-2
"""Penalty of a surrogate, as a share of the features' variance."""


@dataclass(frozen=True)
class Fakes:
    """Generated faces.

    Attributes:
        u: float64 [N, size], in the Gaussian coordinate.
        scores: float64 [N, A], by the scorer that finds directions.
        checks: float64 [M, A], of the first M, by the scorer that measures them; NaN where there is none.
        features: float64 [M, F], of the first M, in the features of the project's random network.
        embeddings: float32 [N, D], by a recogniser; D is 0 without one.
    """

    u: NDArray[np.float64]
    scores: Scores
    checks: Scores
    features: NDArray[np.float64]
    embeddings: NDArray[np.float32]


def generate_fakes(
    generator: LoadedGenerator,
    count: int,
    seed: int,
    finder: Scorer,
    checker: Scorer,
    recognizer: Recognizer | None = None,
) -> Fakes:
    """Generate faces and score them, with few images in memory at a time.

    Args:
        generator: makes the faces.
        count: N.
        seed: of their latent vectors.
        finder: scores all of them.
        checker: scores the first `FEATURES`, on any of the finder's attributes.
        recognizer: whose embeddings are kept.
    """
    z = draw(count, generator.latent_size, seed)
    space = features_of(generator)
    scores, checks, features = [], [], []
    embeddings: list[NDArray[np.float32]] = []
    columns = [finder.names.index(name) for name in checker.names]
    with ProgressBar(total=count, desc="generating and scoring", unit=" faces") as bar:
        for start in range(0, count, BATCH_SIZE):
            images = generator.images(z[start : start + BATCH_SIZE])
            scores.append(finder.score(images))
            if recognizer is not None:
                embeddings.append(recognizer.embeddings(images))
            if (some := images[: max(0, FEATURES - start)]).size:
                checked = np.full((len(some), len(finder.names)), np.nan)
                checked[:, columns] = checker.score(some)
                checks.append(checked)
                features.append(extract(space, some))
            bar.update(len(images))
    return Fakes(
        to_gaussian(z),
        np.concatenate(scores),
        np.concatenate(checks),
        np.concatenate(features),
        np.concatenate(embeddings) if embeddings else np.empty((count, 0), np.float32),
    )


def extract(space: FeatureSpace, images: Images) -> NDArray[np.float64]:
    """Features of images, uint8 [N, 3, S, S], float64 [N, F]."""
    return space(torch.from_numpy(np.array(images))).cpu().double().numpy()


def surrogate(
    fakes: Fakes, finder: Scorer, names: Sequence[str], space: FeatureSpace
) -> tuple[Scorer, Scores]:
    """A scorer of attributes that have no other: a ridge regression on the random network's features.

    It learns the finder's scores from a part of the fakes, by features that differ from the finder's. Being
    linear in 128 features it sees less than a network.

    Returns:
        The scorer, and its scores of the fakes that have features, float64 [M, len(names)]; NaN for those
        that it learned from.
    """
    columns = [finder.names.index(name) for name in names]
    fitted = int(FITTED * len(fakes.features))
    targets = fakes.scores[:fitted, columns]
    centre, mean = fakes.features[:fitted].mean(0), targets.mean(0)
    spread = fakes.features[:fitted].std(0) + 1e-9

    def scaled(features: NDArray[np.float64]) -> NDArray[np.float64]:
        return (features - centre) / spread

    inputs = scaled(fakes.features[:fitted])
    gram = inputs.T @ inputs + RIDGE * fitted * np.eye(inputs.shape[1])
    weights = np.linalg.solve(gram, inputs.T @ (targets - mean))
    checks = scaled(fakes.features) @ weights + mean
    checks[:fitted] = np.nan
    scorer = Scorer(
        tuple(names),
        tuple(finder.groups[column] for column in columns),
        ("random features",) * len(names),
        lambda images: scaled(extract(space, images)) @ weights + mean,
    )
    return scorer, checks


def features_of(generator: LoadedGenerator) -> FeatureSpace:
    """The features of the project's random network, on the generator's device."""
    return random_space(device=next(generator.network.parameters()).device)
