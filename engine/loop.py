"""The engine of every training of a network that looks at faces: when to log, show, score, save and stop.

What is learnt is the business of a `Learner`; the engine knows only its steps. It stands on the same run
folders, logger, checkpoints and signals as the GAN's loop, and differs from that in having one network
and a score to rank by, and no way back from trouble: a value that is not finite ends it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from engine.best import BestTracker
from engine.budget import BudgetTimer, TrainingResult
from engine.checkpoint import save, save_as_best
from engine.errors import UserError
from engine.run_logger import RunLogger
from engine.signals import SignalHandler, exit_code
from faces.settings import TrainingSettings


class Learner(Protocol):
    """Something that learns in steps.

    All that a step draws follows from the seed and `step_count`, so that a run which was stopped goes on
    bit for bit; `state` holds the rest.

    Attributes:
        settings: of the run.
        step_count: steps made so far.
        ranked_by: the name among `scores` of the one that picks the best network; less is better.
        weights: the names in `state` under which weights are, which must be finite to be saved.
    """

    settings: TrainingSettings
    step_count: int
    ranked_by: str
    weights: tuple[str, ...]

    def step(self) -> None:
        """Make one update, and count it."""

    def check_finite(self) -> None:
        """Raise `engine.finite.DivergedError` if a loss or gradient of any step so far was not finite."""

    def statistics(self) -> dict[str, float]:
        """What to log: means over the steps since this was last asked for."""

    def scores(self) -> dict[str, float]:
        """How good the network is on images that it is not trained on.

        It leaves no trace in the state but what a schedule learns from the scores.
        """

    def picture(self) -> NDArray[np.uint8]:
        """What it makes of some of those images, tiled: uint8 [3, H, W]; leaves no trace either."""

    def networks(self) -> Mapping[str, nn.Module | Mapping[str, Tensor]]:
        """The networks whose weights are shown as histograms, by name, and tensors to show likewise."""

    def state(self) -> dict[str, Any]:
        """Nested dicts and lists of tensors, numbers and strings, from which `load_state` goes on."""

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave, after the step that `state["step"]` tells."""


def train(learner: Learner, logger: RunLogger, best: BestTracker) -> TrainingResult:
    """Train until the settings' steps or minutes are reached, or a signal asks for the end.

    At least one step is made. The last one is saved; the run's very last is also scored and shown. The
    network of the step with the best score is kept as the run's best.

    Args:
        learner: at the step at which the run begins or goes on.
        logger: of the run.
        best: which of the steps so far had the best score.

    Raises:
        DivergedError: a loss, gradient or weight was not finite; the checkpoints are of before that.
        UserError: a checkpoint, a picture or a line could not be written.
    """
    try:
        return _Sitting(learner, logger, best).train()
    except OSError as error:
        raise UserError(
            f"{logger.run} cannot be written to: {error.strerror or error}; its checkpoints are as they were"
        ) from None


class _Sitting:
    """One call of the script, from the step at which it begins or goes on."""

    def __init__(self, learner: Learner, logger: RunLogger, best: BestTracker) -> None:
        self._learner, self._logger, self._best = learner, logger, best
        self._clock = BudgetTimer(learner.settings, learner.step_count)
        self._saved: Path | None = None
        self._shown = ""

    def train(self) -> TrainingResult:
        learner, clock = self._learner, self._clock
        with SignalHandler() as interrupt, clock.progress_bar(learner.step_count) as bar:
            if learner.step_count == 0:
                self._show_picture()
                self._logger.log_histograms(0, learner.networks())
            ending = False
            while not ending:
                learner.step()
                bar.update()
                ending = clock.is_exhausted(learner.step_count) or interrupt.received is not None
                self._record(bar, ending=ending)
        assert self._saved is not None, "the last step is always saved"
        return TrainingResult(learner.step_count, clock.seconds(), self._saved, exit_code(interrupt.received))

    def _record(self, bar: tqdm, *, ending: bool) -> None:
        """Log, show, score and save what is due after a step.

        Nothing but the checkpoint is made out of turn where a sitting ends early, so that a run that goes
        on has the same curves as one that was never stopped.
        """
        learner, logger = self._learner, self._logger
        settings, step = learner.settings, learner.step_count
        last = step == settings.steps
        values: dict[str, float] = {}
        score_due = last or step % settings.score_every == 0
        save_due = ending or step % settings.checkpoint_every == 0
        if step % settings.log_every == 0:
            learner.check_finite()
            rate = self._clock.images_per_second(step)
            values = learner.statistics() | {"speed/images_per_second": rate}
        if score_due:
            learner.check_finite()
            scores = learner.scores()
            self._best.add(step, scores[learner.ranked_by])
            self._shown = f", {learner.ranked_by} {scores[learner.ranked_by]:.4f}"
            values |= scores
        if values:
            logger.log_scalars(step, values)
            bar.total = self._clock.expected_steps(step)
            if "loss/training" in values:
                bar.set_postfix_str(f"loss {values['loss/training']:.4g}{self._shown}")
        if last or step % settings.sample_every == 0:
            self._show_picture()
        if step % settings.histogram_every == 0:
            logger.log_histograms(step, learner.networks())
        best_now = score_due and self._best.step == step
        if save_due or best_now:
            learner.check_finite()
            logger.flush()
            state = learner.state() | {"best": self._best.state()}
            self._saved = save(logger.run, step, state, settings.keep, learner.weights)
            if best_now:
                save_as_best(self._saved)

    def _show_picture(self) -> None:
        learner = self._learner
        self._logger.log_samples(learner.step_count, learner.picture(), learner.settings.seed)
