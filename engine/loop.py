"""The loop of every run: when to log, sample, score and save, and when to stop.

What a step computes is up to the `Trainer`; the loop only counts steps.
"""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.best import BestTracker
from engine.budget import BudgetTimer, SpeedTest, TrainingResult, clock_time, format_seconds
from engine.checkpoint import save, save_as_best
from engine.distributed import World
from engine.errors import UserError
from engine.finite import DivergedError
from engine.progress import ProgressBar
from engine.run_logger import RunLogger
from engine.runs import INTERRUPTED, checkpoint_path
from engine.settings import TrainingSettings
from engine.signals import SignalHandler, exit_code, grace_period, label


class Trainer(Protocol):
    """What the loop trains, step by step.

    Everything that a step draws depends on the seed and `step_count` alone, so an interrupted run resumes bit
    for bit; `state` contains the rest.

    Attributes:
        settings: the run's.
        step_count: steps done so far.
        ranked_by: the score that selects the best networks; lower is better.
        weight_keys: the entries of `state` that are weights, which must be finite to be saved.
    """

    settings: TrainingSettings
    step_count: int
    ranked_by: str
    weight_keys: tuple[str, ...]

    def step(self) -> None:
        """Make one update, and count it."""

    def check_finite(self) -> None:
        """Raise `engine.finite.DivergedError` if a loss or gradient of any step so far was not finite."""

    def statistics(self) -> dict[str, float]:
        """Values to log: means over the steps since the last call."""

    def networks(self) -> Mapping[str, nn.Module | Mapping[str, Tensor]]:
        """Networks, or named tensors, to show as histograms."""

    def state(self) -> dict[str, Any]:
        """Nested dicts and lists of tensors, numbers and strings, from which `load_state` resumes."""

    def load_state(self, state: dict[str, Any]) -> None:
        """Resume from what `state` returned after the step `state["step"]`."""


@dataclass(frozen=True)
class Due:
    """What has to be done after a step."""

    log: bool
    sample: bool
    score: bool
    save: bool

    @property
    def anything(self) -> bool:
        """Whether there is anything to do."""
        return self.log or self.sample or self.score or self.save


