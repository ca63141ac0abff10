"""Alarms about a run that goes wrong, and the numbers that define them.

There are five: a value that is not finite (`engine.finite`), a D that wins or fails for good, a vanishing
gradient of G, and mode collapse. `gan.rollback` recovers from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from engine.finite import DivergedError
from gan.metrics.pixels import pairwise_distances

AlarmName = Literal["not finite", "D wins", "D fails", "vanishing gradient", "mode collapse"]


@dataclass(frozen=True)
class Alarm:
    """Something that goes wrong in a run."""

    name: AlarmName
    step: int
    """The step at which the alarm was raised."""
    since: int
    """The last step known to be good: a checkpoint up to here predates the trouble."""
    message: str
    """One line with the observed numbers."""
    certain: bool
    """False for a warning, which is raised after half of the window."""


@dataclass(frozen=True)
class Limits:
    """The numbers that define the alarms. Steps are counted at a learning rate of 1e-4 or more.

    They are conservative, because a false alarm costs a run more than a late one. Each comes with the extreme
    of healthy runs on photos of faces, of 450 to 1,200 steps at 32 and 48 px: batch norm, spectral norm
    (since removed) and none in D, with and without augmentation, and the preset `textbook` (samples of 14
    runs, losses and gradients of 8).
    """

    grace: int = 500
    """Steps before anything but a value that is not finite is checked. At the start D easily tells noise from
    faces, and all samples are one grey or blurred face. Healthy runs had left that state by step 450."""
    window: int = 300
    """Steps for which D must win or fail, or G's gradient be gone, without interruption. In one healthy run
    D won for 10 steps, in none for longer."""
    min_probability: float = 0.005
    """D wins while D(G(z)), its mean over the batch, is below this. As -log is convex, G's loss against the
    same D then exceeds 5.3 = -log 0.005, and at most one generated image in 100 passes as real. D's own loss
    would not do: it includes the cost of real faces and negatives. In 10 healthy runs of 1,500 to 3,500 steps
    (48 and 96 px, one textbook, one with negatives) no mean of ten steps after the grace was below 0.03."""
    failing_loss: float = 5.0
    """[nats] D fails while its loss exceeds this: a D that tells nothing apart has 1.39 = log 4, so this one
    is confidently wrong, as when updates are too large. Healthy losses, means of ten steps, were at most
    1.8."""
    gradient_share: float = 0.01
    """G's gradient has vanished while its norm is below this share of its own earlier median. No healthy one
    fell below a tenth."""
    min_gradient: float = 1e-7
    """G's gradient has also vanished while its norm is below this, the resolution of float32 next to a weight
    of 1."""
    sample_window: int = 200
    """Steps from the first to the last grid of collapsed samples, at least two: an averaged generator changes
    with a half-life of 10,000 images, some 200 steps of 48, so one grid can show a passing state."""
    collapsed_share: float = 0.02
    """Samples have collapsed while their mean pairwise distance is below this share of real images'. The
    lowest healthy one was 0.04, in a textbook run that had yet to leave its first blurred face."""
    fallen_share: float = 0.1
    """Samples have also collapsed while their distance is below this share of the real images', and below
    `fallen_from`."""
    fallen_from: float = 0.3
    """Share of the distance's own maximum; see `fallen_share`. The deepest healthy fall was to half of it."""
    late: int = 3000
    """From this step on, samples have also collapsed if their distance never exceeded `late_share`."""
    late_share: float = 0.1
    """Share of the real images' distance; see `late`. Healthy runs exceeded it by step 600."""

    def at(self, learning_rate: float) -> Limits:
        """The same with all steps stretched for a learning rate below 1e-4, at which each does less."""
        factor = max(1.0, 1e-4 / learning_rate)
        steps = ("grace", "window", "sample_window", "late")
        return replace(self, **{name: round(getattr(self, name) * factor) for name in steps})


MEDIAN_NORMS = 100
"""Norms of G's gradient from which the median is taken, one per log point."""
MIN_MEDIAN_NORMS = 10


def not_finite(error: DivergedError, step: int) -> Alarm:
    """The alarm for a value that was not finite.

    Every checkpoint predates it: none is written with such a value.
    """
    return Alarm("not finite", step, step, str(error), certain=True)


