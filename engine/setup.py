"""From what a user asks for to a run that is trained: new, resumed, or begun from another's network."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from engine.best import BestTracker
from engine.budget import TrainingResult
from engine.checkpoint import load_newest, load_newest_and_report, save_as_best
from engine.cli import NEWEST, RunOptions, parse_arguments, settings_of
from engine.device import choose_device, describe_environment, print_environment_changes
from engine.errors import UserError
from engine.finite import DivergedError
from engine.lock import locked
from engine.loop import Learner, train
from engine.run_logger import RunLogger
from engine.runs import (
    DEFAULT_KIND,
    RunInfo,
    create_run,
    find_run,
    read_info,
    report_write_errors,
    write_info,
)
from engine.settings import changed, flag, from_json
from faces.data import TrainingData
from faces.settings import FREE, TrainingSettings
from gan.monitor import EXIT_CODE
from images.dataset import write_skipped

Settings = TypeVar("Settings", bound=TrainingSettings)


@dataclass(frozen=True)
class Kind(Generic[Settings]):
    """One kind of training.

    Attributes:
        name: as config.json has it.
        script: that trains it, for messages.
        settings: class of its settings.
        request: that class with a `gan.request.RunOptions`, for the command line.
        check: raises `UserError` for a setting that is out of its range.
        network: the settings that a network's weights depend on.
        absolute: gives the settings with the paths in them, but for the folder's, from the root: a run may be
            resumed from another working directory, and by the words that it was begun with.
    """

    name: str
    script: str
    settings: type[Settings]
    request: type[RunOptions]
    check: Callable[[Settings], None]
    network: tuple[str, ...]
    absolute: Callable[[Settings], Settings]

    def read_info(self, run: Path) -> RunInfo:
        """A run's config.json. Raises `UserError` where it is none of this kind."""
        return read_info(run, self.name, self._settings_from)

    def trained_settings(self, run: Path) -> Settings:
        """Those with which a run's newest checkpoint was made, whatever config.json was edited into since.

        Raises:
            UserError: the run has no usable checkpoint, or one of another kind.
        """
        path, state, _ = load_newest(run)
        if state.get("kind", DEFAULT_KIND) != self.name:
            raise UserError(f"{path} is of another kind: {state.get('kind', DEFAULT_KIND)}, not {self.name}")
        return self._settings_from(state["settings"])

    def _settings_from(self, values: dict[str, Any]) -> Settings:
        settings = from_json(values, self.settings)
        self.check(settings)
        return settings

    def find_run(self, run: str | Path | None, output: Path) -> Path:
        """A run by its folder, name or number; see `engine.runs.find_run`."""
        return find_run(run, output, self.script)


@dataclass(frozen=True)
class Plan(Generic[Settings]):
    """What is to be done, decided but not begun."""

    kind: Kind[Settings]
    settings: Settings
    device: torch.device
    resumed: Path | None = None
    """The run to go on with."""
    source: Path | None = None
    """The run whose network a new one begins with."""
    force: bool = False

    def source_state(self) -> tuple[Path, dict[str, Any]] | None:
        """The newest whole checkpoint of the run begun from, if any, and what it holds."""
        return load_newest_and_report(self.source) if self.source else None


def make_plan(words: Sequence[str], kind: Kind[Settings]) -> Plan[Settings]:
    """Read a command line. What it leaves open is taken from the run it names.

    Raises:
        UserError: words that do not fit, settings out of range, no such run or device, a run without a usable
            checkpoint, or one whose mathematics or network would change.
        SystemExit: with code 0, after --help.
    """
    request = parse_arguments(words, kind.request)
    named = request.resume or request.init_from
    output = settings_of(request, kind.settings).output
    run = kind.find_run(None if named == NEWEST else named, output) if named else None
    before = kind.read_info(run).settings if run else kind.settings()
    trained = kind.trained_settings(run) if run else before
    if run and request.init_from:
        before = replace(kind.settings(), **{name: getattr(trained, name) for name in kind.network})
    settings = kind.absolute(settings_of(parse_arguments(words, kind.request, before), kind.settings))
    if settings.folder is not None:
        settings = replace(settings, folder=str(Path(settings.folder).absolute()))
    if run:
        # First, as another network makes settings wrong of which the user said nothing.
        fixed = kind.network if request.init_from else (*kind.network, "optimizer")
        _same_network(run, trained, settings, fixed)
    kind.check(settings)
    if run and request.resume and not request.force:
        _same_mathematics(run, trained, settings)
    return Plan(
        kind,
        settings,
        choose_device(settings.device),
        resumed=run if request.resume else None,
        source=run if request.init_from else None,
        force=request.force,
    )


def check_data(plan: Plan[Any], digest: str, count: int) -> None:
    """Raise `UserError` where a resumed run was trained on other data than those of this digest."""
    if plan.resumed is None or plan.force:
        return
    before = plan.kind.read_info(plan.resumed).data
    if before.get("digest") != digest:
        raise UserError(
            f"the data have changed since {plan.resumed} was trained on them ({before.get('images')} images "
            f"then, {count} now): restore them, begin a new run with --init-from, or insist with --force"
        )