class TrainingLoop:
    """Trains until the settings' steps or minutes are reached, or a signal arrives.

    At least one step is made, and the last step is saved. The checkpoint with the best score is kept. Of
    several processes all make the steps and stop together; rank 0 alone evaluates, decides and writes, and
    only it needs a logger.

    A subclass adds what its networks need: `scores`, `sample`, `progress`, and, to recover from
    problems, `check` and `recover`.

    Args:
        trainer: at the step at which the run starts or resumes.
        logger: the run's.
        best: knows which step so far had the best score.
        world: the processes that train together.

    Attributes:
        score_label: name of the score that ranks the steps, for people.
    """

    score_label: str
    _score = ""

    def __init__(
        self, trainer: Trainer, logger: RunLogger | None, best: BestTracker, world: World | None = None
    ) -> None:
        self.trainer = trainer
        self.logger = cast(RunLogger, logger)
        self.best = best
        self.world = world or World()
        self.saved: Path | None = None

    def train(self) -> TrainingResult:
        """Train, and return how it ended.

        Raises:
            DivergedError: a loss, gradient or weight was not finite; the checkpoints predate that.
            UserError: a checkpoint, a picture or a line could not be written.
            ProcessLostError: another process is gone.
        """
        trainer, world = self.trainer, self.world
        self.timer = timer = BudgetTimer(trainer.settings, trainer.step_count)
        grace = (lambda: grace_period(timer.longest_step)) if world.launched else None
        signals = SignalHandler(grace, self._acknowledge)
        with signals, timer.progress_bar(trainer.step_count, shown=world.is_rank_zero) as self.bar:
            speed = SpeedTest(self._synchronize)
            if trainer.step_count == 0:
                self.world.on_rank_zero(self.log_start)
            stopping = False
            while not stopping:
                trainer.step()
                self.bar.update()
                # Neither the time nor a signal reaches all processes at the same step.
                over, number = world.all_reduce_max(
                    timer.is_exhausted(trainer.step_count), signals.received or 0
                )
                stopping = bool(over or number)
                due = self.due(trainer.step_count, stopping=stopping)
                problem = self.world.on_rank_zero(lambda: self.record(due)) if due.anything else None  # noqa: B023
                if problem is not None:
                    self.recover(problem)
                    stopping = False
                timer.end_step()
                step_seconds = speed.end_step() if world.is_rank_zero and not stopping else None
                if step_seconds is not None:
                    self.bar.write(self.forecast(step_seconds), file=sys.stderr)
        if number:
            world.on_rank_zero(lambda: self._log_interruption(number))
        saved = world.on_rank_zero(lambda: self.saved)
        assert saved is not None, "the last step is always saved"
        return TrainingResult(trainer.step_count, timer.seconds(), saved, exit_code(number))

    def due(self, step: int, *, stopping: bool) -> Due:
        """What has to be done after a step.

        A run that stops early only saves, so that it has the same curves as one that never stopped.
        """
        settings = self.trainer.settings
        final = step == settings.steps
        return Due(
            log=step % settings.log_every == 0,
            sample=final or step % settings.sample_every == 0,
            score=final or step % settings.score_every == 0,
            save=stopping or step % settings.checkpoint_every == 0,
        )

    def scores(self) -> dict[str, float]:
        """The scores of the current networks; none if they are not scored."""
        return {}

    def sample(self) -> NDArray[np.uint8]:
        """A tiled picture of what the networks do now, uint8 [3, H, W]."""
        raise NotImplementedError

    def progress(self, values: dict[str, float]) -> str:
        """What the progress bar shows of logged values, beside the score."""
        raise NotImplementedError

    def forecast(self, step_seconds: float) -> str:
        """A line about what to expect when, with the seconds per step measured in the first steps."""
        step, settings = self.trainer.step_count, self.trainer.settings

        def when(name: str, then: int) -> str:
            return f"{name} at step {then:,} (about {clock_time((then - step) * step_seconds)})"

        end = self.timer.last_step(step, step_seconds)
        events = [when("the end", end)] if end else []
        next_score = (step // settings.score_every + 1) * settings.score_every
        if self.best.step is None and (end is None or next_score < end):
            events.insert(0, when("the first score", next_score))
        return "; ".join([f"{format_seconds(step_seconds)} a step", *events])

    def state(self) -> dict[str, Any]:
        """What a checkpoint contains."""
        return self.trainer.state() | {"best": self.best.state()}

    def check(self, due: Due, values: dict[str, float]) -> Any:
        """A problem to recover from, or None; called before anything is scored or saved."""

    def recover(self, problem: Any) -> None:
        """Return the trainer to its state before the problem."""
        raise NotImplementedError

    def log_start(self) -> None:
        """Write what a run shows of step 0."""
        self.log_samples()
        self.logger.log_histograms(0, self.trainer.networks())

    def log_samples(self) -> None:
        """Write `sample` into the run."""
        self.logger.log_samples(self.trainer.step_count, self.sample(), self.trainer.settings.seed)

    def record(self, due: Due) -> Any:
        """Log, sample, score and save what is due.

        Returns:
            The problem that `check` found, if any; then nothing was written but a picture.
        """
        trainer, logger, step = self.trainer, self.logger, self.trainer.step_count
        values: dict[str, float] = {}
        trainer.check_finite()
        if due.log:
            rate = self.timer.images_per_second(step)
            values = trainer.statistics() | {"speed/images_per_second": rate}
        if due.sample:
            self.log_samples()
        problem = self.check(due, values)
        if problem is not None:
            return problem
        best_before = self.best.state()
        scores = self.scores() if due.score else {}
        is_best = bool(scores) and self.best.add(step, scores[trainer.ranked_by])
        values |= scores
        if values:
            logger.log_scalars(step, values)
            self.bar.total = self.timer.expected_steps(step)
            self._show_progress(values, scored=bool(scores))
        if step % trainer.settings.checkpoint_every == 0:
            logger.log_histograms(step, trainer.networks())
        if due.save or is_best:
            logger.flush()
            try:
                self.save()
            except DivergedError:
                self.best.load_state(best_before)  # or a checkpoint that was never written would be the best
                raise
            if is_best:
                save_as_best(checkpoint_path(logger.run, step))
        return None

    def save(self) -> None:
        """Write a checkpoint."""
        trainer, run = self.trainer, self.logger.run
        self.saved = save(run, trainer.step_count, self.state(), trainer.settings.keep, trainer.weight_keys)

    def _show_progress(self, values: dict[str, float], *, scored: bool) -> None:
        """Show logged values in the bar, or write a line of a log if there is a score among them."""
        if scored:
            score = f"{self.score_label} {values[self.trainer.ranked_by]:.3g}"
            best = f", best at step {self.best.step:,}" if self.best.step else ""
            self._score = " ".join(filter(None, [score, self.best.trend()])) + best
        text = ", ".join(filter(None, [self._score, self.progress(values)]))
        self.bar.set_postfix_str(text, refresh=not (scored and self.bar.is_log))
        if scored:
            self.bar.log_line()

    def _synchronize(self) -> None:
        """Wait for a GPU. A value that is not finite is reported when it is recorded, to all processes."""
        with contextlib.suppress(DivergedError):
            self.trainer.check_finite()

    def _log_interruption(self, number: int) -> None:
        with contextlib.suppress(UserError):  # such as a full disk: the run is saved already
            self.logger.log_event(self.trainer.step_count, f"{INTERRUPTED}{signal.Signals(number).name}")

    def _acknowledge(self, received: signal.Signals) -> None:
        """Report a signal; called from another thread while a step is made or recorded."""
        again = "" if self.world.launched else "; Ctrl-C now exits at once, without saving"
        text = f"{label(received)}: finishing this step, then saving{again}"
        ProgressBar.write(text, file=sys.stderr)
