"""From what a user asks for to a trainer that is ready: new, resumed, or begun from another run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from engine.checkpoint import load_newest, load_newest_and_report, save, save_as_best
from engine.cli import NEWEST, parse_arguments
from engine.device import (
    choose_device,
    choose_precision,
    describe_environment,
    enable_cudnn_benchmark,
    keep_freed_memory,
    print_environment_changes,
)
from engine.distributed import World
from engine.errors import UserError
from engine.lock import locked
from engine.run_logger import RunLogger
from engine.runs import RunInfo, checkpoints, create_run, find_run, report_write_errors, write_info
from engine.settings import changed, flag
from engine.worker_pool import worker_count
from gan.config import (
    DEFAULT_STEPS,
    FEWEST_IMAGES,
    FREE,
    LATER,
    NETWORKS,
    PLAIN,
    PRESETS,
    Settings,
    TrainingArguments,
    base,
    check,
    mathematics,
    read_info,
)
from gan.generator import check_networks
from gan.history import Course
from gan.negatives import count_negatives
from gan.trainer import SAMPLES, Trainer
from gan.validation import FEWEST, Scorer
from images.dataset import ImageDataset, load_folder
from images.holdout import held_out, holdout_share
from images.tiles import GRID_COLUMNS, tile

DEFAULT_MINUTES = 15.0
"""Time budget of a run on the embedded default."""
ON_DRAWN_FACES = {"batch_size": 32, "negatives": 0.0}
"""What is otherwise on the embedded default, on a CPU. In so short a time it is the number of steps that
counts: with 96 images there are half as many of them, and no eyes yet. And negatives hold G back there
(docs/faces.md)."""


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


def make_plan(words: Sequence[str], world: World | None = None) -> Plan:
    """Read a command line. What it leaves open is taken from the run it names, or from a preset.

    Where torchrun has started the processes of this world again, they go on with the run that those
    before them were at, if that has a checkpoint, as it was then: whatever the words say.

    Raises:
        UserError: words that do not fit, settings out of range, no such run or device, a run whose
            mathematics or networks would change, by the words or by a config.json that was edited, or
            more processes than there is work or GPUs for.
        SystemExit: with code 0, after --help.
    """
    world = world or World()
    run = world.stored_run()
    if run is not None and checkpoints(run):
        print(f"started again by torchrun: going on with {run}")
        # What was insisted on when it began must not be refused now.
        words = ["--resume", str(run), *(word for word in words if word == "--force")]
    request = parse_arguments(words, TrainingArguments)
    plan = _resuming(words, request) if request.resume else _beginning(words, request)
    _check_shares(plan.settings, world)
    gpus = torch.cuda.device_count() if plan.device.type == "cuda" else world.local_size
    if world.local_size > gpus:
        raise UserError(
            f"{world.local_size} processes for {gpus} GPUs: give torchrun --nproc-per-node {gpus}, "
            "or train on --device cpu"
        )
    return plan


def load_data(plan: Plan, folder: Path, world: World | None = None) -> tuple[ImageDataset, Plan]:
    """Decode the data folder, and shrink the batch where there are fewer images.

    Of several processes the first decodes and the others take from the cache what it has left there.

    Raises:
        UserError: no usable folder, too few images, or not those that a resumed run was trained on, or
            that another process is given.
    """
    world, settings = world or World(), plan.settings
    data = world.rank_zero_first(
        lambda: load_folder(
            folder,
            settings.image_size,
            cache=settings.cache,
            workers=worker_count(settings.workers),
            memory_share=settings.memory_share / world.local_size,
            held_out=settings.held_out,
        )
    )
    world.check_equal(data.digest, f"{folder} does not hold the same images for all processes")
    count = len(data.images)
    if count < FEWEST_IMAGES:
        raise UserError(f"{folder} holds {count} usable images; training needs {FEWEST_IMAGES} or more")
    if plan.resumed and not plan.force:
        before = world.on_rank_zero(lambda: _before(plan).data)
        if before.get("digest") != data.digest:
            raise UserError(
                f"{folder} has changed since {plan.resumed} was trained on it ({before.get('images')} images "
                f"then, {count} now): restore it, begin a new run with --init-from, or insist with --force"
            )
    _tell_of_seen(plan, data, world)
    trained = len(data.trained)
    if trained < settings.batch_size:
        print(f"batch size {trained} instead of {settings.batch_size}: there are no more images to train on")
        plan = replace(plan, settings=replace(settings, batch_size=trained))
        _check_shares(plan.settings, world)
    return data, plan


def make_scorer(plan: Plan, data: ImageDataset) -> Scorer | None:
    """What scores the run against the images held out; None where those are too few to tell anything."""
    if data.held.sum() >= FEWEST:
        return Scorer(data.images, data.held, plan.device)
    print(f"not scored: {data.held.sum()} images are held out, and it takes {FEWEST} or more")
    return None


def make_course(plan: Plan, data: ImageDataset) -> Course:
    """What watches over the run and remembers how it went."""
    return Course(_spread(data.images), plan.settings.learning_rate)


def make_trainer(plan: Plan, data: ImageDataset, world: World | None = None) -> Trainer:
    """A trainer at step 0, with the networks of the run begun from, if any. Nothing is written yet.

    Raises:
        UserError: that run has no usable checkpoint.
    """
    keep_freed_memory()
    enable_cudnn_benchmark(plan.device)
    world, source = world or World(), plan.source
    trainer = Trainer(plan.settings, data.images, plan.device, data.trained, world)
    if source:
        path, state = world.on_rank_zero(lambda: load_newest_and_report(source))
        trainer.initialize_from(state)
        print(f"beginning with the networks of {path}")
    return trainer


@contextmanager
def open_run(
    plan: Plan, data: ImageDataset, trainer: Trainer, course: Course, name: str
) -> Iterator[tuple[Path, RunLogger | None]]:
    """Have a run to oneself while the block runs.

    The run is a new folder, or the resumed one. The trainer and the course take over the state of the
    latter only here: until the folder is locked, another process may train on in it. Of several processes
    that train together the first locks it and reads what is there.

    Yields:
        The run, and its logger, which is closed at the end of the block; None but in the first process.

    Raises:
        UserError: another process is training in the folder, it cannot be written to, or the resumed
            run has no usable checkpoint or is already at its end.
    """
    world = trainer.world
    loggers: list[RunLogger] = []
    with ExitStack() as stack:
        stack.callback(trainer.release)

        def take() -> tuple[Path, tuple[Path, dict[str, Any]] | None]:
            run = plan.resumed or create_run(plan.settings.output, name, plan.settings.image_size)
            stack.enter_context(locked(run))
            world.store_run(run)
            return run, load_newest_and_report(run) if plan.resumed else None

        def record() -> None:
            with report_write_errors(run):
                if newest and plan.force:
                    # What is trained with differs from here on; a kill may come before the next checkpoint.
                    _, state = newest
                    trained = {"settings": mathematics(plan.settings)}
                    save(run, trainer.step_count, state | trained, plan.settings.keep)
                logger = stack.enter_context(closing(RunLogger(run, trainer.step_count)))
                _describe(plan, data, logger, world)
            loggers.append(logger)

        run, newest = world.on_rank_zero(take)
        if newest:
            _go_on(plan, trainer, course, *newest)
        world.on_rank_zero(record)
        yield run, loggers[0] if loggers else None


def _go_on(plan: Plan, trainer: Trainer, course: Course, path: Path, state: dict[str, Any]) -> None:
    """Put the trainer where the resumed run ended."""
    world, settings = trainer.world, plan.settings
    trainer.load_state(state)
    course.load_state(state["course"])
    trainer.adopt(course.recovery)
    if course.best.step == trainer.step_count:
        world.on_rank_zero(
            lambda: save_as_best(path)
        )  # a kill may have come between writing it and keeping it
    steps = settings.steps
    if steps is not None and trainer.step_count >= steps:
        raise UserError(
            f"{plan.resumed} is at its end, step {trainer.step_count:,} of {steps:,}; "
            f"give more, such as --steps {2 * trainer.step_count}"
        )
    print(f"going on from {path}")
    before = world.on_rank_zero(lambda: _before(plan).environment)
    print_environment_changes({"processes": 1} | before, describe_environment(plan.device, world.size))
    if world.size != before.get("processes", 1) and not settings.sync_batch_norm:
        images = trainer.local_batch_size / settings.accumulate
        whose = "each part of a process's share" if settings.accumulate > 1 else "each process's share"
        print(f"note: batch norm's statistics are now over {images:g} images, {whose} of the batch")


def _before(plan: Plan) -> RunInfo:
    """What the resumed run was trained with until now."""
    assert plan.resumed is not None
    return read_info(plan.resumed)


def _tell_of_seen(plan: Plan, data: ImageDataset, world: World) -> None:
    """Say so where images are held out that the networks gone on with were trained on."""
    run = plan.resumed or plan.source
    if run is None:
        return
    before = world.on_rank_zero(lambda: read_info(run))
    share = before.settings.held_out
    if before.data.get("digest") != data.digest:
        theirs = holdout_share(before.data.get("images", 0), share)
        if seen := int((data.held & (data.fingerprints >= np.uint64(theirs * 2**64))).sum()):
            print(
                f"note: {run} was trained on other images; if these were among them, on up to {seen:,} of "
                f"the {data.held.sum():,} held out now, and scores would flatter"
            )
        return
    if share == plan.settings.held_out:
        return
    if seen := int((data.held & ~held_out(data.fingerprints, share)).sum()):
        print(
            f"note: {run} was trained on {seen:,} of the {data.held.sum():,} images held out now, so scores "
            f"will flatter; --held-out {share:g}, as there, holds out none of those"
        )


def _check_shares(settings: Settings, world: World) -> None:
    """Raise `UserError` where a process, or a part of what it accumulates, would have but one image."""
    shares = world.size * settings.accumulate
    if settings.batch_size < 2 * shares:
        raise UserError(
            f"--batch-size {settings.batch_size} is too small for {world.size} processes with "
            f"--accumulate {settings.accumulate}: it takes {2 * shares} or more"
        )
    negatives, least = count_negatives(settings), _fewest_negatives(settings, world)
    if 0 < negatives < least:
        raise UserError(
            f"with batch norm in D, {world.size} processes and --accumulate {settings.accumulate} it takes "
            f"{least} negatives or more, and --negatives {settings.negatives:g} of --batch-size "
            f"{settings.batch_size} are {negatives}: give more, or --negatives 0"
        )


def _fewest_negatives(settings: Settings, world: World) -> int:
    """So that batch norm in D, which compares those of a part, never has but one; without it any will do."""
    if not settings.normalisation.startswith("batch"):
        return 0
    shares = world.size * settings.accumulate
    compared = settings.accumulate if settings.sync_batch_norm else shares
    return max(shares, 2 * compared)


def _describe(plan: Plan, data: ImageDataset, logger: RunLogger, world: World) -> None:
    """Write what the run is trained with, and on what."""
    facts: dict[str, Any] = {
        "folder": str(data.folder),
        "digest": data.digest,
        "images": len(data.images),
        "held_out": int(data.held.sum()),
        "skipped": len(data.skipped),
        "duplicates": data.duplicates,
    }
    begun_from = plan.source or (plan.resumed and _before(plan).data.get("begun_from"))
    if begun_from:
        facts["begun_from"] = str(begun_from)
    write_info(logger.run, RunInfo(plan.settings, facts, describe_environment(plan.device, world.size)))
    data.write_skipped(logger.run / "skipped.txt")
    if not plan.resumed:
        logger.log_real_images(tile(_spread(data.images), GRID_COLUMNS))


def _spread(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """As many images as a sample grid has, from all over the set: neighbours are often much alike."""
    return images[np.linspace(0, len(images) - 1, min(SAMPLES, len(images))).astype(int)]


def _resuming(words: Sequence[str], request: TrainingArguments) -> Plan:
    assert request.resume is not None
    run = _named_run(request.resume, request.output)
    before = read_info(run).settings
    if request.steps is not None or request.minutes is not None:
        # A new end replaces the old one, also where that was of the other kind.
        request = parse_arguments(words, TrainingArguments, default=replace(before, steps=None, minutes=None))
    else:
        request = parse_arguments(words, TrainingArguments, default=before)
    settings, device = _decided(request.settings)
    if (settings.preset, settings.plain) != (before.preset, before.plain):
        raise UserError(f"--preset and --plain choose the settings of a new run; {run} has its own")
    differences = changed(before, settings, FREE)
    if differences and not request.force:
        raise UserError(
            f"{run} was trained with another {', '.join(map(flag, differences))}; going on would not be the "
            "same run: leave that out, begin a new run with --init-from, or insist with --force"
        )
    path, state = _same_networks(run, before, settings)
    # Checkpoints of earlier versions do not tell what they were trained with.
    trained = state.get("settings", {})
    edited = changed(replace(before, **(LATER | trained if trained else {})), before, FREE)
    if edited and not request.force:
        raise UserError(
            f"{run}/config.json tells another {', '.join(map(flag, edited))} than {path} was trained with: "
            "undo that change, or insist with --force"
        )
    return Plan(settings, device, resumed=run, force=request.force)


def _beginning(words: Sequence[str], request: TrainingArguments) -> Plan:
    light = choose_device(request.device).type == "cpu"
    defaults = base(request.preset or ("light" if light else "paper"), request.plain)
    source = _named_run(request.init_from, request.output) if request.init_from else None
    theirs = read_info(source).settings if source else defaults
    preset, plain = PRESETS[request.preset] if request.preset else {}, PLAIN if request.plain else {}
    for word, asked in (("--preset", preset), ("--plain", plain)):
        if source and any(getattr(theirs, name) != asked[name] for name in asked.keys() & {*NETWORKS}):
            raise UserError(f"{word} asks for other networks than those of {source}: leave that out")
    defaults = replace(defaults, **{name: getattr(theirs, name) for name in NETWORKS})
    if light and request.folder is None and request.preset is None:
        defaults = replace(defaults, **ON_DRAWN_FACES)
    settings, device = _decided(parse_arguments(words, TrainingArguments, default=defaults).settings)
    if source:
        _same_networks(source, theirs, settings)
    if settings.steps is None and settings.minutes is None:
        end = {"minutes": DEFAULT_MINUTES} if settings.folder is None else {"steps": DEFAULT_STEPS}
        settings = replace(settings, **end)
    return Plan(settings, device, source=source)


def _same_networks(run: Path, theirs: Settings, settings: Settings) -> tuple[Path, dict[str, Any]]:
    """A run's newest checkpoint that is whole, and what it holds.

    Raises:
        UserError: there is none, or its networks cannot be loaded with these settings.
    """
    other = [flag(name) for name in NETWORKS if getattr(theirs, name) != getattr(settings, name)]
    if other:
        raise UserError(f"the networks of {run} have another {', '.join(other)}: leave that out")
    path, state, _ = load_newest(run)
    check_networks(run, theirs, path, state)
    return path, state


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
