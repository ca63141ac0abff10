"""Error rates of similarity thresholds, in verification and in identification.

Verification: do two faces show the same person? It is scored over pairs. Identification: which of the
enrolled people is this, if any? It is scored over faces, each compared with everybody enrolled: closed set if
everybody is enrolled, open set if there are strangers too. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine.errors import UserError

Scores = NDArray[np.float64]

MIN_FALSE_ACCEPTS = 30
"""False accepts that a rate needs for the true one to lie within 30 % of it with a confidence of 90 % (the
rule of 30, Doddington et al. 2000). The rule is for independent trials; pairs that share an image are not
quite independent, so this is a minimum."""
MAX_POINTS = 200
"""Points of a curve that are drawn and written."""


@dataclass(frozen=True)
class RocCurve:
    """Accept rates at each threshold, from the strictest to the most lenient.

    Attributes:
        thresholds: float64 [T], falling; a similarity is accepted if it is at least the threshold.
        far: false-accept rate, float64 [T].
        tar: true-accept rate, float64 [T].
    """

    thresholds: Scores
    far: Scores
    tar: Scores

    def area(self) -> float:
        """The area under `tar` over `far`: 0.5 by chance, 1 if the two sets do not overlap."""
        return float((np.diff(self.far) * (self.tar[1:] + self.tar[:-1]) / 2).sum())

    def thinned(self, points: int = MAX_POINTS) -> RocCurve:
        """At most `points` points of the curve.

        Half of them are spread over `tar`, half over the logarithm of `far`: of evenly spaced thresholds,
        nearly all would be too lenient to be of use.
        """
        if len(self.far) <= points:
            return self
        positive = self.far[self.far > 0]
        rates = np.geomspace(positive[0], positive[-1], points // 2 - 1)
        shares = np.linspace(self.tar[0], self.tar[-1], points // 2 - 1)
        rows = [
            [0, len(self.far) - 1],
            np.searchsorted(self.far, rates, side="right") - 1,
            np.searchsorted(self.tar, shares),
        ]
        chosen = np.unique(np.concatenate(rows).clip(0, len(self.far) - 1))
        return RocCurve(self.thresholds[chosen], self.far[chosen], self.tar[chosen])


def roc_curve(genuine: ArrayLike, impostor: ArrayLike) -> RocCurve:
    """The receiver operating characteristic of two sets of similarities.

    Args:
        genuine: similarities to accept, [G].
        impostor: similarities to reject, [I].

    Raises:
        UserError: one of the two is empty.
    """
    genuine, impostor = (np.sort(np.asarray(values, float)) for values in (genuine, impostor))
    if not len(genuine) or not len(impostor):
        raise UserError("calibration needs at least two images of one person, and two people")
    thresholds = np.concatenate([[np.inf], np.unique(np.concatenate([genuine, impostor]))[::-1]])
    far, tar = (
        1 - np.searchsorted(values, thresholds, side="left") / len(values) for values in (impostor, genuine)
    )
    return RocCurve(thresholds, far, tar)


def threshold_at_far(impostor: ArrayLike, far: float) -> float:
    """The lowest threshold in [-1, 1] that accepts at most the share `far` of similarities [I].

    Raises:
        UserError: the rate is outside [0, 1), or there are no similarities.
    """
    if not 0 <= far < 1:
        raise UserError(f"the false-accept rate must be at least 0 and less than 1, not {far}")
    falling = np.sort(np.asarray(impostor, float))[::-1]
    if not len(falling):
        raise UserError("a threshold needs at least two people")
    # Just above the first similarity to reject, so that those equal to it are rejected too.
    first_rejected = falling[int(far * len(falling) + 1e-9)]
    return float(np.clip(np.nextafter(first_rejected, np.inf), -1, 1))


def has_enough_trials(far: float, count: int) -> bool:
    """Whether `count` impostor similarities are enough to estimate this rate; see `MIN_FALSE_ACCEPTS`."""
    return far * count > MIN_FALSE_ACCEPTS - 1e-6


def accept_rate(similarities: ArrayLike, threshold: float) -> float:
    """The share of similarities [N] that are at least the threshold."""
    return float((np.asarray(similarities, float) >= threshold).mean())


def pair_similarities(embeddings: ArrayLike, people: Sequence[str]) -> tuple[Scores, Scores]:
    """The cosines of all pairs of faces, each pair once.

    Args:
        embeddings: float [N, D], each of length 1.
        people: N names.

    Returns:
        The cosines of genuine pairs (of one person) and of impostor pairs (of two people).
    """
    embeddings = np.asarray(embeddings, float)
    numbers = np.unique(np.asarray(people), return_inverse=True)[1]
    rows, columns = np.triu_indices(len(embeddings), 1)
    cosines, same = (embeddings @ embeddings.T)[rows, columns], numbers[rows] == numbers[columns]
    return cosines[same], cosines[~same]


@dataclass(frozen=True)
class Identification:
    """Similarities of M faces to a gallery in which their people are enrolled.

    Attributes:
        genuine: similarity to the right person, float64 [M].
        impostor: similarity to the most similar other person, float64 [M]: the score of a stranger, as if
            the right person were not enrolled.
        people: M names.
    """

    genuine: Scores
    impostor: Scores
    people: tuple[str, ...]

    def rank_1(self) -> float:
        """Closed set: the share of faces whose most similar person is the right one."""
        return float((self.genuine > self.impostor).mean())

    def balanced_rank_1(self) -> float:
        """The mean of that share over the people, so that nobody with many images dominates it."""
        correct, people = self.genuine > self.impostor, np.array(self.people, object)
        return float(np.mean([correct[people == name].mean() for name in sorted({*self.people})]))

    def identification_rate(self, threshold: float) -> float:
        """Open set: the share of faces that get the right name (detection and identification rate)."""
        return float(((self.genuine > self.impostor) & (self.genuine >= threshold)).mean())

    def false_accept_rate(self, threshold: float) -> float:
        """Open set: the share of faces that would get a name if they were strangers."""
        return accept_rate(self.impostor, threshold)

    def curve(self) -> RocCurve:
        """The identification rate over the false-accept rate."""
        roc = roc_curve(self.genuine, self.impostor)
        correct = np.sort(self.genuine[self.genuine > self.impostor])
        rejected = np.searchsorted(correct, roc.thresholds, side="left")
        return RocCurve(roc.thresholds, roc.far, (len(correct) - rejected) / len(self.genuine))


def score_identification(
    similarities: ArrayLike, people: Sequence[str], enrolled: Sequence[str]
) -> Identification:
    """Split similarities into those to the right person and those to others.

    Args:
        similarities: float [M, K], of M faces to K people.
        people: M names; all of them are enrolled.
        enrolled: K names, at least 2.
    """
    table = np.asarray(similarities, float)
    right = np.asarray(people)[:, None] == np.asarray(enrolled)[None]
    genuine, impostor = np.where(right, table, -np.inf).max(1), np.where(right, -np.inf, table).max(1)
    return Identification(genuine, impostor, tuple(people))
