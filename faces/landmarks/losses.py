"""Losses between predicted and true landmarks, from squared errors to losses that know a face's shape.

All take points as fractions of the input's sides, float [B, K, 2], and return a scalar, the mean over the
batch. Below, p are predicted points, t true points, and e = p - t their errors. `DD(i)` is the mean of
((p_{j+i} - p_j) - (t_{j+i} - t_j))^2 over all j < K - i, both coordinates and the batch: the squared error of
the differences between points i apart in order. DD(0) is the mean of e^2.

With `marked`, bool [B, K], a mean is over the marked points, or over the pairs and triples of them. The other
points may be NaN in t.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from faces.landmarks.point_set import PointSet


class Loss(Protocol):
    """Predicted and true points, float [B, K, 2], to a scalar."""

    def __call__(self, predicted: Tensor, true: Tensor, marked: Tensor | None = None) -> Tensor:
        """See the module; without `marked` all points are marked."""


MAX_TRIPLES = 1000
"""If there are more triples of points, a fixed random selection of this many is used."""
WING_WIDTH, WING_CURVATURE = 10 / 256, 2 / 256
"""The wing loss's w and epsilon: 10 and 2 pixels of a 256-pixel crop in Feng et al."""


def make_loss(name: str, points: PointSet, device: torch.device | None = None) -> Loss:
    """Create the loss of this name, a key of `LOSSES`, for a point set."""
    return LOSSES[name](points, device or torch.device("cpu"))


def _errors(predicted: Tensor, true: Tensor, marked: Tensor | None) -> Tensor:
    """The errors p - t, 0 where a point is not marked."""
    error = predicted - true
    return error if marked is None else torch.where(marked[..., None], error, 0)


def _mean(values: Tensor, marked: Tensor | None) -> Tensor:
    """Mean of the marked values, [B, K, ...] with marks [B, K]; 0 if there are none."""
    if marked is None:
        return values.mean()
    marked = marked.reshape(*marked.shape, *[1] * (values.ndim - marked.ndim)).expand_as(values)
    return torch.where(marked, values, 0).sum() / marked.sum().clamp(min=1)


def point_loss(predicted: Tensor, true: Tensor, marked: Tensor | None = None) -> Tensor:
    """DD(0), the mean squared error of the coordinates."""
    return _mean(_errors(predicted, true, marked).square(), marked)


class DistanceLoss:
    """The sum of DD(i) over some i.

    DD(i) is a quadratic form e' L e in the errors e of one coordinate, so the whole sum is a product with one
    fixed matrix [K, K]. With unmarked points the pairs differ from face to face, and the terms are added one
    by one.

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
        self._gaps = gaps

    def __call__(self, predicted: Tensor, true: Tensor, marked: Tensor | None = None) -> Tensor:
        """Return the sum, a scalar."""
        error = _errors(predicted, true, marked)
        if marked is None:
            return (error * (self._form @ error)).sum(1).mean()
        total = error.new_zeros(())
        for gap in self._gaps:
            count = error.shape[1] - gap
            moved = error[:, gap:] - error[:, :count] if gap else error
            total = total + _mean(moved.square(), marked[:, gap:] & marked[:, :count])
        return total


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

    def __call__(self, predicted: Tensor, true: Tensor, marked: Tensor | None = None) -> Tensor:
        """Return the sum of both terms, a scalar; for fewer than three points only `distances`."""
        loss = self._distances(predicted, true, marked)
        if len(self._triples):
            if marked is not None:
                true = torch.where(marked[..., None], true, 0)
                marked = marked[:, self._triples].all(-1)
            loss = loss + _mean((self._areas(predicted) - self._areas(true)).abs(), marked)
        return loss

    def _areas(self, points: Tensor) -> Tensor:
        first, second, third = points[:, self._triples].unbind(2)
        (x, y), (u, v) = (second - first).unbind(-1), (third - first).unbind(-1)
        return (x * v - y * u).abs() / 2


class AreaLoss:
    """`distances` plus a penalty for predicted points outside their area's true bounding box.

    For an area whose true points have the bounding box l to h, the penalty is the mean of
    max(0, l - p) + max(0, p - h) over its points, both coordinates and the batch. The penalties are added.
    Only marked points have a box and a penalty.
    """

    def __init__(self, points: PointSet, device: torch.device) -> None:
        self._distances = DistanceLoss(points.count, range(points.count), device)
        self._areas = [torch.tensor(points.indices(names), device=device) for names in points.areas.values()]

    def __call__(self, predicted: Tensor, true: Tensor, marked: Tensor | None = None) -> Tensor:
        """Return the sum of all terms, a scalar."""
        loss = self._distances(predicted, true, marked)
        for area in self._areas:
            low = high = true[:, area]
            area_marked = None
            if marked is not None:
                area_marked = marked[:, area]
                low = torch.where(area_marked[..., None], low, torch.inf)
                high = torch.where(area_marked[..., None], high, -torch.inf)
            low, high = low.amin(1, keepdim=True), high.amax(1, keepdim=True)
            points = predicted[:, area]
            loss = loss + _mean((low - points).relu() + (points - high).relu(), area_marked)
        return loss


def wing_loss(predicted: Tensor, true: Tensor, marked: Tensor | None = None) -> Tensor:
    """The wing loss (Feng et al. 2018), averaged over all coordinates, which emphasises small errors.

    w ln(1 + |e| / epsilon) if |e| < w, else |e| - c, with c = w - w ln(1 + w / epsilon) for continuity.
    """
    size = _errors(predicted, true, marked).abs()
    offset = WING_WIDTH - WING_WIDTH * math.log1p(WING_WIDTH / WING_CURVATURE)
    near = WING_WIDTH * torch.log1p(size / WING_CURVATURE)
    return _mean(torch.where(size < WING_WIDTH, near, size - offset), marked)


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


def normalised_mean_errors(
    predicted: Tensor, true: Tensor, points: PointSet, marked: Tensor | None = None
) -> Tensor:
    """Mean distance of a face's marked points from the true ones over that of its outer eye corners.

    The field's normalised mean error (Sagonas et al. 2013): 0.065 is "6.5 %". The two points of the divisor
    are the set's `scale`, which must be marked; if they coincide, the error is infinite.

    Args:
        predicted: float [N, K, 2] in any unit.
        true: float [N, K, 2] in the same unit.
        points: the point set.
        marked: bool [N, K]; None if all points are.

    Returns:
        float [N], an error for each face.
    """
    first, second = points.scale_indices
    scale = (true[:, first] - true[:, second]).norm(dim=-1)
    distances = _errors(predicted, true, marked).norm(dim=-1)
    return (distances.mean(-1) if marked is None else distances.sum(-1) / marked.sum(-1)) / scale
