"""Find the directions of a generator's latent space along which scores of its faces change."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gan.generator import LoadedGenerator
from gan.latent.directions import Direction
from gan.latent.leading import mean_gram, sefa
from gan.latent.regression import eigenvectors, project_out, regress
from lab.fakes import Fakes
from lab.scorers import FACE_COLOURS, Scorer, is_classifier

MIN_EXPLAINED = 0.02
"""Share of a score's variance that must be linear in u; a score of chance has 0."""
IDENTITY = "identity"
IDENTITY_DIMENSIONS = 10
"""Directions in which the embedding changes most that are left alone to keep the identity."""


@dataclass(frozen=True)
class Found:
    """What was found.

    Attributes:
        directions: by name, in the order of the finder's attributes.
        explained: for each attribute the share of its variance that is linear in u.
        missing: attributes without a direction, as the generator's faces hardly differ in them.
    """

    directions: dict[str, Direction]
    explained: dict[str, float]
    missing: list[str]


def find_directions(fakes: Fakes, finder: Scorer, kept: Collection[str] | None = None) -> Found:
    """Find a direction for each attribute, by regression on u, conditional on others by projection.

    Args:
        fakes: with the scores of the finder's attributes, in their order.
        finder: for their names and sources.
        kept: names of the attributes that each direction leaves unchanged, to first order, and `identity`,
            for which the fakes have embeddings. None for all others, except those of the same group and, for
            classifiers, `FACE_COLOURS`: a hat or a beard changes the colours of a face, and what leaves that
            unchanged is not its direction.
    """
    names = finder.names
    regression = regress(fakes.u, fakes.scores)
    explained = dict(zip(names, regression.explained.tolist(), strict=True))
    usable = [name for name in names if explained[name] >= MIN_EXPLAINED]
    identity = _identity(fakes) if kept is not None and IDENTITY in kept else np.empty((0, fakes.u.shape[1]))
    weights = dict(zip(names, regression.weights, strict=True))
    group_of = dict(zip(names, finder.groups, strict=True))
    directions = {}
    for name, source in zip(names, finder.sources, strict=True):
        if name not in usable:
            continue
        others = [
            weights[other]
            for other in usable
            if group_of[other] != group_of[name]
            and (
                other in kept if kept is not None else other not in FACE_COLOURS or not is_classifier(source)
            )
        ]
        vector = project_out(
            weights[name], np.concatenate([np.reshape(others, (-1, fakes.u.shape[1])), identity])
        )
        if vector is not None:
            directions[name] = Direction(vector, source)
    return Found(directions, explained, [name for name in names if name not in directions])


def _identity(fakes: Fakes) -> NDArray[np.float64]:
    """Directions in which embeddings change most, float64 [at most `IDENTITY_DIMENSIONS`, size]."""
    embeddings = fakes.embeddings.astype(np.float64)
    deviations = embeddings.std(0)
    slopes = regress(fakes.u, embeddings).weights * deviations[:, None]
    _, _, rows = np.linalg.svd(slopes, full_matrices=False)
    return rows[:IDENTITY_DIMENSIONS]


def leading_directions(generator: LoadedGenerator, count: int) -> dict[str, Direction]:
    """`count` directions that change images most, leading_1, ..., and as many of SeFa, sefa_1, ....

    The score `share` is their share of the mean squared change of the images, or of the first features, along
    all directions.
    """
    found = {}
    matrices = {"leading": mean_gram(generator), "sefa": sefa(generator)}
    sources = {"leading": "change of the image", "sefa": "change of the first features"}
    for kind, matrix in matrices.items():
        vectors, shares = eigenvectors(matrix)
        for number, (vector, share) in enumerate(zip(vectors[:count], shares, strict=False), 1):
            found[f"{kind}_{number}"] = Direction(vector, sources[kind], {"share": round(float(share), 4)})
    return found
