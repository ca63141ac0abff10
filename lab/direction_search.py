"""Find and measure the directions of a generator: by scores, or by faces that somebody chose."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from engine.errors import UserError
from faces.recognition.recognizer import Recognizer
from gan.generator import LoadedGenerator
from gan.latent.directions import Direction, Directions
from gan.latent.gaussian import to_gaussian
from gan.latent.leading import mean_gram
from gan.latent.regression import difference_of_means
from gan.latent.vectors import Latents
from lab.fakes import features_of, generate_fakes, surrogate
from lab.finding import IDENTITY, Found, find_directions
from lab.measuring import Measurement
from lab.scorers import Scorer, join

SEED = 2**33
"""Seed of the fakes, unlike those of the faces that anybody looks at."""


def search(
    generator: LoadedGenerator,
    finder: Scorer,
    checker: Scorer,
    recognizer: Recognizer | None = None,
    *,
    kept: Collection[str] | None = None,
    count: int = 20_000,
    faces: int = 100,
    random: int = 100,
) -> Found:
    """Find a direction for each attribute of a scorer, and measure each by another scorer.

    Args:
        generator: makes the faces.
        finder: scores the attributes.
        checker: scores them, or some of them, differently. A regression stands in for what it lacks.
        recognizer: measures whether a face stays the same person; None for none.
        kept: see `lab.finding.find_directions`.
        count: faces to find directions on.
        faces: those to measure each direction on.
        random: number of random directions to compare with.

    Raises:
        UserError: an attribute to be kept does not exist, or two have the same name.
    """
    if len({*finder.names}) < len(finder.names):
        name = next(name for name in finder.names if finder.names.count(name) > 1)
        raise UserError(f"two attributes are named {name}: rename a classifier's, as in --by NAME=RUN")
    for name in kept or ():
        if name not in (*finder.names, IDENTITY):
            raise UserError(f"there is no attribute {name} to keep; there are {', '.join(finder.names)}")
    checker = checker.named([name for name in finder.names if name in checker.names])
    embedder = recognizer if kept is not None and IDENTITY in kept else None
    fakes = generate_fakes(generator, count, SEED, finder, checker, embedder)
    if lacking := [name for name in finder.names if name not in checker.names]:
        other, checks = surrogate(fakes, finder, lacking, features_of(generator))
        fakes.checks[:, [finder.names.index(name) for name in lacking]] = checks
        checker = join([checker, other]).named(finder.names)
    found = find_directions(fakes, finder, kept)
    if not found.directions:
        return found
    measurement = Measurement(generator, fakes, checker, recognizer, faces=faces, random=random)
    return replace(found, directions=measurement.scored(found.directions))


def from_choice(generator: LoadedGenerator, plus: Latents, minus: Latents, known: Directions) -> Direction:
    """The direction from some faces to others.

    Its scores are `faces`, their number; `held_out`, the share of the faces that the direction from the
    others places on the right side of the middle between these (None with one face on a side); and the known
    named direction that it is most similar to, with the cosine of the angle between them.

    Args:
        generator: makes the faces.
        plus: float32 [P, size], faces that have something.
        minus: float32 [M, size], faces that do not.
        known: the generator's directions.

    Raises:
        UserError: the two sets have the same mean.
    """
    gram = mean_gram(generator)
    sides = [to_gaussian(plus), to_gaussian(minus)]
    vector = difference_of_means(*sides, gram)
    if vector is None:
        raise UserError("the faces of --plus and of --minus have the same mean: choose others")
    scores: dict[str, float | str | None] = {
        "faces": len(plus) + len(minus),
        "held_out": _held_out(sides, gram),
    }
    named = {name: one for name, one in known.by_name.items() if "effect" in one.scores}
    if named:
        cosines = {name: float(one.vector @ vector) for name, one in named.items()}
        nearest = max(cosines, key=lambda name: abs(cosines[name]))
        scores |= {"similar_to": nearest, "cosine": round(cosines[nearest], 3)}
    return Direction(vector, "chosen faces", scores)


def _held_out(sides: Sequence[NDArray[np.float64]], gram: NDArray[np.float64]) -> float | None:
    if min(map(len, sides)) < 2:
        return None
    right = []
    for side, (own, sign) in enumerate(zip(sides, (1, -1), strict=True)):
        for index, face in enumerate(own):
            rest = [*sides]
            rest[side] = np.delete(own, index, axis=0)
            vector = difference_of_means(*rest, gram)
            middle = (rest[0].mean(0) + rest[1].mean(0)) / 2
            right.append(vector is not None and sign * ((face - middle) @ vector) > 0)
    return round(float(np.mean(right)), 3)
