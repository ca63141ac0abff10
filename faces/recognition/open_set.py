"""Probabilities that sum to one, with strangers among the answers.

A classifier divides its probability among its classes, and a gallery always has a most similar person, also
for a stranger. `OpenSet` contains what `recognize.py calibrate` measured of this: the false-accept rate of
each threshold, and the probability that a face with a certain best score is known (logistic regression,
Platt 1999, with as many known faces as strangers). `temperature` corrects probabilities that are too
confident (Guo et al. 2017). Nothing here imports torch.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine.errors import UserError

Scale = Literal["cosine", "probability"]
Floats = NDArray[np.float64]

MAX_POINTS = 200
"""Thresholds whose false-accept rate is kept."""
SMALLEST = 1e-6
"""Distance of a probability from 0 and 1 below which it counts as this."""
ITERATIONS = 50
MAX_SLOPE = 1000.0
"""Limit on the logistic function's slope; scores that never overlap would make it infinite."""
MAX_LOG_TEMPERATURE = 3.0
FEW_STRANGERS = 0.05
"""False-accept rate at which a face is as likely known as not, where no known faces were measured."""
ROUGH_SLOPE, ROUGH_THRESHOLD = 20.0, 0.4
"""Slope and threshold of cosines without calibration: a rough guide, as networks differ."""


@dataclass(frozen=True)
class OpenSet:
    """What scores mean when strangers are among the faces.

    Attributes:
        scale: what the scores are, cosines in [-1, 1] or probabilities in [0, 1].
        slope: of the logistic function of a cosine, or of a probability's log odds; 0 or more. None if there
            were no known faces to fit it to.
        offset: added to the slope times the score.
        thresholds: falling, float64 [T].
        far: false-accept rate of each threshold, the share of strangers with at least this score.
        strangers: number of strangers' faces that the rates were measured on.
    """

    scale: Scale
    slope: float | None
    offset: float
    thresholds: Floats
    far: Floats
    strangers: int

    def known(self, best: ArrayLike) -> Floats:
        """The probability that faces with these best scores, [M], are known, if half of all faces are.

        Without a slope, it is a guess: a half where few strangers are left.
        """
        if self.slope is None:
            few = int(np.searchsorted(self.far, FEW_STRANGERS))
            return rough(self.scale, float(self.thresholds[min(few, len(self.far) - 1)])).known(best)
        return _logistic(self.slope * _odds(best, self.scale) + self.offset)

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        return {
            "scale": self.scale,
            "slope": self.slope,
            "offset": self.offset,
            "thresholds": [round(float(value), 6) for value in self.thresholds],
            "false_accept_rates": [round(float(value), 6) for value in self.far],
            "strangers": self.strangers,
        }


def rough(scale: Scale, threshold: float | None = None) -> OpenSet:
    """A guess before calibration: a face is as likely known as not at the threshold."""
    nothing = np.empty(0)
    if scale == "probability":
        middle = float(_odds(threshold or 0.5, scale))
        return OpenSet(scale, 1.0, -middle, nothing, nothing, 0)
    middle = ROUGH_THRESHOLD if threshold is None else threshold
    return OpenSet(scale, ROUGH_SLOPE, -ROUGH_SLOPE * middle, nothing, nothing, 0)


