"""The training loop: when to log, sample, score and save, when to go back, and when to stop."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from engine.budget import BudgetTimer, TrainingResult
from engine.checkpoint import DamagedCheckpointError, load, restore_best, save, save_as_best
from engine.errors import UserError
from engine.finite import DivergedError
from engine.run_logger import RunLogger
from engine.runs import STOPPED, checkpoints, step_of
from engine.signals import SignalHandler, exit_code, grace_period
from gan.config import Settings, mathematics
from gan.history import Course
from gan.monitor import Alarm, not_finite
from gan.rollback import Recovery, UnrecoverableError
from gan.trainer import Trainer
from gan.validation import RANKED_BY, Scorer
from images.tiles import GRID_COLUMNS, tile

Result = TypeVar("Result")


def train(
    trainer: Trainer, logger: RunLogger | None, course: Course, scorer: Scorer | None = None
) -> TrainingResult:
    """Train until the settings' steps or minutes are reached, or a signal asks for the end.

    At least one step is made; the last one is always sampled and saved. Curves hold means over the
    steps since the last point. Where there is a scorer, the networks with the best score are kept. After
    an alarm that is certain the run goes back to a checkpoint of before the trouble: see `gan.rollback`.

    Of several processes all make the steps, and end together. The first alone looks at them, decides, and
    writes; only it needs a logger and a scorer.

    Raises:
        UnrecoverableError: training went wrong after the last recovery too; the checkpoints that are
            left, and the best, are of before that.
        UserError: a checkpoint, a sample or a line could not be written.
        ProcessLostError: another process is gone.
    """
    return _Sitting(trainer, logger, course, scorer).train()


class _Sitting:
    """One call of the script, from the step at which it begins or goes on."""

    def __init__(
        self, trainer: Trainer, logger: RunLogger | None, course: Course, scorer: Scorer | None
    ) -> None:
        self._trainer = trainer
        self._world = trainer.world
        self._course = course
        self._scorer = scorer
        self._clock = BudgetTimer(trainer.settings, trainer.step_count)
        self._saved: Path | None = None
        # Only the first process comes to use it, and there it is.
        self._logger = cast(RunLogger, logger)

    def train(self) -> TrainingResult:
        trainer, clock, world = self._trainer, self._clock, self._world
        interrupt = SignalHandler((lambda: grace_period(clock.longest_step)) if world.launched else None)
        with interrupt, clock.progress_bar(trainer.step_count, shown=world.is_rank_zero) as self._bar:
            if trainer.step_count == 0:
                self._by_the_first(self._start)
            ending = False
            while not ending:
                trainer.step()
                self._bar.update()
                step = trainer.step_count
                # Neither a clock nor a signal reaches all processes at the same step.
                over, number = world.all_reduce_max(clock.is_exhausted(step), interrupt.received or 0)
                ending = bool(over or number)
                alarm = self._look(_Due(trainer.settings, step, last=ending))
                if alarm and alarm.certain:
                    self._go_back(alarm)
                    ending = False
                clock.end_step()
        saved = world.on_rank_zero(lambda: self._saved)
        assert saved is not None, "the last step is always saved"
        return TrainingResult(trainer.step_count, clock.seconds(), saved, exit_code(number))

    def _by_the_first(self, work: Callable[[], Result]) -> Result:
        """What the first process alone does: whatever looks at the training, or writes."""

        def writing() -> Result:
            try:
                return work()
            except OSError as error:
                raise UserError(
                    f"{self._logger.run} cannot be written to: {error.strerror or error}; "
                    "its checkpoints are as they were"
                ) from None

        return self._world.on_rank_zero(writing)

    def _start(self) -> None:
        self._sample()
        self._logger.log_histograms(0, self._trainer.networks())

    def _look(self, due: _Due) -> Alarm | None:
        """Do what is due after a step; what is wrong with the training, if anything."""
        return self._by_the_first(lambda: self._look_alone(due)) if due.anything else None

    def _look_alone(self, due: _Due) -> Alarm | None:
        step = self._trainer.step_count
        try:
            alarm = self._record(step, due)
        except DivergedError as error:
            alarm = not_finite(error, step)
        if alarm:
            self._tell(step, ("alarm: " if alarm.certain else "warning: ") + alarm.message)
        return alarm

    def _record(self, step: int, due: _Due) -> Alarm | None:
        """Log, sample, score and save what is due; but score and save nothing that went wrong."""
        trainer, course, logger = self._trainer, self._course, self._logger
        alarm: Alarm | None = None
        trainer.check_finite()
        values: dict[str, float] = {}
        if due.log:
            values = trainer.statistics() | {"speed/images_per_second": self._clock.images_per_second(step)}
            _show(self._bar, values, self._clock.expected_steps(step))
            alarm = course.watch.observe(step, values)
        if due.sample:
            samples = self._sample()
            # Out of turn it is not judged either, so that a run that goes on remembers the same.
            seen = course.watch.look(step, samples) if due.look else None
            alarm = alarm if alarm and alarm.certain else seen or alarm
        if alarm and alarm.certain:
            return alarm
        if due.score and self._scorer:
            scores = self._scorer.scores(trainer)
            course.best.add(step, scores[RANKED_BY])
            values |= scores
        if values:
            logger.log_scalars(step, values)
        if due.histogram:
            logger.log_histograms(step, trainer.networks())
        if due.save or course.best.step == step:
            logger.flush()
            state = trainer.state() | {"course": course.state(), "settings": mathematics(trainer.settings)}
            self._saved = save(logger.run, step, state, trainer.settings.keep)
            if course.best.step == step:
                save_as_best(self._saved)
        return alarm

    def _go_back(self, alarm: Alarm) -> None:
        """Go on from before the trouble, in a gentler form; or give up."""
        trainer, from_step = self._trainer, self._trainer.step_count
        recovery, state = self._by_the_first(lambda: self._way_back(alarm))
        trainer.go_back(recovery, state)
        self._course.go_back(recovery, state and state["course"])
        self._clock.roll_back(from_step - trainer.step_count)
        self._by_the_first(lambda: self._tell_of(recovery))

    def _way_back(self, alarm: Alarm) -> tuple[Recovery, dict[str, Any] | None]:
        """The recovery, and the state it goes on from; None for the start. What is newer is removed.

        Where no checkpoint that is kept is old enough, the best may be.
        """
        try:
            return self._found_way_back(alarm)
        except UnrecoverableError as error:
            left = checkpoints(self._logger.run)
            if left:  # the oldest stays even so: better one in trouble than none
                self._remove_newer(left, max(alarm.since, step_of(left[0])))
            self._logger.log_event(alarm.step, f"{STOPPED}{error}")
            raise

    def _found_way_back(self, alarm: Alarm) -> tuple[Recovery, dict[str, Any] | None]:
        state, run = None, self._logger.run
        saved = {step_of(path): path for path in checkpoints(run)}
        if all(step > alarm.since for step in saved) and (best := restore_best(run)):
            saved[step_of(best)] = best
        whole = dict(saved)
        while (recovery := self._course.recovery.next(alarm, whole)).from_step:
            self._saved = saved[recovery.from_step]
            try:
                state = load(self._saved, mapped=False)
                break
            except DamagedCheckpointError:
                del whole[recovery.from_step]
        self._remove_newer(saved.values(), recovery.from_step)
        return recovery, state

    def _remove_newer(self, paths: Iterable[Path], step: int) -> None:
        """Of these checkpoints, those of after a step: they may hold the trouble."""
        for path in paths:
            if step_of(path) > step:
                path.unlink()

    def _tell_of(self, recovery: Recovery) -> None:
        step = self._trainer.step_count
        self._logger.truncate(step)
        self._bar.n = step
        self._bar.refresh()
        self._tell(step, recovery.describe(self._trainer.settings.learning_rate))

    def _sample(self) -> NDArray[np.uint8]:
        """Write a sample grid; its images."""
        images = self._trainer.samples()
        grid = tile(images, GRID_COLUMNS)
        self._logger.log_samples(self._trainer.step_count, grid, self._trainer.settings.seed)
        return images

    def _tell(self, step: int, text: str) -> None:
        self._bar.write(f"step {step:,}: {text}")
        self._logger.log_event(step, text)


class _Due:
    """What is to be done after a step. The last one is always sampled and saved.

    It is not logged or scored out of turn: the means would be over fewer steps than a run that goes on has.
    """

    def __init__(self, settings: Settings, step: int, *, last: bool) -> None:
        self.log = step % settings.log_every == 0
        self.look = step % settings.sample_every == 0
        self.sample = last or self.look
        self.score = step % settings.score_every == 0
        self.histogram = step % settings.histogram_every == 0
        self.save = last or step % settings.checkpoint_every == 0
        self.anything = self.log or self.sample or self.score or self.histogram or self.save


def _show(bar: tqdm, values: dict[str, float], expected_steps: int | None) -> None:
    bar.total = expected_steps
    bar.set_postfix_str(
        f"D {values['loss/discriminator']:.3f}, G {values['loss/generator']:.3f}, "
        f"{values['speed/images_per_second']:.0f} images/s"
    )
