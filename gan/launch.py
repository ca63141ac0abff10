"""From what a user asks for to a trainer that is ready: new, resumed, or begun from another run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gan.checkpoint import keep_as_best, load_newest
from gan.config import DEFAULT_STEPS, FEWEST_IMAGES, NETWORKS, Settings, base, changed, check, flag
from gan.course import Course
from gan.dataset import FaceSet, load_folder
from gan.errors import UserError
from gan.hardware import choose_device, choose_precision, environment, keep_freed_memory
from gan.lock import locked
from gan.processes import worker_count
from gan.recorder import Recorder
from gan.request import NEWEST, Request, read_request
from gan.runs import RunInfo, find_run, new_run, read_info, write_info
from gan.scoring import FEWEST, Scorer
from gan.trainer import SAMPLES, Trainer

DEFAULT_MINUTES = 15.0
"""Time budget of a run on the embedded default."""


@dataclass(frozen=True)
class Plan:
    """What is to be done, decided but not begun."""

    settings: Settings
    """With the precision decided, and an end."""
    device: torch.device
    resumed: Path | None = None
    """The run to go on with."""
    source: Path | None = None
    """The run whose networks a new one begins with."""
    force: bool = False


def make_plan(words: Sequence[str]) -> Plan:
    """Read a command line. What it leaves open is taken from the run it names, or from a preset.

    Raises:
        UserError: words that do not fit, settings out of range, no such run or device, or a run whose
            mathematics or networks would change.
        SystemExit: with code 0, after --help.
    """
    request = read_request(words)
    return _resuming(words, request) if request.resume else _beginning(words, request)


def load_data(plan: Plan, folder: Path) -> tuple[FaceSet, Plan]:
    """Decode the data folder, and shrink the batch where there are fewer images.

    Raises:
        UserError: no usable folder, too few images, or not those that a resumed run was trained on.
    """
    settings = plan.settings
    data = load_folder(
        folder,
        settings.image_size,
        cache=settings.cache,
        workers=worker_count(settings.workers),
        memory_share=settings.memory_share,
        held_out=settings.held_out,
    )
    count = len(data.images)
    if count < FEWEST_IMAGES:
        raise UserError(f"{folder} holds {count} usable images; training needs {FEWEST_IMAGES} or more")
    if plan.resumed and not plan.force:
        before = read_info(plan.resumed).data
        if before.get("digest") != data.digest:
            raise UserError(
                f"{folder} has changed since {plan.resumed} was trained on it ({before.get('images')} images "
                f"then, {count} now): restore it, begin a new run with --init-from, or insist with --force"
            )
    trained = len(data.trained)
    if trained < settings.batch_size:
        print(f"batch size {trained} instead of {settings.batch_size}: there are no more images to train on")
        plan = replace(plan, settings=replace(settings, batch_size=trained))
    return data, plan


def make_scorer(plan: Plan, data: FaceSet) -> Scorer | None:
    """What scores the run against the images held out; None where those are too few to tell anything."""
    if data.held.sum() >= FEWEST:
        return Scorer(data.images, data.held, plan.device)
    print(f"not scored: {data.held.sum()} images are held out, and it takes {FEWEST} or more")
    return None


def make_course(plan: Plan, data: FaceSet) -> Course:
    """What watches over the run and remembers how it went."""
    return Course(_spread(data.images), plan.settings.learning_rate)


def make_trainer(plan: Plan, data: FaceSet) -> Trainer:
    """A trainer at step 0, with the networks of the run begun from, if any. Nothing is written yet.

    Raises:
        UserError: that run has no usable checkpoint.
    """
    keep_freed_memory()
    trainer = Trainer(plan.settings, data.images, plan.device, data.trained)
    if plan.source:
        path, state = _newest_state(plan.source)
        trainer.load_networks(state)
        print(f"beginning with the networks of {path}")
    return trainer


@contextmanager
def open_run(
    plan: Plan, data: FaceSet, trainer: Trainer, course: Course, name: str
) -> Iterator[Recorder]:
    """Have a run to oneself while the block runs, and a recorder that is closed at its end.

    The run is a new folder, or the resumed one. The trainer and the course take over the state of the
    latter only here: until the folder is locked, another process may train on in it.

    Raises:
        UserError: another process is training in the folder, it cannot be written to, or the resumed
            run has no usable checkpoint or is already at its end.
    """
    run = plan.resumed or new_run(plan.settings.output, name, plan.settings.image_size)
    with locked(run):
        if plan.resumed:
            _go_on(plan, trainer, course)
        with _written_to(run):
            recorder = Recorder(run, trainer.step_count)
        with closing(recorder):
            with _written_to(run):
                _describe(plan, data, recorder)
            yield recorder


def _newest_state(run: Path) -> tuple[Path, dict[str, Any]]:
    """The newest checkpoint that is whole, and what it holds."""
    path, state, damaged = load_newest(run, mapped=False)
    for other in damaged:
        print(f"warning: {other} is damaged and left aside")
    return path, state


def _go_on(plan: Plan, trainer: Trainer, course: Course) -> None:
    """Put the trainer where the resumed run ended."""
    assert plan.resumed is not None
    path, state = _newest_state(plan.resumed)
    trainer.load_state(state)
    course.load_state(state["course"])
    trainer.adopt(course.recovery)
    if course.best.step == trainer.step_count:
        keep_as_best(path)  # a kill may have come between writing it and keeping it
    steps = plan.settings.steps
    if steps is not None and trainer.step_count >= steps:
        raise UserError(
            f"{plan.resumed} is at its end, step {trainer.step_count:,} of {steps:,}; "
            f"give more, such as --steps {2 * trainer.step_count}"
        )
    print(f"going on from {path}")
    here = environment(plan.device)
    for what, then in read_info(plan.resumed).environment.items():
        if here.get(what) != then:
            now = here.get(what)
            print(f"note: {what} was {then} and is now {now}; steps may differ in the last bits")


def _describe(plan: Plan, data: FaceSet, recorder: Recorder) -> None:
    """Write what the run is trained with, and on what."""
    facts = {
        "folder": str(data.folder),
        "digest": data.digest,
        "images": len(data.images),
        "held_out": int(data.held.sum()),
        "skipped": len(data.skipped),
        "duplicates": data.duplicates,
    }
    write_info(recorder.run, RunInfo(plan.settings, facts, environment(plan.device)))
    data.write_skipped(recorder.run / "skipped.txt")
    if not plan.resumed:
        recorder.real_grid(_spread(data.images))


@contextmanager
def _written_to(run: Path) -> Iterator[None]:
    """Tell of a full or read-only disk in one line."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{run} cannot be written to: {error.strerror}") from None


