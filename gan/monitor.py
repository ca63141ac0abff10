"""What can go wrong with a training, and how it is seen.

Five alarms, each with its number in `Limits`: a value that is not finite (`FiniteCheck`), D winning for
good or failing for good, G's gradient gone, and samples becoming one (`Watch`). What is done about them:
`gan.rollback`.
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

EXIT_CODE = 3
"""Of a script whose training went wrong beyond repair."""

Kind = Literal["not finite", "D wins", "D fails", "gradient gone", "samples one"]


@dataclass(frozen=True)
class Alarm:
    """Something wrong with a training."""

    kind: Kind
    step: int
    """At which it was seen."""
    since: int
    """The last step known to be good: a checkpoint up to here was written before the trouble."""
    message: str
    """One line with the numbers seen."""
    certain: bool
    """False for a warning, at half the time that a certain alarm takes."""


@dataclass(frozen=True)
class Limits:
    """The numbers that define the alarms; steps are counted at a learning rate of 1e-4 or more.

    They keep to the quiet side, as a false alarm costs a run more than one that comes late. Beside each
    stands the extreme of healthy runs on photos of faces, of 450 to 1,200 steps at 32 and 48 px: batch,
    spectral and no norm in D, with and without augmentation, and `--plain` (samples of 14 runs, losses
    and gradients of 8 of them).
    """

    grace: int = 500
    """Steps before anything but a value that is not finite counts. At the start D tells noise from faces
    with ease and all samples are one grey or one blurred face: the healthy runs' had begun to differ,
    or their D had lost its lead, by step 450 at the latest."""
    window: int = 300
    """Steps for which D must win or fail, or G's gradient be gone, without a break. In one healthy run D
    won for 10 steps, and in none for longer."""
    believed: float = 0.005
    """D wins while its mean belief in generated images, D(G(z)), is below. As -log is convex, G's loss is
    then over 5.3 = -log 0.005 against the same D, and at most one image in 100 is taken for real. D's own
    loss would not tell: it holds what real faces and negatives cost as well. In 10 healthy runs of 1,500
    to 3,500 steps (48 and 96 px, one `--plain`, one with negatives) no mean of ten steps after the grace
    was under 0.03."""
    failing_loss: float = 5.0
    """[nats] D fails while its loss is above: one that tells nothing apart has 1.39 = log 4, so this one
    is sure of what is wrong, as when updates are too large. Healthy losses, means of ten steps, were
    at most 1.8."""
    gradient_share: float = 0.01
    """G's gradient is gone while its norm is below this share of its own earlier median. No healthy one
    fell under a tenth."""
    gradient: float = 1e-7
    """Or below this: the resolution of float32 beside a weight of 1."""
    look_window: int = 200
    """Steps from the first look at samples that are one to the last, at least two looks in all: an
    averaged generator changes with a half-life of about 100 steps, so one look can be a passing state."""
    one_share: float = 0.02
    """Samples are one while their mean pairwise distance is below this share of that of real images. The
    lowest healthy one was 0.04, of a `--plain` run that had yet to leave its first blurred face."""
    fallen_share: float = 0.1
    """Or while it is below this share of the real images', in a set that was once more diverse,"""
    fallen_from: float = 0.3
    """and below this share of its own best. The deepest healthy fall was to half of the best."""
    late: int = 3000
    """Or, from this step on, while it never was above"""
    late_share: float = 0.1
    """this share of the real images': it should have become diverse. The healthy runs that went as far as
    step 600 were by then."""

    def at(self, learning_rate: float) -> Limits:
        """The same with all steps stretched for a learning rate below 1e-4, at which each does less."""
        slower = max(1.0, 1e-4 / learning_rate)
        steps = ("grace", "window", "look_window", "late")
        return replace(self, **{name: round(getattr(self, name) * slower) for name in steps})


REMEMBERED = 100
"""Norms of G's gradient from which the median is taken, one for each log point."""
FEWEST_REMEMBERED = 10


def not_finite(error: DivergedError, step: int) -> Alarm:
    """The alarm of a value that was not finite, found at a step.

    Every checkpoint is of before that: none is written that holds such a value.
    """
    return Alarm("not finite", step, step, str(error), certain=True)


