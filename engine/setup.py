"""From a command line to training in a run folder: new, resumed, or started from another run."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from engine.best import BestTracker
from engine.budget import TrainingResult
from engine.checkpoint import load_and_report, load_best, load_newest, save, save_as_best
from engine.cli import NEWEST, RunOptions, parse_arguments, settings_of
from engine.device import choose_device, describe_environment, print_environment_changes
from engine.distributed import World
from engine.errors import UserError
from engine.files import check_creatable
from engine.finite import EXIT_DIVERGED, DivergedError
from engine.lock import locked
from engine.loop import TrainingLoop
from engine.newest import find_usable_run, not_resumable, without_checkpoint
from engine.run_logger import RunLogger
from engine.runs import (
    DEFAULT_KIND,
    RunInfo,
    create_run,
    gave_up,
    read_info,
    report_write_errors,
    sample_path,
    write_info,
)
from engine.settings import TrainingSettings, changed, flag, from_json, settings_affecting_results

Settings = TypeVar("Settings", bound=TrainingSettings)


def _unchanged(settings: Settings) -> Settings:
    return settings  # not a lambda: rank 0 sends its plan, which names the task, to the other processes


@dataclass(frozen=True)
class Task(Generic[Settings]):
    """A learning task, and how to handle its settings.

    Attributes:
        name: as in config.json.
        script: that trains it, for messages.
        settings: class of its settings.
        arguments: that class with `RunOptions`, for the command line.
        check: raises `UserError` for a setting that is out of range.
        network: settings that a network's weights depend on.
        resumable: settings that may change when a run is resumed.
        upgrade: the settings of a run of an earlier version, by name, as this version names them.
        absolute: makes the paths among the settings absolute, except for the folder's, since a run may be
            resumed from another working directory.
    """

    name: str
    script: str
    settings: type[Settings]
    arguments: type[RunOptions]
    check: Callable[[Settings], None]
    network: tuple[str, ...]
    resumable: frozenset[str]
    upgrade: Callable[[dict[str, Any]], dict[str, Any]]
    absolute: Callable[[Settings], Settings] = _unchanged

    def read_info(self, run: Path) -> RunInfo:
        """A run's config.json. Raises `UserError` if it is not one of this task."""
        return read_info(run, self.name, self.read_settings)

    def read_settings(self, values: dict[str, Any]) -> Settings:
        """Settings from the values in a file. Raises `UserError` if they are not valid."""
        settings = from_json(self.upgrade(values), self.settings)
        self.check(settings)
        return settings

    def trained_settings(self, run: Path, *, best: bool) -> Settings:
        """The settings of a run's best or newest checkpoint, even if config.json was edited since.

        Raises:
            UserError: the run has no usable checkpoint, or one of another task.
        """
        path, state, _ = (load_best if best else load_newest)(run)
        if state.get("kind", DEFAULT_KIND) != self.name:
            raise UserError(
                f"{path} is a checkpoint of another kind: {state.get('kind', DEFAULT_KIND)}, not {self.name}"
            )
        return self.read_settings(state["settings"])

    def find_run(self, options: RunOptions, output: Path) -> Path | None:
        """The run to resume or to start from, by its folder, name or number, or the newest; None for neither.

        Raises:
            UserError: there is no such run, or the newest cannot be used.
        """
        run = options.resume or options.init_from
        check = not_resumable if options.resume else without_checkpoint
        return find_usable_run(None if run == NEWEST else run, output, self.script, check) if run else None


@dataclass(frozen=True)
class Plan(Generic[Settings]):
    """A run that has been decided on but not started."""

    task: Task[Settings]
    settings: Settings
    device: torch.device
    resumed: Path | None = None
    """The run to resume."""
    source: Path | None = None
    """The run whose networks a new run starts from."""
    force: bool = False

    def source_state(self) -> tuple[Path, dict[str, Any]] | None:
        """The best or else newest intact checkpoint of the source, if there is one, and its path."""
        return load_and_report(self.source, best=True) if self.source else None


def make_plan(argv: Sequence[str], task: Task[Settings]) -> Plan[Settings]:
    """Parse a command line. Missing settings are those of the run it names.

    Raises:
        UserError: invalid arguments, settings out of range, no such run or device, no usable checkpoint, or
            settings that would change the results or the network of the run.
        SystemExit: with code 0, after --help.
    """
    arguments = parse_arguments(argv, task.arguments)
    run = task.find_run(arguments, settings_of(arguments, task.settings).output)
    defaults = task.read_info(run).settings if run else task.settings()
    trained = task.trained_settings(run, best=arguments.resume is None) if run else defaults
    if run and arguments.init_from:
        defaults = replace(task.settings(), **{name: getattr(trained, name) for name in task.network})
    settings = settings_of(parse_arguments(argv, task.arguments, defaults), task.settings)
    settings = with_absolute_folder(task.absolute(settings))
    if run:
        # First, because another network makes settings invalid that the user did not name.
        fixed = task.network if arguments.init_from else (*task.network, "optimizer")
        check_same_network(run, trained, settings, fixed)
    task.check(settings)
    if run and arguments.resume and not arguments.force:
        check_same_results(run, trained, settings, task.resumable)
    plan = Plan(
        task,
        settings,
        choose_device(settings.device),
        resumed=run if arguments.resume else None,
        source=run if arguments.init_from else None,
        force=arguments.force,
    )
    check_folders(plan)
    return plan


