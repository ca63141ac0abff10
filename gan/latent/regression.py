"""Directions from scores of many faces, or from a few that somebody chose.

All vectors are in the Gaussian coordinate u (see `gan.latent.gaussian`). Nothing here imports torch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float64]

MIN_DIMENSIONS = 8
"""Minimum dimensions of the subspace for faces that somebody chose."""
MIN_REMAINDER = 1e-6
"""Share of a unit vector's length: what is shorter after a projection is rounding."""


@dataclass(frozen=True)
class Regression:
    """A ridge regression of scores on u.

    Attributes:
        weights: float64 [A, size], in standard deviations of each score per unit of u. As u is Gaussian, they
            are the mean gradient of the score over the prior (Stein 1981), whatever its shape.
        explained: float64 [A], share of each score's variance that is linear in u, adjusted for the number
            of faces; about 0 for a score that does not depend on u.
    """

    weights: Vectors
    explained: NDArray[np.float64]


def regress(u: Vectors, scores: NDArray[np.float64]) -> Regression:
    """Regress scores, float64 [N, A], on u, float64 [N, size].

    The penalty is 1 for each value of u, which has a variance of 1: with thousands of faces it changes
    nothing, and with fewer faces than values it makes the solution unique.
    """
    count, size = u.shape
    centred, standard = u - u.mean(0), scores - scores.mean(0)
    deviations = standard.std(0)
    standard = standard / np.where(deviations > 0, deviations, 1)
    weights = np.linalg.solve(centred.T @ centred + np.eye(size), centred.T @ standard)
    residuals = (standard - centred @ weights).var(0)
    freedom = max(count - size - 1, 1)
    explained = np.where(deviations > 0, 1 - residuals * (count - 1) / freedom, 0.0)
    return Regression(weights.T, explained)


def unit(vector: Vectors) -> Vectors | None:
    """A vector scaled to length 1; None if it is zero."""
    length = np.linalg.norm(vector)
    return vector / length if length > 0 else None


def project_out(vector: Vectors, others: Vectors) -> Vectors | None:
    """The part of a vector [size] that is orthogonal to others [K, size], scaled to length 1.

    This makes a direction conditional on others (Shen et al. 2020, InterFaceGAN): to first order, moving
    along it leaves their scores unchanged. None if nothing remains.
    """
    start = unit(vector)
    if start is None or not len(others):
        return start
    basis = orthonormal(others)
    rest = start - basis.T @ (basis @ start)
    return unit(rest) if np.linalg.norm(rest) > MIN_REMAINDER else None


def orthonormal(vectors: Vectors) -> Vectors:
    """An orthonormal basis of the span of vectors [K, size], K of at least 1: float64 [rank, size].

    Vectors that depend on others add nothing to it.
    """
    scaled = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-300)
    _, values, basis = np.linalg.svd(scaled, full_matrices=False)
    return basis[values > 1e-9 * max(values[0], 1e-300)]


def difference_of_means(plus: Vectors, minus: Vectors, gram: Vectors) -> Vectors | None:
    """The direction from some faces to others, within the subspace that changes faces most.

    A few faces do not determine a hundred numbers: most of the difference of their means is chance. So only
    the leading eigenvectors of `gram` are used, one for every two faces and at least `MIN_DIMENSIONS`.

    Args:
        plus: float64 [P, size], P of at least 1.
        minus: float64 [M, size], M of at least 1.
        gram: float64 [size, size]; see `gan.latent.leading.mean_gram`.

    Returns:
        float64 [size], of length 1; None if the means are equal.
    """
    kept = max(MIN_DIMENSIONS, (len(plus) + len(minus)) // 2)
    basis = eigenvectors(gram)[0][:kept]
    return unit(basis.T @ (basis @ (plus.mean(0) - minus.mean(0))))


def eigenvectors(gram: Vectors) -> tuple[Vectors, NDArray[np.float64]]:
    """Unit eigenvectors of a symmetric matrix, in rows [size, size], and their shares of the trace [size].

    By falling eigenvalue; the largest component of each is positive.
    """
    values, columns = np.linalg.eigh(gram)
    rows = columns.T[::-1]
    largest = np.abs(rows).argmax(1)
    signs = np.sign(rows[np.arange(len(rows)), largest])
    values = values[::-1].clip(0)
    return rows * signs[:, None], values / max(values.sum(), 1e-300)