class Monitor:
    """Raises alarms from what a run logs and samples.

    While a problem lasts, it raises one warning after half of its window, and a certain alarm at every check
    from the end of the window on. `state` contains all it remembers, so a resumed run is judged as if it
    had never stopped. Values must be finite.

    Args:
        real: images of the data set, uint8 [N, 3, S, S], about as many as there are samples; at least 2.
        limits: the numbers that define the alarms.
        check_discriminator: raise "D wins" and "D fails", whose limits only apply to cross-entropy.
    """

    def __init__(
        self, real: NDArray[np.uint8], limits: Limits | None = None, *, check_discriminator: bool = True
    ) -> None:
        self.limits = limits or Limits()
        self._check_discriminator = check_discriminator
        self._real_distance = float(pairwise_distances(real).mean())
        self._winning = _Streak()
        self._failing = _Streak()
        self._vanished = _Streak()
        self._collapsed = _Streak()
        self._gradient_norms: list[float] = []
        self._max_distance = 0.0

    def check_statistics(self, step: int, statistics: Mapping[str, float]) -> Alarm | None:
        """Check a log point.

        Args:
            step: steps done; more than in the last call.
            statistics: means since the last point, named as in `gan.training_step.STATISTICS`.

        Returns:
            The certain alarm whose trouble began first, or else such a warning, or None if there is nothing
            new.
        """
        checks = [self._vanishing_gradient]
        if self._check_discriminator:
            checks += [self._discriminator_wins, self._discriminator_fails]
        alarms = [alarm for check in checks if (alarm := check(step, statistics))]
        return max(alarms, key=lambda alarm: (alarm.certain, -alarm.since), default=None)

    def check_samples(self, step: int, samples: NDArray[np.uint8]) -> Alarm | None:
        """Check the run's samples, uint8 [N, 3, S, S], always of the same latent vectors.

        Returns:
            As `check_statistics`.
        """
        limits, real = self.limits, self._real_distance
        distance = float(pairwise_distances(samples).mean())
        if step < limits.grace:
            return None
        collapsed = distance < limits.collapsed_share * real
        fallen = distance < min(limits.fallen_share * real, limits.fallen_from * self._max_distance)
        self._max_distance = max(self._max_distance, distance)
        never = step >= limits.late and self._max_distance < limits.late_share * real
        bad = collapsed or fallen or never
        # A set at less than half of its maximum may already be collapsing.
        good = not bad and 2 * distance >= self._max_distance
        certain = self._collapsed.extend(step, bad=bad, good=good, window=limits.sample_window)
        message = (
            f"mode collapse: at step {step} the mean distance of the samples is {distance:.4f}, that of real "
            f"images {real:.4f}, and the samples' own maximum {self._max_distance:.4f}"
        )
        # A set that never was diverse has no good time to return to.
        since = 0 if never else self._collapsed.since
        return _alarm("mode collapse", step, since, message, certain)

    def state(self) -> dict[str, Any]:
        """Everything it remembers, as numbers, lists and dicts."""
        return {
            "winning": asdict(self._winning),
            "failing": asdict(self._failing),
            "vanished": asdict(self._vanished),
            "alike": asdict(self._collapsed),
            "gradients": list(self._gradient_norms),
            "best": self._max_distance,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Resume from what `state` returned."""
        self._winning = _Streak(**state["winning"])
        self._failing = _Streak(**state["failing"])
        self._vanished = _Streak(**state["vanished"])
        self._collapsed = _Streak(**state["alike"])
        self._gradient_norms = list(state["gradients"])
        self._max_distance = state["best"]

    def _discriminator_wins(self, step: int, statistics: Mapping[str, float]) -> Alarm | None:
        limits, streak = self.limits, self._winning
        probability = statistics["probability/fake"]
        bad = step > limits.grace and probability < limits.min_probability
        certain = streak.extend(step, bad=bad, good=not bad, window=limits.window)
        message = (
            f"D wins: D(G(z)) has been below {limits.min_probability:g} since step {streak.since}, at "
            f"step {step} {probability:.2g}, and G's loss is {statistics['loss/generator']:.3g}"
        )
        return _alarm("D wins", step, streak.since, message, certain)

    def _discriminator_fails(self, step: int, statistics: Mapping[str, float]) -> Alarm | None:
        limits, streak = self.limits, self._failing
        loss = statistics["loss/discriminator"]
        bad = step > limits.grace and loss > limits.failing_loss
        certain = streak.extend(step, bad=bad, good=not bad, window=limits.window)
        message = (
            f"D fails: its loss has been above {limits.failing_loss:g} since step {streak.since}, at "
            f"step {step} {loss:.3g}; guessing gives 1.39"
        )
        return _alarm("D fails", step, streak.since, message, certain)

    def _vanishing_gradient(self, step: int, statistics: Mapping[str, float]) -> Alarm | None:
        limits, streak, norms = self.limits, self._vanished, self._gradient_norms
        norm = statistics["gradient/generator"]
        usual = median(norms) if len(norms) >= MIN_MEDIAN_NORMS else 0.0
        bad = step > limits.grace and norm < max(limits.gradient_share * usual, limits.min_gradient)
        certain = streak.extend(step, bad=bad, good=not bad, window=limits.window)
        if not bad:  # or the median would follow a vanishing gradient
            self._gradient_norms = [*norms, norm][-MEDIAN_NORMS:]
        message = (
            f"vanishing gradient: the norm of G's gradient is {norm:.2g} at step {step}; its median was "
            f"{usual:.3g} until step {streak.since}"
        )
        return _alarm("vanishing gradient", step, streak.since, message, certain)


@dataclass
class _Streak:
    """How long something has been bad without interruption."""

    since: int = 0
    """The last step at which it was good."""
    first: int | None = None
    """The first step at which it was bad."""
    warned: bool = False

    def extend(self, step: int, *, bad: bool, good: bool, window: int) -> bool | None:
        """Add a check. One that is neither bad nor good ends a streak but is no sign of health.

        Returns:
            True after the whole window, False once after half of it, None otherwise.
        """
        if good:
            self.since = step
        if not bad:
            self.first, self.warned = None, False
            return None
        if self.first is None:
            self.first = step
        if step - self.first >= window:
            return True
        if self.warned or 2 * (step - self.first) < window:
            return None
        self.warned = True
        return False


def _alarm(name: AlarmName, step: int, since: int, message: str, certain: bool | None) -> Alarm | None:
    return None if certain is None else Alarm(name, step, since, message, certain)