def with_absolute_folder(settings: Settings) -> Settings:
    """The settings with an absolute folder: a run may be resumed from another working directory."""
    if settings.folder is None:
        return settings
    return replace(settings, folder=str(Path(settings.folder).absolute()))


def check_same_network(run: Path, before: Any, settings: Any, names: Sequence[str]) -> None:
    """Raise `UserError` if settings that a run's network depends on have changed."""
    if other := [flag(name) for name in names if getattr(before, name) != getattr(settings, name)]:
        raise UserError(
            f"the network of {run} was trained with a different {', '.join(other)}: omit the change, or "
            "undo it in its config.json"
        )


def check_same_results(run: Path, before: Any, settings: Any, resumable: frozenset[str]) -> None:
    """Raise `UserError` if settings have changed that a resumed run may not change."""
    if differences := changed(before, settings, resumable):
        raise UserError(
            f"{run} was trained with a different {', '.join(map(flag, differences))}, so resuming would not "
            "continue the same run: omit the change, or undo it in its config.json, start a new run with "
            "--init-from, or insist with --force"
        )


def check_folders(plan: Plan[Any]) -> None:
    """Check the folders of a run, before data are loaded.

    Raises:
        UserError: the folder of a new run cannot be created; or the folder that a resumed run was trained on
            is gone, and no other was given.
    """
    folder, run = plan.settings.folder, plan.resumed
    if run is None:
        with report_write_errors(plan.settings.output):
            check_creatable(plan.settings.output)
        return
    if folder is None or Path(folder).exists():
        return
    if folder == plan.task.read_info(run).settings.folder:
        raise UserError(
            f"{folder}, which {run} was trained on, is no longer there; if it was moved, `python "
            f"{plan.task.script.split()[0]} NEWFOLDER --resume {shlex.quote(str(run))}` continues, as images "
            "are compared by their pixels"
        )


def check_steps(plan: Plan[Any], run: Path, step: int) -> None:
    """Raise `UserError` if a resumed run, which is at this step, has no steps left."""
    steps = plan.settings.steps
    if steps is None or step < steps:
        return
    reached = (
        f"its last step, {step:,} of {steps:,}" if step == steps else f"step {step:,}, past --steps {steps}"
    )
    more = f"such as --steps {2 * step}" if "steps" in plan.task.resumable else "with --steps and --force"
    raise UserError(f"{run} has reached {reached}; give it more, {more}")


def check_data(plan: Plan[Any], digest: str, count: int) -> None:
    """Raise `UserError` if a resumed run was trained on data with another digest."""
    if plan.resumed is None or plan.force:
        return
    before = plan.task.read_info(plan.resumed).data
    if before.get("digest") != digest:
        raise UserError(
            f"the data have changed since {plan.resumed} was trained on them ({before.get('images')} images "
            f"then, {count} now): restore them, start a new run with --init-from, or insist with --force"
        )