@contextmanager
def open_run(
    plan: Plan[Any], learner: Learner, best: BestTracker, name: str, facts: dict[str, Any]
) -> Iterator[RunLogger]:
    """Have a run to oneself while the block runs, and a logger that is closed at its end.

    The run is a new folder, or the resumed one. Learner and best take over the state of the latter only
    here: until the folder is locked, another process may train on in it.

    Args:
        plan: what is to be done.
        learner: at step 0.
        best: that knows of no score yet.
        name: of a new run.
        facts: of the data, for config.json: at least `digest` and `images`.

    Raises:
        UserError: another process is training in the folder, it cannot be written to, or the resumed
            run has no usable checkpoint or is already at its end.
    """
    settings = plan.settings
    run = plan.resumed or create_run(settings.output, settings.name or name, settings.image_size)
    with locked(run):
        if plan.resumed:
            _go_on(plan, learner, best)
        with report_write_errors(run):
            logger = RunLogger(run, learner.step_count)
        with closing(logger):
            with report_write_errors(run):
                write_info(run, RunInfo(settings, facts, describe_environment(plan.device), plan.kind.name))
            yield logger


def run_training(
    plan: Plan[Any],
    learner: Learner,
    data: TrainingData,
    facts: dict[str, Any],
    report: Callable[[Path, BestTracker], Sequence[str]],
) -> int:
    """Train in a run's folder to the end, and print where it goes and what came of it.

    Args:
        plan: what is to be done.
        learner: at step 0; see `open_run`.
        data: that it learns from.
        facts: of the data, for config.json.
        report: of a run that has a best step, its folder and that step, gives lines that tell how good it is.

    Returns:
        The script's exit code.

    Raises:
        UserError: as `open_run` and `engine.loop.train`.
    """
    best = BestTracker(smoothed=1)
    with open_run(plan, learner, best, data.folder.name, facts) as logger:
        run = logger.run
        with report_write_errors(run):
            write_skipped(run / "skipped.txt", data.skipped)
        print(f"writing to {run}; to watch: tensorboard --logdir {plan.settings.output}")
        try:
            outcome = train(learner, logger, best)
        except DivergedError as seen:
            print(f"stopped: {seen}; what {run}/checkpoints holds is from before that", file=sys.stderr)
            return EXIT_CODE
    print("\n".join(_told_of(plan, run, outcome, best)))
    if best.step is not None:
        print("\n".join(report(run, best)))
    return outcome.exit_code


def network_summary(network: nn.Module) -> str:
    """A network and its size, for --dry-run."""
    weights = [weight.numel() for weight in network.parameters()]
    trained = [weight.numel() for weight in network.parameters() if weight.requires_grad]
    return f"{network}\n{sum(weights):,} parameters, {sum(trained):,} of them trained"


def _told_of(plan: Plan[Any], run: Path, outcome: TrainingResult, best: BestTracker) -> list[str]:
    """What to print after a sitting: what was saved and, of a run that is not at its end, how to go on."""
    steps = plan.settings.steps
    lines = [
        f"step {outcome.step:,} after {outcome.seconds / 60:.1f} minutes, saved in {outcome.checkpoint}",
    ]
    if outcome.step < steps:
        first = min(plan.settings.score_every, steps)
        unscored = f"; nothing is scored yet, the first score is due at step {first:,}"
        lines.append(
            f"stopped before step {steps:,}{'' if best.step else unscored}; "
            f"`python {plan.kind.script.split()[0]} --resume {shlex.quote(str(run))}` goes on"
        )
    return lines


def _go_on(plan: Plan[Any], learner: Learner, best: BestTracker) -> None:
    """Put the learner where the resumed run ended."""
    assert plan.resumed is not None
    path, state = load_newest_and_report(plan.resumed)
    learner.load_state(state)
    best.load_state(state["best"])
    if best.step == learner.step_count:
        save_as_best(path)  # a kill may have come between writing it and keeping it
    if learner.step_count >= plan.settings.steps:
        raise UserError(
            f"{plan.resumed} is at its end, step {learner.step_count:,} of {plan.settings.steps:,}; begin "
            "a new run with --init-from, or insist with --steps and --force"
        )
    print(f"going on from {path}")
    print_environment_changes(
        plan.kind.read_info(plan.resumed).environment, describe_environment(plan.device)
    )


def _same_network(run: Path, before: Any, settings: Any, names: tuple[str, ...]) -> None:
    other = [flag(name) for name in names if getattr(before, name) != getattr(settings, name)]
    if other:
        raise UserError(
            f"the network of {run} was trained with another {', '.join(other)}: leave that out, or undo it "
            "in its config.json"
        )


def _same_mathematics(run: Path, before: Any, settings: Any) -> None:
    differences = changed(before, settings, FREE)
    if differences:
        raise UserError(
            f"{run} was trained with another {', '.join(map(flag, differences))}; going on would not be the "
            "same run: leave that out, or undo it in its config.json, begin a new run with --init-from, or "
            "insist with --force"
        )