class Watch:
    """Looks at what a training logs and samples, and says when it goes wrong for good.

    While a trouble lasts without a break, it is told of once as a warning, when half of its window is
    over, and as certain at every look from the window's end on. All that is remembered is in `state`, so
    a resumed training is judged as if it had never stopped. Values must be finite: see `FiniteCheck`.

    Args:
        real: images of the data set, uint8 [N, 3, S, S], about as many as there are samples; at least 2.
        limits: the numbers that define the alarms.
    """

    def __init__(self, real: NDArray[np.uint8], limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._real_distance = float(pairwise_distances(real).mean())
        self._winning = _Spell()
        self._failing = _Spell()
        self._vanished = _Spell()
        self._alike = _Spell()
        self._gradients: list[float] = []
        self._best = 0.0

    def observe(self, step: int, statistics: Mapping[str, float]) -> Alarm | None:
        """Look at a log point.

        Args:
            step: steps done; more than at the last call.
            statistics: means since the last point, by their names in `gan.training_step.STATISTICS`.

        Returns:
            What is wrong, a certain alarm before a warning; None if nothing is, or nothing new.
        """
        looks = (self._discriminator_wins, self._discriminator_fails, self._gradient_gone)
        found = [look(step, statistics) for look in looks]
        return max((alarm for alarm in found if alarm), key=lambda alarm: alarm.certain, default=None)

    def look(self, step: int, samples: NDArray[np.uint8]) -> Alarm | None:
        """Look at the run's samples, uint8 [N, 3, S, S], always of the same latent vectors.

        Returns:
            As `observe`.
        """
        limits, real = self.limits, self._real_distance
        distance = float(pairwise_distances(samples).mean())
        if step < limits.grace:
            return None
        one = distance < limits.one_share * real
        fallen = distance < min(limits.fallen_share * real, limits.fallen_from * self._best)
        self._best = max(self._best, distance)
        never = step >= limits.late and self._best < limits.late_share * real
        # Half way down to the alarm a set may be on its way to one already.
        sound = not (one or fallen or never) and 2 * distance >= self._best
        certain = self._alike.extend(step, bad=one or fallen or never, good=sound, window=limits.look_window)
        message = (
            f"samples are becoming one: at step {step} their mean distance is {distance:.4f}, that of real "
            f"images {real:.4f} and their own best {self._best:.4f}"
        )
        # One that never was diverse has no good time to go back to.
        since = 0 if never else self._alike.since
        return _alarm("samples one", step, since, message, certain)

    def state(self) -> dict[str, Any]:
        """All that it remembers, as numbers, lists and dicts."""
        return {
            "winning": asdict(self._winning),
            "failing": asdict(self._failing),
            "vanished": asdict(self._vanished),
            "alike": asdict(self._alike),
            "gradients": list(self._gradients),
            "best": self._best,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        self._winning = _Spell(**state["winning"])
        self._failing = _Spell(**state["failing"])
        self._vanished = _Spell(**state["vanished"])
        self._alike = _Spell(**state["alike"])
        self._gradients = list(state["gradients"])
        self._best = state["best"]

    def _discriminator_wins(self, step: int, statistics: Mapping[str, float]) -> Alarm | None:
        limits, spell = self.limits, self._winning
        believed = statistics["probability/fake"]
        bad = step > limits.grace and believed < limits.believed
        certain = spell.extend(step, bad=bad, good=not bad, window=limits.window)
        message = (
            f"D wins: its belief in generated images is under {limits.believed:g} since step {spell.since}, "
            f"at step {step} {believed:.2g}, and G's loss is {statistics['loss/generator']:.3g}"
        )
        return _alarm("D wins", step, spell.since, message, certain)

    def _discriminator_fails(self, step: int, statistics: Mapping[str, float]) -> Alarm | None:
        limits, spell = self.limits, self._failing
        loss = statistics["loss/discriminator"]
        bad = step > limits.grace and loss > limits.failing_loss
        certain = spell.extend(step, bad=bad, good=not bad, window=limits.window)
        message = (
            f"D fails: its loss is over {limits.failing_loss:g} since step {spell.since}, at step {step} "
            f"{loss:.3g}, where one that knows nothing has 1.39"
        )
        return _alarm("D fails", step, spell.since, message, certain)

    def _gradient_gone(self, step: int, statistics: Mapping[str, float]) -> Alarm | None:
        limits, spell, norms = self.limits, self._vanished, self._gradients
        norm = statistics["gradient/generator"]
        usual = median(norms) if len(norms) >= FEWEST_REMEMBERED else 0.0
        bad = step > limits.grace and norm < max(limits.gradient_share * usual, limits.gradient)
        certain = spell.extend(step, bad=bad, good=not bad, window=limits.window)
        if not bad:  # or the median would follow a gradient that is gone
            self._gradients = [*norms, norm][-REMEMBERED:]
        message = (
            f"G's gradient is gone: its norm is {norm:.2g} at step {step}, its median was {usual:.3g} until "
            f"step {spell.since}"
        )
        return _alarm("gradient gone", step, spell.since, message, certain)


@dataclass
class _Spell:
    """How long something has been bad without a break."""

    since: int = 0
    """The last step at which it was good."""
    first: int | None = None
    """The first step at which it was bad."""
    warned: bool = False

    def extend(self, step: int, *, bad: bool, good: bool, window: int) -> bool | None:
        """Take in one more look. One that is neither bad nor good ends a spell but is no sign of health.

        Returns:
            Whether it has been bad for the whole window, or for half of it; None for neither, or where
            the latter has been told before.
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


def _alarm(kind: Kind, step: int, since: int, message: str, certain: bool | None) -> Alarm | None:
    return None if certain is None else Alarm(kind, step, since, message, certain)
