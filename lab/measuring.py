"""Measure what directions do, by a different scorer from that which found them, beside random ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from engine.progress import ProgressBar
from faces.recognition.recognizer import Recognizer
from gan.generator import LoadedGenerator
from gan.latent.directions import Direction, Directions
from gan.latent.vectors import Latents, draw
from gan.metrics.distribution import precision_recall_density_coverage
from lab.fakes import Fakes, extract, features_of
from lab.scorers import Scorer, Scores

STRENGTHS = (-3, -2, -1, 0, 1, 2, 3)
"""Strengths at which attributes are scored, in standard deviations of the prior."""
EDIT = 2
"""Strength, either way, at which effect, leak, identity and realism are measured."""
TOLERANCE = 0.1
"""Steps back of this much, in standard deviations of the attribute, count as noise of the scorer."""
RANDOM_FACES = 20
"""Faces on which each random direction is measured."""
RANDOM_SEED = 2**32
"""Seed of the random directions and of the faces, unlike that of the faces that directions are found on."""


@dataclass(frozen=True)
class Baseline:
    """What random directions do, as a scale for the others.

    Attributes:
        leak: for each attribute, median of the leak at equal effect.
        identity: mean similarity to the face itself; None without a recogniser.
        realism: share of moved faces within the manifold of those that are not moved.
    """

    leak: dict[str, float]
    identity: float | None
    realism: float


class Measurement:
    """Measures directions of one generator.

    Args:
        generator: makes the faces.
        fakes: faces that are not moved, for standard deviations and for realism.
        checker: scores all attributes of the fakes, in their order.
        recognizer: for the identity; None for none.
        faces: M, on which each direction is measured.
        random: number of random directions.
    """

    def __init__(
        self,
        generator: LoadedGenerator,
        fakes: Fakes,
        checker: Scorer,
        recognizer: Recognizer | None = None,
        *,
        faces: int = 100,
        random: int = 100,
    ) -> None:
        checks, scores = fakes.checks, fakes.scores[: len(fakes.checks)]
        self.generator, self.checker, self.recognizer = generator, checker, recognizer
        self.space = features_of(generator)
        self.unmoved = fakes.features
        deviations = np.nanstd(checks, axis=0)
        self.deviations = np.where(deviations > 0, deviations, 1)
        self.agreement = {
            name: _correlation(checks[:, column], scores[:, column])
            for column, name in enumerate(checker.names)
        }
        self.z = draw(faces, generator.latent_size, RANDOM_SEED)
        self.own = None if recognizer is None else recognizer.embeddings(generator.images(self.z))
        self.baseline = self._baseline(random)

    def scored(self, directions: Mapping[str, Direction]) -> dict[str, Direction]:
        """The directions with scores; those that are no attribute of the checker get what can be measured."""
        measured = {}
        for name, direction in ProgressBar(directions.items(), "measuring", unit=" directions"):
            measured[name] = replace(direction, scores=direction.scores | self._scores(name, direction))
        return measured

    def _scores(self, name: str, direction: Direction) -> dict[str, float | str | None]:
        responses, features, identity = self._respond(direction, self.z, STRENGTHS)
        middle = len(STRENGTHS) // 2
        changes = responses[:, middle + EDIT] - responses[:, middle - EDIT]
        realism = self._realism(features[:, [middle - EDIT, middle + EDIT]])
        scores: dict[str, float | str | None] = {
            "identity": None
            if identity is None
            else round(float(identity[:, [middle - EDIT, middle + EDIT]].mean()), 3),
            "random_identity": self.baseline.identity,
            "realism": realism,
            "random_realism": self.baseline.realism,
        }
        if name not in self.checker.names:
            return scores
        column = self.checker.names.index(name)
        steps = np.diff(responses[:, :, column], axis=1)
        effect, leak = self._effect_and_leak(changes, column)
        return {
            "effect": round(effect, 3),
            "leak": round(leak, 3),
            "random_leak": round(self.baseline.leak[name], 3),
            "monotone": round(float((steps >= -TOLERANCE).all(1).mean()), 3),
            **scores,
            "checker": self.checker.source_of(name),
            "agreement": round(self.agreement[name], 3),
        }

    def _effect_and_leak(self, changes: Scores, column: int) -> tuple[float, float]:
        """Change of an attribute's mean, and mean change of the others when the attribute changes by 1."""
        means = changes.mean(0)
        group = self.checker.groups[column]
        others = [index for index, other in enumerate(self.checker.groups) if other != group]
        effect = float(means[column])
        if not others:
            return effect, 0.0
        return effect, float(np.abs(changes[:, others].mean(0)).mean() / max(abs(effect), 1e-9))

    def _respond(
        self, direction: Direction, z: Latents, strengths: Sequence[float]
    ) -> tuple[Scores, NDArray[np.float64], NDArray[np.float64] | None]:
        """Scores [M, K, A] in standard deviations, features [M, K, F], similarity to the face [M, K]."""
        directions = Directions("", {"one": direction})
        moved = np.stack([directions.move(z, {"one": strength}) for strength in strengths], 1)
        images = self.generator.images(moved.reshape(-1, z.shape[1]))
        shape = moved.shape[:2]
        scores = (self.checker.score(images) / self.deviations).reshape(*shape, -1)
        features = extract(self.space, images).reshape(*shape, -1)
        if self.recognizer is None:
            return scores, features, None
        embeddings = self.recognizer.embeddings(images).reshape(*shape, -1).astype(np.float64)
        return scores, features, (embeddings * self.own[: len(z), None]).sum(-1)

    def _realism(self, features: NDArray[np.float64]) -> float:
        """Precision (Kynkäänniemi et al. 2019) of moved faces against those that are not moved."""
        moved = torch.from_numpy(features.reshape(-1, features.shape[-1]))
        return round(precision_recall_density_coverage(torch.from_numpy(self.unmoved), moved).precision, 3)

    def _baseline(self, count: int) -> Baseline:
        z = self.z[:RANDOM_FACES]
        changes, features, similarities = [], [], []
        for vector in ProgressBar(
            [*_unit_vectors(count, z.shape[1])], "random directions", unit=" directions"
        ):
            responses, some, identity = self._respond(Direction(vector, "random"), z, (-EDIT, EDIT))
            changes.append(responses[:, 1] - responses[:, 0])
            features.append(some)
            similarities += [] if identity is None else [identity.mean()]
        leaks = {
            name: float(np.median([self._effect_and_leak(change, column)[1] for change in changes]))
            for column, name in enumerate(self.checker.names)
        }
        identity = round(float(np.mean(similarities)), 3) if similarities else None
        return Baseline(leaks, identity, self._realism(np.stack(features)))


def _unit_vectors(count: int, size: int) -> Iterator[NDArray[np.float64]]:
    """Random unit vectors [size], always the same."""
    for row in np.random.Generator(np.random.PCG64(RANDOM_SEED)).normal(size=(count, size)):
        yield row / np.linalg.norm(row)


def _correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Correlation where the first is not NaN; 0 if one does not vary."""
    known = ~np.isnan(first)
    first, second = first[known], second[known]
    if not (first.std() > 0 and second.std() > 0):
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])
