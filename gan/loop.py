"""The training loop of a GAN: `engine.loop` plus alarms and rollbacks."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.best import BestTracker
from engine.checkpoint import DamagedCheckpointError, load, restore_best
from engine.finite import DivergedError
from engine.loop import Due, TrainingLoop
from engine.run_logger import RunLogger
from engine.runs import STOPPED, checkpoint_path, checkpoints, report_write_errors, step_of
from engine.settings import settings_affecting_results
from gan import losses, milestones
from gan.config import RESUMABLE
from gan.monitor import Alarm, Limits, Monitor, not_finite
from gan.rollback import Rollback, UnrecoverableError
from gan.trainer import Trainer
from gan.validation import Validator
from images.tiles import GRID_COLUMNS, tile


class GanLoop(TrainingLoop):
    """Trains a GAN; after a certain alarm it returns to a checkpoint from before the trouble.

    Args:
        trainer: at the step at which the run starts or resumes.
        logger: the run's; only rank 0 needs one.
        real: some images of the data set, uint8 [N, 3, S, S], as many as there are samples, which the samples
            are compared with.
        validator: scores the networks; None for no scores.

    Attributes:
        fine_tuned: whether the run started from the networks of another.
    """

    trainer: Trainer
    score_label = "KID"
    _progress = ""

    def __init__(
        self,
        trainer: Trainer,
        logger: RunLogger | None,
        real: NDArray[np.uint8],
        validator: Validator | None = None,
    ) -> None:
        super().__init__(trainer, logger, BestTracker(), trainer.world)
        self.rollback = Rollback()
        self._real, self._validator = real, validator
        self.fine_tuned = False
        self.monitor = self._new_monitor()

    def due(self, step: int, *, stopping: bool) -> Due:
        """What has to be done after a step.

        The last step is always sampled. It is not logged or scored out of turn: a run can be extended.
        """
        settings = self.trainer.settings
        return Due(
            log=step % settings.log_every == 0,
            sample=stopping or step % settings.sample_every == 0,
            score=step % settings.score_every == 0,
            save=stopping or step % settings.checkpoint_every == 0,
        )

    def scores(self) -> dict[str, float]:
        """The validator's scores."""
        return self._validator.scores(self.trainer) if self._validator else {}

    def sample(self) -> NDArray[np.uint8]:
        """The run's 64 faces as a grid."""
        self._samples = self.trainer.samples()
        return tile(self._samples, GRID_COLUMNS)

    def progress(self, values: dict[str, float]) -> str:
        """Losses and speed."""
        if "loss/generator" not in values:
            return self._progress
        self._progress = (
            f"D {values['loss/discriminator']:.3f}, G {values['loss/generator']:.3f}, "
            f"{values['speed/images_per_second']:.0f} images/s"
        )
        return self._progress

    def forecast(self, step_seconds: float) -> str:
        """When to expect faces, unless the run started with some; see `gan.milestones`."""
        if self.fine_tuned:
            return super().forecast(step_seconds)
        step = self.trainer.step_count
        end = self.timer.last_step(step, step_seconds)
        return milestones.forecast(self.trainer.settings, step, end, step_seconds)

    def state(self) -> dict[str, Any]:
        """What a checkpoint contains."""
        return self.trainer.state() | {
            "course": {
                "best": self.best.state(),
                "watch": self.monitor.state(),
                "recovery": self.rollback.state(),
            },
            "settings": settings_affecting_results(self.trainer.settings, RESUMABLE),
            "loss": type(losses.adversarial_loss).__name__,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Resume from what `state` returned, the trainer included."""
        self.trainer.load_state(state)
        history = state["course"]
        self.best.load_state(history["best"])
        self.rollback = Rollback(**history["recovery"])
        self.trainer.apply_rollback(self.rollback)
        self.monitor = self._new_monitor()
        self.monitor.load_state(history["watch"])

    def record(self, due: Due) -> Alarm | None:
        """Log, sample, score and save what is due, and return a certain alarm, if there is one."""
        try:
            return super().record(due)
        except DivergedError as error:
            alarm = not_finite(error, self.trainer.step_count)
            self._report(alarm)
            return alarm

    def check(self, due: Due, values: dict[str, float]) -> Alarm | None:
        """Report an alarm or a warning, if there is one, and return it if it is certain."""
        step = self.trainer.step_count
        alarm = self.monitor.check_statistics(step, values) if due.log else None
        # Samples out of turn are not checked, so that a resumed run remembers the same.
        if step % self.trainer.settings.sample_every == 0 and not (alarm and alarm.certain):
            if alarm:
                self._report(alarm)
            alarm = self.monitor.check_samples(step, self._samples)
        if alarm:
            self._report(alarm)
        return alarm if alarm and alarm.certain else None

    def recover(self, problem: Alarm) -> None:
        """Return to a checkpoint from before the trouble, or give up.

        Raises:
            UnrecoverableError: training failed after the last rollback too; the checkpoints left predate
                that.
        """
        from_step = self.trainer.step_count
        self.rollback, state = self.world.on_rank_zero(lambda: self._find_rollback(problem))
        self.trainer.roll_back(self.rollback, state)
        self.best.roll_back(state and state["course"]["best"])
        self.monitor = self._new_monitor()
        if state is not None:
            self.monitor.load_state(state["course"]["watch"])
        self.timer.roll_back(from_step - self.trainer.step_count)
        self.world.on_rank_zero(self._report_rollback)
        # Or a process that is killed before the next checkpoint would repeat the trouble and the rollback.
        self.world.on_rank_zero(self.save)
        if state is None:
            self.world.on_rank_zero(self.log_start)

    def _new_monitor(self) -> Monitor:
        """A monitor with the patience that the current learning rate requires."""
        rate = self.trainer.settings.learning_rate * self.rollback.rate_factor
        cross_entropy = isinstance(losses.adversarial_loss, losses.CrossEntropy)
        return Monitor(self._real, Limits().at(rate), check_discriminator=cross_entropy)

    def _find_rollback(self, alarm: Alarm) -> tuple[Rollback, dict[str, Any] | None]:
        """The rollback and the state to resume from, None for the start. Newer checkpoints are removed."""
        run = self.logger.run
        try:
            return self._load_rollback(alarm)
        except UnrecoverableError as error:
            with report_write_errors(run):  # a rollback to the start saved it, and it has learned nothing
                checkpoint_path(run, 0).unlink(missing_ok=True)
            left = checkpoints(run)
            if left:  # the oldest stays in any case: a checkpoint in trouble is better than none
                _remove_newer(left, max(alarm.since, step_of(left[0])))
            self.logger.log_event(alarm.step, f"{STOPPED}{error}")
            raise

    def _load_rollback(self, alarm: Alarm) -> tuple[Rollback, dict[str, Any] | None]:
        state, run = None, self.logger.run
        saved = {step_of(path): path for path in checkpoints(run)}
        if all(step > alarm.since for step in saved) and (best := restore_best(run)):
            saved[step_of(best)] = best
        intact = dict(saved)
        while (rollback := self.rollback.next(alarm, intact)).from_step:
            self.saved = saved[rollback.from_step]
            try:
                state = load(self.saved, mapped=False)
                break
            except DamagedCheckpointError:
                del intact[rollback.from_step]
        _remove_newer(saved.values(), rollback.from_step)
        return rollback, state

    def _report_rollback(self) -> None:
        step = self.trainer.step_count
        self.logger.truncate(step)
        self.bar.update(step - self.bar.n)
        self.bar.refresh()
        self._report_event(step, self.rollback.describe(self.trainer.settings.learning_rate))

    def _report(self, alarm: Alarm) -> None:
        self._report_event(alarm.step, ("alarm: " if alarm.certain else "warning: ") + alarm.message)

    def _report_event(self, step: int, text: str) -> None:
        self.bar.write(f"step {step:,}: {text}")
        self.logger.log_event(step, text)


def _remove_newer(paths: Iterable[Path], step: int) -> None:
    """Remove the checkpoints from after a step: they may contain the trouble."""
    for path in paths:
        if step_of(path) > step:
            with report_write_errors(path):
                path.unlink()