@contextmanager
def open_run(
    plan: Plan[Any],
    name: str,
    resume: Callable[[dict[str, Any]], BestTracker],
    step: Callable[[], int],
    data: dict[str, Any],
    write_files: Callable[[RunLogger], None],
    world: World | None = None,
) -> Iterator[tuple[Path, RunLogger | None]]:
    """Lock a run folder, a new one or the resumed one, while the block runs.

    The state is loaded only here: until the folder is locked, another process may be training in it.

    Args:
        plan: what to train, and how.
        name: of a new run.
        resume: loads a checkpoint's state into the trainer, and returns its best step.
        step: returns the step that the trainer has reached.
        data: for config.json: at least `digest` and `images`.
        write_files: writes what else a run contains from its start.
        world: the processes that train together. Rank 0 locks, reads and writes.

    Yields:
        The run, and its logger, which is closed at the end of the block; None in all processes but rank 0.

    Raises:
        UserError: another process is training in the folder, it cannot be written to, or the resumed run has
            no usable checkpoint or has reached its last step.
    """
    world, settings = world or World(), plan.settings
    loggers: list[RunLogger] = []
    with ExitStack() as stack:

        def lock() -> tuple[Path, tuple[Path, dict[str, Any]] | None]:
            run = plan.resumed or create_run(settings.output, settings.name or name, settings.image_size)
            stack.enter_context(locked(run))
            world.store_run(run)
            return run, load_and_report(run) if plan.resumed else None

        def write() -> None:
            if newest and plan.force:
                # The settings differ from here on, and the process may be killed before the next checkpoint.
                results = settings_affecting_results(settings, plan.task.resumable)
                state = newest[1] | {"settings": newest[1].get("settings", {}) | results}
                save(run, step(), state, settings.keep, networks=())
            loggers.append(stack.enter_context(closing(RunLogger(run, step()))))
            environment = describe_environment(plan.device, world.size)
            with report_write_errors(run):
                info = RunInfo(settings, data, environment, plan.task.name)
                write_info(run, info)
                loggers[0].log_info(step(), info)
                if gave_up(run):
                    loggers[0].log_event(step(), "resumed")  # and if torchrun restarts it now, it trains on
                write_files(loggers[0])

        run, newest = world.on_rank_zero(lock)
        before = world.on_rank_zero(lambda: plan.task.read_info(run).environment) if newest else {}
        if newest:
            path, state = newest
            best = resume(state)
            if best.step == step():
                world.on_rank_zero(lambda: save_as_best(path))  # a kill may have come between the two
            check_steps(plan, run, step())
            print(f"resuming from {path}")
            now = describe_environment(plan.device, world.size)
            print_environment_changes({"processes": 1} | before, now)
        world.on_rank_zero(write)
        yield run, loggers[0] if loggers else None


def run_loop(
    loop: TrainingLoop, run: Path, notes: Sequence[str] = (), failure: type[Exception] = DivergedError
) -> TrainingResult | None:
    """Train in a run folder, and print where it is and how it ended.

    Args:
        loop: the training loop.
        run: its folder.
        notes: lines about what to expect.
        failure: the exception that the loop raises when it cannot continue.

    Returns:
        How it ended; None if it failed, for which the exit code is `EXIT_DIVERGED`.
    """
    every, pictures = loop.trainer.settings.sample_every, sample_path(run, 0).parent
    print(f"writing to {run}; every {every:,} steps, a picture of what it has learned is saved in {pictures}")
    # By default, TensorBoard's slider has a random choice of 10 pictures, and with images=0 none.
    print(f"curves: tensorboard --logdir {shlex.quote(str(run))} --samples_per_plugin images=1000")
    for note in notes:
        print(note)
    try:
        outcome = loop.train()
    except failure as error:
        print(f"stopped: {error}; the checkpoints in {run}/checkpoints predate that", file=sys.stderr)
        return None
    minutes = outcome.seconds / 60
    print(f"step {outcome.step:,} after {minutes:.1f} minutes, saved in {outcome.checkpoint}")
    return outcome


def train_in_run(
    plan: Plan[Any],
    loop_type: Callable[..., TrainingLoop],
    trainer: Any,
    name: str,
    data: dict[str, Any],
    write_files: Callable[[RunLogger], None],
    report: Callable[[Path, BestTracker], Sequence[str]],
    notes: Callable[[Path], Sequence[str]] = lambda _: (),
) -> int:
    """Train one network in a run folder to the end.

    Args:
        plan: what to train, and how.
        loop_type: makes the loop from trainer, logger and best step.
        trainer: at step 0, with an `outlook`: a line about which scores are normal.
        name: of a new run.
        data: for config.json.
        write_files: see `open_run`.
        report: lines about a run that has a best step.
        notes: lines about a run that is about to train.

    Returns:
        The script's exit code.

    Raises:
        UserError: as `open_run` and `TrainingLoop.train`.
    """
    best = BestTracker(smoothed=1)

    def resume(state: dict[str, Any]) -> BestTracker:
        trainer.load_state(state)
        best.load_state(state["best"])
        return best

    with open_run(plan, name, resume, lambda: trainer.step_count, data, write_files) as (run, logger):
        outlook = [] if plan.resumed else [trainer.outlook]
        outcome = run_loop(loop_type(trainer, logger, best), run, [*notes(run), *outlook])
    if outcome is None:
        return EXIT_DIVERGED
    steps = plan.settings.steps
    if outcome.step < steps:
        first = min(plan.settings.score_every, steps)
        unscored = "" if best.step else f"; the first score is due at step {first:,}"
        script = plan.task.script.split()[0]
        print(
            f"stopped before step {steps:,}{unscored}; `python {script} --resume {shlex.quote(str(run))}` "
            "continues"
        )
    if best.step is not None:
        print("\n".join(report(run, best)))
    return outcome.exit_code


def network_summary(network: nn.Module) -> str:
    """A network and its size, for --dry-run."""
    sizes = [weight.numel() for weight in network.parameters()]
    trained = [weight.numel() for weight in network.parameters() if weight.requires_grad]
    return f"{network}\n{sum(sizes):,} parameters, {sum(trained):,} of them trained"