def measure(scale: Scale, known: ArrayLike, strangers: ArrayLike) -> OpenSet:
    """Measure what scores mean.

    Args:
        scale: what the scores are.
        known: best scores of faces whose names are among the answers, [K]; may be empty.
        strangers: best scores of other faces, [S], at least one.
    """
    known, strangers = np.asarray(known, float), np.sort(np.asarray(strangers, float))
    points = np.unique(np.linspace(0, len(strangers) - 1, MAX_POINTS).round().astype(int))
    # Most of the thresholds that people choose are near the top of the strangers' scores.
    top = np.unique(len(strangers) - np.geomspace(1, len(strangers), MAX_POINTS // 2).round().astype(int))
    thresholds = np.unique(strangers[np.union1d(points, top)])[::-1]
    far = 1 - np.searchsorted(strangers, thresholds, side="left") / len(strangers)
    slope, offset = _fit(_odds(known, scale), _odds(strangers, scale)) if len(known) else (None, 0.0)
    return OpenSet(scale, slope, offset, thresholds, far, len(strangers))


def from_json(values: Any) -> OpenSet | None:
    """What `OpenSet.to_json` returned; None for None. Raises `ValueError` if it is something else."""
    if values is None:
        return None
    try:
        thresholds, far = (
            np.array(values[name], np.float64) for name in ("thresholds", "false_accept_rates")
        )
        slope = None if values["slope"] is None else float(values["slope"])
        offset, strangers, scale = float(values["offset"]), int(values["strangers"]), values["scale"]
    except (LookupError, TypeError, ValueError, OverflowError):
        raise ValueError("no measurement of an open set") from None
    numbers = np.concatenate([thresholds.ravel(), far.ravel(), [slope or 0.0, offset]])
    if scale not in ("cosine", "probability") or thresholds.ndim != 1 or thresholds.shape != far.shape:
        raise ValueError("no measurement of an open set")
    if not np.isfinite(numbers).all() or (slope is None and not len(thresholds)):
        raise ValueError("no measurement of an open set")
    return OpenSet(scale, slope, offset, thresholds, far, strangers)


def with_unknown(known: ArrayLike, shares: ArrayLike) -> Floats:
    """Probabilities of each answer and, in the last column, of none of them.

    Args:
        known: probabilities that faces are known, [M].
        shares: probabilities of the answers for faces that are known, [M, C], each row of which sums to 1.

    Returns:
        float64 [M, C + 1]; each row sums to 1.
    """
    known, shares = np.asarray(known, np.float64)[:, None], np.asarray(shares, np.float64)
    return np.concatenate([known * shares, 1 - known], axis=1)


def gallery_shares(similarities: ArrayLike, open_set: OpenSet) -> Floats:
    """How the probability of a known face divides among people: float64 [M, C], from cosines [M, C].

    A person's odds grow with the similarity as fast as the odds of being known do.
    """
    slope = ROUGH_SLOPE if open_set.slope is None else open_set.slope
    return _softmax(slope * np.asarray(similarities, np.float64))


def sharpen(probabilities: ArrayLike, temperature: float) -> Floats:
    """Class probabilities [M, C] as they would be with logits divided by a temperature."""
    logs = np.log(np.clip(np.asarray(probabilities, np.float64), 1e-30, None))
    return _softmax(logs / temperature)


def fit_temperature(probabilities: ArrayLike, true: ArrayLike) -> float:
    """The temperature with which class probabilities [M, C] are likeliest, given the true classes [M]."""
    rows, true = np.asarray(probabilities, np.float64), np.asarray(true)

    def loss(log_temperature: float) -> float:
        chosen = sharpen(rows, math.exp(log_temperature))[np.arange(len(rows)), true]
        return float(-np.log(chosen.clip(1e-300)).mean())

    # The loss is convex in 1 / T, so it has one minimum: golden-section search.
    low, high, ratio = -MAX_LOG_TEMPERATURE, MAX_LOG_TEMPERATURE, (math.sqrt(5) - 1) / 2
    while high - low > 1e-3:
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, right) if loss(left) < loss(right) else (left, high)
    return math.exp((low + high) / 2)


def load_temperature(run: Path, step: int) -> float:
    """The temperature in a classifier run's report.json, 1 if it has none for this step."""
    try:
        report = json.loads((run / "report.json").read_text(encoding="utf-8"))
        temperature = float(report["temperature"]) if report["step"] == step else 1.0
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return 1.0
    return temperature if 0.01 <= temperature <= 100 else 1.0


def check_scale(open_set: OpenSet | None, scale: Scale, path: Path) -> None:
    """Raise `UserError` if a file's measurement is of other scores."""
    if open_set is not None and open_set.scale != scale:
        raise UserError(f"{path} contains a calibration of other scores: calibrate it again")


def _fit(known: Floats, strangers: Floats) -> tuple[float, float]:
    """Slope and offset of a logistic regression in which both groups weigh the same, by Newton's method."""
    x = np.concatenate([known, strangers])
    # Platt's targets, which keep the slope finite if the groups do not overlap.
    targets = np.repeat(
        [(len(known) + 1) / (len(known) + 2), 1 / (len(strangers) + 2)], [len(known), len(strangers)]
    )
    weights = np.repeat([0.5 / len(known), 0.5 / len(strangers)], [len(known), len(strangers)])
    centre, spread = x.mean(), max(float(x.std()), 1e-9)
    z = np.stack([(x - centre) / spread, np.ones_like(x)], 1)
    beta = np.zeros(2)
    for _ in range(ITERATIONS):
        p = _logistic(z @ beta)
        gradient = z.T @ (weights * (p - targets)) + 1e-6 * beta
        hessian = (z * (weights * p * (1 - p))[:, None]).T @ z + 1e-6 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        beta -= step * min(1.0, 2 / max(np.abs(step).max(), 1e-12))
        if np.abs(step).max() < 1e-9:
            break
    slope = float(np.clip(beta[0] / spread, 0.0, MAX_SLOPE))  # never less known for a better score
    return slope, float(beta[1] - slope * centre)


def _odds(scores: ArrayLike, scale: Scale) -> Floats:
    """Cosines as they are; probabilities as log odds."""
    scores = np.asarray(scores, np.float64)
    if scale == "cosine":
        return scores
    clipped = scores.clip(SMALLEST, 1 - SMALLEST)
    return np.log(clipped) - np.log1p(-clipped)


def _logistic(x: Floats) -> Floats:
    return 0.5 * (1 + np.tanh(0.5 * x))


def _softmax(logits: Floats) -> Floats:
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    return shifted / shifted.sum(1, keepdims=True)
