"""The training loop: when to log, sample and save, and when to stop."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from gan.checkpoint import save
from gan.config import Settings
from gan.errors import UserError
from gan.interrupt import Interrupt
from gan.recorder import Recorder
from gan.trainer import Trainer


@dataclass(frozen=True)
class Outcome:
    """How a sitting ended."""

    step: int
    seconds: float
    checkpoint: Path
    exit_code: int
    """0, or 128 plus the number of the signal that ended it."""


def train(trainer: Trainer, recorder: Recorder, run: Path) -> Outcome:
    """Train until the settings' steps or minutes are reached, or a signal asks for the end.

    At least one step is made; the last one is always sampled and saved. Curves hold means over the
    steps since the last point.

    Raises:
        DivergedError: a value was not finite; the newest checkpoint is from before that.
        UserError: a checkpoint, a sample or a line could not be written.
    """
    try:
        return _train(trainer, recorder, run)
    except OSError as error:
        raise UserError(
            f"{run} cannot be written to: {error.strerror or error}; its checkpoints are as they were"
        ) from None


def _train(trainer: Trainer, recorder: Recorder, run: Path) -> Outcome:
    settings = trainer.settings
    clock = _Clock(settings, trainer.step_count)
    with Interrupt() as interrupt, _progress(trainer, clock) as bar:
        if trainer.step_count == 0:
            _sample(trainer, recorder)
            recorder.histograms(0, trainer.networks())
        ending = False
        while not ending:
            trainer.step()
            step = trainer.step_count
            bar.update()
            ending = clock.over(step) or interrupt.received is not None
            due = _Due(settings, step, last=ending)
            if due.log or due.sample or due.histogram or due.save:
                trainer.check_finite()
            if due.log:
                values = trainer.statistics() | {"speed/images_per_second": clock.images_per_second(step)}
                recorder.scalars(step, values)
                _show(bar, values, clock.expected_steps(step))
            if due.sample:
                _sample(trainer, recorder)
            if due.histogram:
                recorder.histograms(step, trainer.networks())
            if due.save:
                recorder.flush()
                saved = save(run, step, trainer.state(), settings.keep)
        exit_code = interrupt.exit_code
    return Outcome(trainer.step_count, clock.seconds(), saved, exit_code)


class _Due:
    """What is to be done after a step. The last one is always sampled and saved.

    It is not logged out of turn: the means would be over fewer steps than a run that goes on has.
    """

    def __init__(self, settings: Settings, step: int, *, last: bool) -> None:
        self.log = step % settings.log_every == 0
        self.sample = last or step % settings.sample_every == 0
        self.histogram = step % settings.histogram_every == 0
        self.save = last or step % settings.checkpoint_every == 0


class _Clock:
    """Time and steps of this sitting against what the settings allow."""

    def __init__(self, settings: Settings, step: int) -> None:
        self._settings = settings
        self._start = time.monotonic()
        self._first_step = step
        self._marked_step, self._marked_time = step, self._start

    def seconds(self) -> float:
        return time.monotonic() - self._start

    def over(self, step: int) -> bool:
        steps, minutes = self._settings.steps, self._settings.minutes
        return (steps is not None and step >= steps) or (
            minutes is not None and self.seconds() >= 60 * minutes
        )

    def images_per_second(self, step: int) -> float:
        """Since the last call, everything included."""
        now = time.monotonic()
        rate = (step - self._marked_step) * self._settings.batch_size / max(now - self._marked_time, 1e-9)
        self._marked_step, self._marked_time = step, now
        return rate

    def expected_steps(self, step: int) -> int | None:
        """The step at which the run will end, as far as can be told; None before the first step."""
        steps, minutes = self._settings.steps, self._settings.minutes
        if minutes is None:
            return steps
        if step == self._first_step:
            return None
        per_step = self.seconds() / (step - self._first_step)
        expected = self._first_step + round(60 * minutes / per_step)
        return expected if steps is None else min(expected, steps)


def _progress(trainer: Trainer, clock: _Clock) -> tqdm:
    return tqdm(
        initial=trainer.step_count,
        total=clock.expected_steps(trainer.step_count),
        desc="training",
        unit=" steps",
        dynamic_ncols=True,
        smoothing=0.05,
    )


def _show(bar: tqdm, values: dict[str, float], expected_steps: int | None) -> None:
    bar.total = expected_steps
    bar.set_postfix_str(
        f"D {values['loss/discriminator']:.3f}, G {values['loss/generator']:.3f}, "
        f"{values['speed/images_per_second']:.0f} images/s"
    )


def _sample(trainer: Trainer, recorder: Recorder) -> None:
    recorder.sample_grid(trainer.step_count, trainer.samples(), trainer.settings.seed)
