"""Losses between predicted and true landmarks, from squared errors to losses that know a face's shape.

All take points as fractions of the input's sides, float [B, K, 2], and return a scalar, the mean over the
batch. Below, p are predicted points, t true points, and e = p - t their errors. `DD(i)` is the mean of
((p_{j+i} - p_j) - (t_{j+i} - t_j))^2 over all j < K - i, both coordinates and the batch: the squared error of
the differences between points i apart in order. DD(0) is the mean of e^2.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from faces.landmarks.point_set import PointSet

Loss = Callable[[Tensor, Tensor], Tensor]
"""Predicted and true points, float [B, K, 2], to a scalar."""

MAX_TRIPLES = 1000
"""If there are more triples of points, a fixed random selection of this many is used."""
WING_WIDTH, WING_CURVATURE = 10 / 256, 2 / 256
"""The wing loss's w and epsilon: 10 and 2 pixels of a 256-pixel crop in Feng et al."""


def make_loss(name: str, points: PointSet, device: torch.device | None = None) -> Loss:
    """Create the loss of this name, a key of `LOSSES`, for a point set."""
    return LOSSES[name](points, device or torch.device("cpu"))


def point_loss(predicted: Tensor, true: Tensor) -> Tensor:
    """DD(0), the mean squared error of the coordinates."""
    return (predicted - true).square().mean()


class DistanceLoss:
    """The sum of DD(i) over some i.

    DD(i) is a quadratic form e' L e in the errors e of one coordinate, so the whole sum is a product with one
    fixed matrix [K, K].

    Args:
        count: K.
        gaps: the i, each in [0, K).
        device: of the points.
    """

    def __init__(self, count: int, gaps: range, device: torch.device) -> None:
        form = torch.zeros(count, count, dtype=torch.float64)
        for gap in gaps:
            differences = torch.eye(count, dtype=torch.float64)
            if gap:
                differences = differences[gap:] - differences[:-gap]
            form += differences.T @ differences / len(differences)
        self._form = form.float().to(device)

    def __call__(self, predicted: Tensor, true: Tensor) -> Tensor:
        """Return the sum, a scalar."""
        error = predicted - true
        return (error * (self._form @ error)).sum(1).mean()


class TriangleLoss:
    """`distances` plus the mean over triples of points of | area of p's triangle - area of t's |.

    An area is |(b - a) x (c - a)| / 2 in units of the input's area. It is the same for a triangle and its
    mirror image and hardly depends on the points of flat triangles, so this term can be harmful.
    """

    def __init__(self, count: int, device: torch.device) -> None:
        self._distances = DistanceLoss(count, range(count), device)
        triples = torch.combinations(torch.arange(count), 3)
        if len(triples) > MAX_TRIPLES:
            order = torch.randperm(len(triples), generator=torch.Generator().manual_seed(0))
            triples = triples[order[:MAX_TRIPLES]]
        self._triples = triples.to(device)

    def __call__(self, predicted: Tensor, true: Tensor) -> Tensor:
        """Return the sum of both terms, a scalar; for fewer than three points only `distances`."""
        loss = self._distances(predicted, true)
        if len(self._triples):
            loss = loss + (self._areas(predicted) - self._areas(true)).abs().mean()
        return loss

    def _areas(self, points: Tensor) -> Tensor:
        first, second, third = points[:, self._triples].unbind(2)
        (x, y), (u, v) = (second - first).unbind(-1), (third - first).unbind(-1)
        return (x * v - y * u).abs() / 2


class AreaLoss:
    """`distances` plus a penalty for predicted points outside their area's true bounding box.

    For an area whose true points have the bounding box l to h, the penalty is the mean of
    max(0, l - p) + max(0, p - h) over its points, both coordinates and the batch. The penalties are added.
    """

    def __init__(self, points: PointSet, device: torch.device) -> None:
        self._distances = DistanceLoss(points.count, range(points.count), device)
        self._areas = [torch.tensor(points.indices(names), device=device) for names in points.areas.values()]

    def __call__(self, predicted: Tensor, true: Tensor) -> Tensor:
        """Return the sum of all terms, a scalar."""
        loss = self._distances(predicted, true)
        for area in self._areas:
            low, high = true[:, area].amin(1, keepdim=True), true[:, area].amax(1, keepdim=True)
            points = predicted[:, area]
            loss = loss + ((low - points).relu() + (points - high).relu()).mean()
        return loss


def wing_loss(predicted: Tensor, true: Tensor) -> Tensor:
    """The wing loss (Feng et al. 2018), averaged over all coordinates, which emphasises small errors.

    w ln(1 + |e| / epsilon) if |e| < w, else |e| - c, with c = w - w ln(1 + w / epsilon) for continuity.
    """
    size = (predicted - true).abs()
    offset = WING_WIDTH - WING_WIDTH * math.log1p(WING_WIDTH / WING_CURVATURE)
    near = WING_WIDTH * torch.log1p(size / WING_CURVATURE)
    return torch.where(size < WING_WIDTH, near, size - offset).mean()


LOSSES: dict[str, Callable[[PointSet, torch.device], Loss]] = {
    "point": lambda points, device: point_loss,
    "distance": lambda points, device: DistanceLoss(points.count, range(min(2, points.count)), device),
    "distances": lambda points, device: DistanceLoss(points.count, range(points.count), device),
    "triangles": lambda points, device: TriangleLoss(points.count, device),
    "areas": AreaLoss,
    "wing": lambda points, device: wing_loss,
}
"""Factories of the losses: DD(0); DD(0) + DD(1); the sum of DD(i) over all i < K; that plus the areas of
triangles; that plus the bounding boxes of areas; wing."""


def normalised_mean_errors(predicted: Tensor, true: Tensor, points: PointSet) -> Tensor:
    """Mean distance of a face's points from the true ones over that of its outer eye corners.

    The field's normalised mean error (Sagonas et al. 2013): 0.065 is "6.5 %". The two points of the divisor
    are the set's `scale`; if they coincide, the error is infinite.

    Args:
        predicted: float [N, K, 2] in any unit.
        true: float [N, K, 2] in the same unit.
        points: the point set.

    Returns:
        float [N], an error for each face.
    """
    first, second = points.scale_indices
    scale = (true[:, first] - true[:, second]).norm(dim=-1)
    return (predicted - true).norm(dim=-1).mean(-1) / scale
