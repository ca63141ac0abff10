"""From a command line to a GAN trainer: a new run, a resumed one, or one that starts from another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from engine.best import BestTracker
from engine.checkpoint import load_best, load_newest
from engine.cli import parse_arguments, settings_of
from engine.device import choose_device, choose_precision, enable_cudnn_benchmark, keep_freed_memory
from engine.distributed import World
from engine.errors import UserError
from engine.output import counted
from engine.run_logger import RunLogger
from engine.runs import RunInfo, has_checkpoint
from engine.settings import changed, flag
from engine.setup import (
    Plan,
    Task,
    check_data,
    check_folders,
    check_same_network,
    check_same_results,
    check_steps,
    open_run,
    with_absolute_folder,
)
from engine.worker_pool import worker_count
from gan import losses
from gan.config import (
    DEFAULT_STEPS,
    MIN_IMAGES,
    NETWORK_SETTINGS,
    RESUMABLE,
    Settings,
    TrainingArguments,
    check,
    groups_near_duplicates,
    preset_settings,
    read_info,
    upgrade,
)
from gan.generator import check_networks
from gan.loop import GanLoop
from gan.negatives import count_negatives
from gan.trainer import SAMPLES, Trainer
from gan.validation import MIN_IMAGES as MIN_HELD_OUT
from gan.validation import Validator
from images.dataset import ImageDataset, load_folder
from images.holdout import holdout_mask, holdout_share
from images.tiles import GRID_COLUMNS, tile

GAN = Task(
    "gan",
    "train_gan.py FOLDER",
    Settings,
    TrainingArguments,
    check,
    NETWORK_SETTINGS,
    RESUMABLE,
    upgrade,
)
DEFAULT_MINUTES = 15.0
"""Time budget of a run on drawn faces."""
MEMORY_SHARE = 0.25
"""Share of the memory that images may take where they cannot be mapped from the cache."""


def make_plan(argv: Sequence[str], world: World | None = None) -> Plan[Settings]:
    """Parse a command line. Missing settings are those of the run it names, or of a preset.

    When torchrun has restarted the processes of this world, they resume the run that they were training, if
    it has a checkpoint, whatever the command line says.

    Raises:
        UserError: invalid arguments, settings out of range, no such run or device, settings or networks of a
            run that would change, or more processes than work or GPUs.
        SystemExit: with code 0, after --help.
    """
    world = world or World()
    run = world.stored_run()
    if run is not None and has_checkpoint(run):
        print(f"restarted by torchrun: resuming {run}")
        # Options accepted at the first launch must not be rejected now.
        argv = ["--resume", str(run), *(word for word in argv if word == "--force")]
    arguments = parse_arguments(argv, TrainingArguments)
    plan = _resume(argv, arguments) if arguments.resume else _start(argv, arguments)
    _check_shards(plan.settings, world)
    gpus = torch.cuda.device_count() if plan.device.type == "cuda" else world.local_size
    if world.local_size > gpus:
        raise UserError(
            f"{world.local_size} processes for {gpus} GPU{'s' * (gpus > 1)}: give torchrun --nproc-per-node "
            f"{gpus}, or train on --device cpu"
        )
    return plan


def load_data(
    plan: Plan[Settings], folder: Path, world: World | None = None
) -> tuple[ImageDataset, Plan[Settings]]:
    """Decode the data folder, and reduce the batch size if there are fewer images.

    Of several processes the first decodes, and the others read its cache.

    Raises:
        UserError: no usable folder, too few images, images that differ from those of a resumed run, or that
            differ between processes.
    """
    world, settings = world or World(), plan.settings
    resumed: RunInfo | None = world.on_rank_zero(lambda: plan.resumed and read_info(plan.resumed))
    data = world.rank_zero_first(
        lambda: load_folder(
            folder,
            settings.image_size,
            cache=settings.cache,
            workers=worker_count(settings.workers),
            memory_share=MEMORY_SHARE / world.local_size,
            held_out=settings.held_out,
            group_near_duplicates=resumed is None or groups_near_duplicates(resumed),
            exclude=settings.exclude,
        )
    )
    world.check_equal(data.digest, f"{folder} does not contain the same images for all processes")
    count = len(data.images)
    if count < MIN_IMAGES:
        raise UserError(f"{folder} contains {count} usable images; training needs {MIN_IMAGES} or more")
    world.on_rank_zero(lambda: check_data(plan, data.digest, count))
    _report_leaks(plan, data, world)
    available = len(data.training_indices)
    if available < settings.batch_size:
        if available < settings.pack:
            raise UserError(
                f"{folder} leaves {available} images to train on, fewer than --pack {settings.pack}"
            )
        batch_size = available - available % settings.pack
        only = f"there are only {counted(available, 'image')} to train on"
        print(f"batch size {batch_size} instead of {settings.batch_size}: {only}")
        plan = replace(plan, settings=replace(settings, batch_size=batch_size))
        _check_shards(plan.settings, world)
    return data, plan


def make_validator(plan: Plan[Settings], data: ImageDataset) -> Validator | None:
    """Scores the run on the held-out images; None if there are too few of them."""
    if data.held_out.sum() >= MIN_HELD_OUT:
        return Validator(data.images, data.held_out, plan.device)
    print(f"not scored: {data.held_out.sum()} images are held out, and scores need {MIN_HELD_OUT} or more")
    return None


def make_trainer(plan: Plan[Settings], data: ImageDataset, world: World | None = None) -> Trainer:
    """A trainer at step 0, with the networks of the source run, if there is one. Nothing is written yet.

    Raises:
        UserError: the source has no usable checkpoint.
    """
    keep_freed_memory()
    enable_cudnn_benchmark(plan.device)
    world = world or World()
    trainer = Trainer(plan.settings, data.images, plan.device, data.training_indices, world)
    if source := world.on_rank_zero(lambda: _source_state(plan)):
        path, state = source
        trainer.initialize_from(state)
        if not plan.resumed:
            print(f"starting from the networks of {path}")
    return trainer


def _source_state(plan: Plan[Settings]) -> tuple[Path, dict[str, Any]] | None:
    """The checkpoint that the run started from, to which a rollback may return; None without one."""
    if plan.resumed is None:
        return plan.source_state()
    source = read_info(plan.resumed).data.get("begun_from")
    if source is None:
        return None
    try:
        path, state, _ = load_best(Path(source), mapped=False)
    except UserError as error:
        print(f"note: the networks that {plan.resumed} started from are gone ({error})")
        return None
    return path, state


@contextmanager
def open_gan_run(
    plan: Plan[Settings], data: ImageDataset, trainer: Trainer, validator: Validator | None, name: str
) -> Iterator[tuple[Path, GanLoop]]:
    """Lock a run folder while the block runs, and load the resumed run's state; see `engine.setup.open_run`.

    Yields:
        The run, and the loop that trains in it.
    """
    loop = GanLoop(trainer, None, _spread(data.images), validator)

    def resume(state: dict[str, Any]) -> BestTracker:
        loop.load_state(state)
        return loop.best

    def write_files(logger: RunLogger) -> None:
        data.write_skipped(logger.run / "skipped.txt")
        if not plan.resumed:
            logger.log_real_images(tile(_spread(data.images), GRID_COLUMNS))

    world = trainer.world
    facts = world.on_rank_zero(lambda: _data_facts(plan, data))
    loop.fine_tuned = "begun_from" in facts
    try:
        opened = open_run(plan, name, resume, lambda: trainer.step_count, facts, write_files, world)
        with opened as (run, logger):
            loop.logger = logger
            yield run, loop
    finally:
        trainer.release()


def _data_facts(plan: Plan[Settings], data: ImageDataset) -> dict[str, Any]:
    """What config.json says about the data."""
    facts: dict[str, Any] = {
        "folder": str(data.folder),
        "digest": data.digest,
        "images": len(data.images),
        "held_out": int(data.held_out.sum()),
        "skipped": len(data.skipped),
        "duplicates": data.duplicates,
    }
    if data.near_duplicates is not None:
        facts["near_duplicates"] = data.near_duplicates
    if plan.source:
        # Absolute, as a run may be resumed from another working directory.
        facts["begun_from"] = str(plan.source.absolute())
    elif plan.resumed and (source := read_info(plan.resumed).data.get("begun_from")):
        facts["begun_from"] = source
    return facts


def _report_leaks(plan: Plan[Settings], data: ImageDataset, world: World) -> None:
    """Report held-out images that the networks were already trained on, in this run or its source."""
    run = plan.resumed or plan.source
    if run is None:
        return
    before: RunInfo = world.on_rank_zero(lambda: read_info(run))
    share, count = before.settings.held_out, int(data.held_out.sum())
    keys = data.split_keys if groups_near_duplicates(before) else data.fingerprints
    if before.data.get("digest") != data.digest:
        source_share = holdout_share(before.data.get("images", 0), share)
        if leaked := int((data.held_out & (keys >= np.uint64(source_share * 2**64))).sum()):
            print(
                f"note: {run} was trained on other images. If they include these, it was trained on up to "
                f"{leaked:,} of the {count:,} images held out now, and scores are too good"
            )
    elif leaked := int((data.held_out & ~holdout_mask(keys, share)).sum()):
        advice = f"; --held-out {share:g}, as there, holds out none of them" * (
            share != plan.settings.held_out
        )
        print(
            f"note: {run} was trained on {leaked:,} of the {count:,} images held out now, so scores are too "
            f"good{advice}"
        )


def _check_shards(settings: Settings, world: World) -> None:
    """Raise `UserError` if a process would have a single image, or batch norm in D a single pack."""
    with_batch_norm = settings.normalisation == "batch"
    smallest = world.size * (2 * settings.pack if with_batch_norm else max(2, settings.pack))
    if settings.batch_size < smallest:
        processes = f" for {world.size} processes" if world.size > 1 else ""
        raise UserError(
            f"--batch-size {settings.batch_size} is too small{processes}: it must be {smallest} or more"
        )
    negatives = count_negatives(settings.negatives, settings.batch_size, settings.pack)
    minimum = settings.pack * max(world.size, 2) if with_batch_norm else 0
    if 0 < negatives < minimum:
        users = f"{world.size} processes" if world.size > 1 else "the statistics"
        raise UserError(
            f"with batch norm in D, {users} need {minimum} negatives or more, and --negatives "
            f"{settings.negatives:g} of --batch-size {settings.batch_size} are {negatives}: give more, or "
            "--negatives 0"
        )


def _spread(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """As many images as a sample grid has, from all over the set: neighbours are often much alike."""
    return images[np.linspace(0, len(images) - 1, min(SAMPLES, len(images))).astype(int)]


def _resume(argv: Sequence[str], arguments: TrainingArguments) -> Plan[Settings]:
    run = GAN.find_run(arguments, arguments.output)
    assert run is not None
    before = read_info(run).settings
    # A new --steps or --minutes replaces the old limit, even one of the other kind.
    ends = arguments.steps is not None or arguments.minutes is not None
    defaults = replace(before, steps=None, minutes=None) if ends else before
    settings, device = _decide(settings_of(parse_arguments(argv, TrainingArguments, defaults), Settings))
    if settings.preset != before.preset:
        raise UserError(f"--preset chooses the settings of a new run; {run} has its own")
    if not arguments.force:
        check_same_results(run, before, settings, RESUMABLE)
    path, state = _check_checkpoint(run, before, settings)
    trained = replace(before, **_stored_settings(state))
    edited = changed(trained, before, RESUMABLE)
    if edited and not arguments.force:
        raise UserError(
            f"{run}/config.json has another {', '.join(map(flag, edited))} than {path} was trained with: "
            "undo the change, or insist with --force"
        )
    loss, stored = type(losses.adversarial_loss).__name__, state.get("loss", losses.CrossEntropy.__name__)
    if loss != stored and not arguments.force:
        raise UserError(
            f"{run} was trained with the loss {stored}, not {loss}: undo that, or insist with --force"
        )
    plan = Plan(GAN, settings, device, resumed=run, force=arguments.force)
    check_steps(plan, run, state["step"])
    check_folders(plan)
    return plan


def _stored_settings(state: dict[str, Any]) -> dict[str, Any]:
    """The settings that a checkpoint was trained with; none in one of an early version."""
    stored = state.get("settings", {})
    return {name: value for name, value in upgrade(stored).items() if name not in RESUMABLE} if stored else {}


def _start(argv: Sequence[str], arguments: TrainingArguments) -> Plan[Settings]:
    on_drawn_faces = arguments.folder is None
    defaults = preset_settings(arguments.preset or ("quick" if on_drawn_faces else "evening"))
    if on_drawn_faces:
        defaults = replace(defaults, pack=1, negatives=0.0)  # both hold G back there: docs/experiments.md
    source = GAN.find_run(arguments, arguments.output)
    if source:
        source_settings = read_info(source).settings
        preset = defaults if arguments.preset else source_settings
        fixed = {*NETWORK_SETTINGS} - {"image_size", "latent_size"}
        if any(getattr(source_settings, name) != getattr(preset, name) for name in fixed):
            raise UserError(f"--preset requires other networks than those of {source}: omit it")
        defaults = replace(defaults, **{name: getattr(source_settings, name) for name in NETWORK_SETTINGS})
    settings, device = _decide(settings_of(parse_arguments(argv, TrainingArguments, defaults), Settings))
    if source:
        _check_checkpoint(source, source_settings, settings, best=True)
    if settings.steps is None and settings.minutes is None:
        end = {"minutes": DEFAULT_MINUTES} if settings.folder is None else {"steps": DEFAULT_STEPS}
        settings = replace(settings, **end)
    plan = Plan(GAN, settings, device, source=source)
    check_folders(plan)
    return plan


def _check_checkpoint(
    run: Path, before: Settings, settings: Settings, *, best: bool = False
) -> tuple[Path, dict[str, Any]]:
    """A run's best or newest intact checkpoint.

    Raises:
        UserError: there is none, or its networks cannot be loaded with these settings.
    """
    check_same_network(run, before, settings, NETWORK_SETTINGS)
    path, state, _ = (load_best if best else load_newest)(run)
    check_networks(run, before, path, state)
    return path, state


def _decide(settings: Settings) -> tuple[Settings, torch.device]:
    """The checked settings with the precision decided and the folder absolute; and their device."""
    check(settings)
    device = choose_device(settings.device)
    settings = replace(settings, precision=choose_precision(settings.precision, device))
    return with_absolute_folder(settings), device