def _spread(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """As many images as a sample grid has, from all over the set: neighbours are often much alike."""
    return images[np.linspace(0, len(images) - 1, min(SAMPLES, len(images))).astype(int)]


def _resuming(words: Sequence[str], request: Request) -> Plan:
    assert request.resume is not None
    run = _named_run(request.resume, request.output)
    before = read_info(run).settings
    if request.steps is not None or request.minutes is not None:
        # A new end replaces the old one, also where that was of the other kind.
        request = read_request(words, default=replace(before, steps=None, minutes=None))
    else:
        request = read_request(words, default=before)
    settings, device = _decided(request.settings)
    if (settings.preset, settings.plain) != (before.preset, before.plain):
        raise UserError(f"--preset and --plain choose the settings of a new run; {run} has its own")
    differences = changed(before, settings)
    if differences and not request.force:
        raise UserError(
            f"{run} was trained with another {', '.join(map(flag, differences))}; going on would not be the "
            "same run: leave that out, begin a new run with --init-from, or insist with --force"
        )
    _same_networks(run, before, settings)
    return Plan(settings, device, resumed=run, force=request.force)


def _beginning(words: Sequence[str], request: Request) -> Plan:
    light = choose_device(request.device).type == "cpu"
    defaults = base(request.preset or ("light" if light else "paper"), request.plain)
    source = _named_run(request.init_from, request.output) if request.init_from else None
    theirs = read_info(source).settings if source else defaults
    if request.plain and not theirs.plain:
        raise UserError(f"--plain asks for other networks than those of {source}: leave that out")
    defaults = replace(defaults, **{name: getattr(theirs, name) for name in NETWORKS})
    settings, device = _decided(read_request(words, default=defaults).settings)
    if source:
        _same_networks(source, theirs, settings)
    if settings.steps is None and settings.minutes is None:
        end = {"minutes": DEFAULT_MINUTES} if settings.folder is None else {"steps": DEFAULT_STEPS}
        settings = replace(settings, **end)
    return Plan(settings, device, source=source)


def _same_networks(run: Path, theirs: Settings, settings: Settings) -> None:
    """Raise `UserError` for settings with which a run's networks cannot be loaded."""
    other = [flag(name) for name in NETWORKS if getattr(theirs, name) != getattr(settings, name)]
    if other:
        raise UserError(f"the networks of {run} have another {', '.join(other)}: leave that out")


def _decided(settings: Settings) -> tuple[Settings, torch.device]:
    """The settings, checked, with the precision decided and the folder absolute; and the device they mean."""
    check(settings)
    device = choose_device(settings.device)
    settings = replace(settings, precision=choose_precision(settings.precision, device))
    if settings.folder is not None:
        # A run may be resumed from another working directory.
        settings = replace(settings, folder=str(Path(settings.folder).absolute()))
    return settings, device


def _named_run(name: str, output: Path) -> Path:
    return find_run(None if name == NEWEST else name, output)
