"""Thresholds of similarity: how many strangers pass, and how many of one's own are known again.

Two questions are asked of a similarity. Verification: are these two faces of one person? It is judged over
pairs. Identification: which of those enrolled is this, if any? It is judged over faces, each against all that
are enrolled: closed set where everybody is, open set where strangers come too. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine.errors import UserError

Scores = NDArray[np.float64]

MIN_FALSE_ACCEPTS = 30
"""False accepts that a rate has to rest on, for the true one to lie within 30 % of it with a confidence of
90 % (the rule of 30, Doddington et al. 2000). That is of independent trials; pairs that share an image are
not quite, so it is the least to ask for."""
POINTS = 200
"""Of a curve that are drawn and written."""


@dataclass(frozen=True)
class RocCurve:
    """What is accepted at each threshold, from the strictest to the laxest.

    Attributes:
        thresholds: float64 [T], falling; accepted is what is at least as similar.
        far: false-accept rate, float64 [T]: the share of what should be refused that is accepted.
        tar: true-accept rate, float64 [T]: the share of what should be accepted that is.
    """

    thresholds: Scores
    far: Scores
    tar: Scores

    def area(self) -> float:
        """Under the curve of `tar` over `far`: 0.5 by chance, 1 where the two do not overlap."""
        return float((np.diff(self.far) * (self.tar[1:] + self.tar[:-1]) / 2).sum())

    def thinned(self, points: int = POINTS) -> RocCurve:
        """So many points of the curve at most, or all where it has no more.

        Half of them are spread over `tar`, half over the logarithm of `far`, where the strict thresholds
        that are of use lie: of thresholds taken at even distances nearly all are lax ones.
        """
        if len(self.far) <= points:
            return self
        refused = self.far[self.far > 0]
        rates = np.geomspace(refused[0], refused[-1], points // 2 - 1)
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
        genuine: similarities that should be accepted, [G].
        impostor: those that should be refused, [I].

    Raises:
        UserError: one of the two is empty.
    """
    genuine, impostor = (np.sort(np.asarray(values, float)) for values in (genuine, impostor))
    if not len(genuine) or not len(impostor):
        raise UserError("a threshold needs two images of one person at least, and two people")
    thresholds = np.concatenate([[np.inf], np.unique(np.concatenate([genuine, impostor]))[::-1]])
    far, tar = (
        1 - np.searchsorted(values, thresholds, side="left") / len(values) for values in (impostor, genuine)
    )
    return RocCurve(thresholds, far, tar)


def threshold_at_far(impostor: ArrayLike, far: float) -> float:
    """The lowest threshold at which at most this share of `impostor` similarities [I] is accepted.

    Raises:
        UserError: the rate is outside [0, 1), or there are no similarities.
    """
    if not 0 <= far < 1:
        raise UserError(f"the false-accept rate must be at least 0 and less than 1, not {far}")
    falling = np.sort(np.asarray(impostor, float))[::-1]
    if not len(falling):
        raise UserError("a threshold needs two people at least")
    # The first that must not pass; just above it all that are equal to it are refused too.
    first = falling[int(far * len(falling) + 1e-9)]
    return float(np.clip(np.nextafter(first, np.inf), -1, 1))


def has_enough_trials(far: float, count: int) -> bool:
    """Whether `count` impostor similarities are enough to estimate this rate; see `MIN_FALSE_ACCEPTS`."""
    return far * count > MIN_FALSE_ACCEPTS - 1e-6


def accept_rate(similarities: ArrayLike, threshold: float) -> float:
    """The share of similarities, [N], that are at least this."""
    return float((np.asarray(similarities, float) >= threshold).mean())


def pair_similarities(vectors: ArrayLike, people: Sequence[str]) -> tuple[Scores, Scores]:
    """The cosines of all pairs of faces, each pair once.

    Args:
        vectors: float [N, D], each of length 1.
        people: N, who each is of.

    Returns:
        Of pairs of one person, and of pairs of two.
    """
    vectors, numbers = np.asarray(vectors, float), np.unique(np.asarray(people), return_inverse=True)[1]
    rows, columns = np.triu_indices(len(vectors), 1)
    cosines, same = (vectors @ vectors.T)[rows, columns], numbers[rows] == numbers[columns]
    return cosines[same], cosines[~same]


@dataclass(frozen=True)
class Identification:
    """Faces against a gallery that holds the people they are of.

    Attributes:
        genuine: similarity to the right person, float64 [M].
        impostor: to the most similar of the others, float64 [M]: what a stranger would get, were the
            right person not enrolled.
        people: M, who the faces are of.
    """

    genuine: Scores
    impostor: Scores
    people: tuple[str, ...]

    def rank_1(self) -> float:
        """Closed set: the share of faces whose most similar person is the right one."""
        return float((self.genuine > self.impostor).mean())

    def balanced_rank_1(self) -> float:
        """The mean over the people of that share, so that one of many images does not stand for all.

        Who always says the same name gets 1 over the number of people.
        """
        right, people = self.genuine > self.impostor, np.array(self.people, object)
        return float(np.mean([right[people == name].mean() for name in sorted({*self.people})]))

    def identification_rate(self, threshold: float) -> float:
        """Open set: the share of faces that are named, and rightly (detection and identification rate)."""
        return float(((self.genuine > self.impostor) & (self.genuine >= threshold)).mean())

    def false_accept_rate(self, threshold: float) -> float:
        """Open set: the share of faces that would be named were they strangers; they are refused else."""
        return accept_rate(self.impostor, threshold)

    def curve(self) -> RocCurve:
        """Rightly named over strangers named, at each threshold."""
        plain = roc_curve(self.genuine, self.impostor)
        right = np.sort(self.genuine[self.genuine > self.impostor])
        missed = np.searchsorted(right, plain.thresholds, side="left")
        return RocCurve(plain.thresholds, plain.far, (len(right) - missed) / len(self.genuine))


def score_identification(
    similarities: ArrayLike, people: Sequence[str], enrolled: Sequence[str]
) -> Identification:
    """Split similarities into those to the right person and those to others.

    Args:
        similarities: float [M, K], of M faces to K people.
        people: M, who the faces are of; all are enrolled.
        enrolled: K names, at least 2.
    """
    table = np.asarray(similarities, float)
    right = np.asarray(people)[:, None] == np.asarray(enrolled)[None]
    own, other = np.where(right, table, -np.inf).max(1), np.where(right, -np.inf, table).max(1)
    return Identification(own, other, tuple(people))
