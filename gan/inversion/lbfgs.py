"""L-BFGS for many independent problems at once.

`torch.optim.LBFGS` takes a batch for one problem, with one step length for all. Here each row has its own
curvature and step length, and all rows share the evaluations, which vector units and GPUs need to be fast.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

MEMORY = 12
"""Steps whose curvature is remembered."""
SUFFICIENT_DECREASE = 1e-4
"""Share of the predicted decrease that a step must reach (Armijo 1966)."""
SHRINK = 0.35
"""Factor on the length of a step that fails."""
FORGET_AFTER, GIVE_UP_AFTER = 4, 8
"""Failures in a row after which a row forgets its curvature, and after which it is finished."""
WINDOW = 10
"""Successful steps over which the decrease is compared with the tolerance."""

Objective = Callable[[Tensor, Tensor], Tensor]
"""Points [B, D] and their rows, int64 [B], to values [B]; each depends on its own point alone."""


def minimize(
    objective: Objective,
    start: Tensor,
    evaluations: int,
    tolerance: float,
    enough: float = -math.inf,
) -> tuple[Tensor, Tensor]:
    """Minimise a function for each row (Liu and Nocedal 1989), with a backtracking line search.

    Every evaluation serves all unfinished rows: one whose step fails tries a shorter one while the others
    take their next.

    Args:
        objective: see `Objective`.
        start: float32 [N, D].
        evaluations: of the objective at most.
        tolerance: a row whose value decreases by less in `WINDOW` steps is finished.
        enough: a row with at most this value is finished.

    Returns:
        The best points, float32 [N, D], and their values, float32 [N].
    """
    state = _State(objective, start)
    for _ in range(evaluations - 1):
        if not len(state.active):
            break
        state.step(objective, tolerance, enough)
    return state.point, state.value


class _State:
    """Points, values and curvature of all rows.

    Attributes:
        point: float32 [N, D].
        value: float32 [N].
        active: rows that are not finished, int64 [A].
    """

    def __init__(self, objective: Objective, start: Tensor) -> None:
        count, device = len(start), start.device
        self.active = torch.arange(count, device=device)
        self.point = start.clone()
        self.value, self._gradient = _evaluate(objective, start, self.active)
        self._steps = torch.zeros(MEMORY, *start.shape, device=device)
        self._changes = torch.zeros_like(self._steps)  # of the gradient
        self._curvature = torch.zeros(MEMORY, count, device=device)  # 1 / (step . change); 0 for no step
        self._newest = torch.zeros(count, dtype=torch.long, device=device)
        self._length = _first_length(self._gradient)
        self._failures = torch.zeros_like(self._newest)
        self._successes = torch.zeros_like(self._newest)
        self._compared = torch.full_like(self.value, torch.inf)

    def step(self, objective: Objective, tolerance: float, enough: float) -> None:
        """Try one step of each active row."""
        rows = self.active
        gradient = self._gradient[rows]
        direction = -self._scaled(gradient, rows)
        slope = (direction * gradient).sum(1)
        downhill = slope < 0
        direction = torch.where(downhill[:, None], direction, -gradient)
        slope = torch.where(downhill, slope, -gradient.square().sum(1))
        move = direction * self._length[rows, None]
        value, new_gradient = _evaluate(objective, self.point[rows] + move, rows)
        accepted = value <= self.value[rows] + SUFFICIENT_DECREASE * self._length[rows] * slope
        self._remember(rows[accepted], move[accepted], (new_gradient - gradient)[accepted])
        moved = rows[accepted]
        self.point[moved] += move[accepted]
        self.value[moved], self._gradient[moved] = value[accepted], new_gradient[accepted]
        self._length[moved], self._failures[moved] = 1.0, 0
        self._successes[moved] += 1
        self._shorten(rows[~accepted])
        self._finish(moved, tolerance, enough)

    def _remember(self, rows: Tensor, move: Tensor, change: Tensor) -> None:
        product = (move * change).sum(1)
        curved = product > 1e-8 * move.norm(dim=1) * change.norm(dim=1)
        rows, place = rows[curved], (self._newest[rows[curved]] + 1) % MEMORY
        self._newest[rows] = place
        self._steps[place, rows], self._changes[place, rows] = move[curved], change[curved]
        self._curvature[place, rows] = 1 / product[curved]

    def _shorten(self, rows: Tensor) -> None:
        self._length[rows] *= SHRINK
        self._failures[rows] += 1
        stale = rows[self._failures[rows] == FORGET_AFTER]
        self._curvature[:, stale] = 0
        self._length[stale] = 0.1 * _first_length(self._gradient[stale])

    def _finish(self, moved: Tensor, tolerance: float, enough: float) -> None:
        due = moved[self._successes[moved] % WINDOW == 0]
        slow = due[self._compared[due] - self.value[due] < tolerance]
        self._compared[due] = self.value[due]
        finished = torch.isin(self.active, slow) | (self.value[self.active] <= enough)
        finished |= self._failures[self.active] >= GIVE_UP_AFTER
        self.active = self.active[~finished]

    def _scaled(self, gradient: Tensor, rows: Tensor) -> Tensor:
        """The approximate inverse Hessian times the gradient, [A, D], by the two-loop recursion."""
        places = [(self._newest[rows] - back) % MEMORY for back in range(MEMORY)]
        steps = [self._steps[place, rows] for place in places]
        changes = [self._changes[place, rows] for place in places]
        curvature = [self._curvature[place, rows] for place in places]
        result, weights = gradient.clone(), []
        for step, change, inverse in zip(steps, changes, curvature, strict=True):
            weights.append(inverse * (step * result).sum(1))
            result -= weights[-1][:, None] * change
        scale = 1 / (curvature[0] * changes[0].square().sum(1))
        result *= torch.where(curvature[0] > 0, scale, torch.ones_like(scale))[:, None]
        for step, change, inverse, weight in list(zip(steps, changes, curvature, weights, strict=True))[::-1]:
            result += (weight - inverse * (change * result).sum(1))[:, None] * step
        return result


def _first_length(gradient: Tensor) -> Tensor:
    """The length of a step along the gradient for which nothing is known: at most 1 in the coordinate."""
    return 1 / gradient.norm(dim=1).clamp(min=1.0)


def _evaluate(objective: Objective, point: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    point = point.detach().requires_grad_()
    value = objective(point, rows)
    (gradient,) = torch.autograd.grad(value.sum(), point)
    return value.detach(), gradient
