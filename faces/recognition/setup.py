"""From a command line to a classifier trainer: a new run, a resumed one, or one that starts from another."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from engine.checkpoint import load_path
from engine.errors import UserError
from engine.runs import DEFAULT_KIND, find_run_or_checkpoint
from engine.setup import Plan, Task, check_data
from engine.setup import make_plan as make_task_plan
from engine.worker_pool import worker_count
from faces.backbone import Backbone, load_weights
from faces.checkpoint import evaluation_weights
from faces.recognition.folder import LabelledImages, load_labelled_images
from faces.recognition.freezing import layer_before_last_block
from faces.recognition.networks import Classifier, FinetuneNetwork, make_network
from faces.recognition.settings import (
    NETWORK_SETTINGS,
    TASK_NAME,
    ClassifierArguments,
    ClassifierSettings,
    check,
    resolve,
    tile_side,
)
from faces.recognition.trainer import ClassifierTrainer
from faces.settings import RESUMABLE, upgrade

SCRIPT = "train_classifier.py FOLDER"
PARTS = {"body": "convolutions", "backbone": "convolutions", "hidden": "hidden layers", "norm": "embedding"}
"""Names of the networks' parts in messages, where they differ from the attributes' names."""


def _absolute(settings: ClassifierSettings) -> ClassifierSettings:
    """Make the path of the checkpoint to start from absolute."""
    source = settings.from_checkpoint
    with contextlib.suppress(UserError):  # a new run reports it when it loads the file; others do not need it
        source = source and find_run_or_checkpoint(source, settings.output, SCRIPT).absolute()
    return replace(settings, from_checkpoint=source)


CLASSIFIER = Task(
    name=TASK_NAME,
    script=SCRIPT,
    settings=ClassifierSettings,
    arguments=ClassifierArguments,
    check=check,
    network=NETWORK_SETTINGS,
    resumable=RESUMABLE,
    upgrade=upgrade,
    absolute=_absolute,
)


def make_plan(argv: Sequence[str]) -> Plan[ClassifierSettings]:
    """Parse a command line. Missing settings are those of the checkpoint to start from, or of the method.

    `--init-from RUN` is `--from RUN` with the settings of that run's network.

    Raises:
        UserError: as `engine.setup.make_plan`; or the run cannot start from that checkpoint.
    """
    plan = make_task_plan(argv, CLASSIFIER)
    settings = plan.settings
    if plan.source is not None:
        if settings.from_checkpoint is not None:
            raise UserError("--init-from and --from both give initial weights: give one of the two")
        settings = replace(settings, from_checkpoint=plan.source.absolute())
    if settings.from_checkpoint is not None and plan.resumed is None:
        source = find_run_or_checkpoint(settings.from_checkpoint, settings.output, SCRIPT)
        settings = _with_source_defaults(settings, _load_source(source)[1])
    settings = resolve(settings)
    if settings.method == "finetune":
        settings = _with_frozen_layers(settings)
    check(settings)
    return replace(plan, settings=settings)


def load_data(plan: Plan[ClassifierSettings], folder: Path) -> LabelledImages:
    """Load the folder of classes.

    Raises:
        UserError: as `load_labelled_images`; or a resumed run was trained on other data.
    """
    settings = plan.settings
    data = load_labelled_images(
        folder,
        tile_side(settings),
        cache=settings.cache,
        workers=worker_count(settings.workers),
        label=settings.label,
        centre=settings.centre,
        held_out=settings.held_out,
        exclude=settings.exclude,
    )
    check_data(plan, data.digest, len(data.images))
    return data


def make_trainer(plan: Plan[ClassifierSettings], data: LabelledImages) -> ClassifierTrainer:
    """A trainer at step 0, with initial weights. Nothing is written yet.

    Raises:
        UserError: the backbone does not exist, or its weights or the checkpoint cannot be loaded.
    """
    settings = plan.settings
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = make_network(settings, len(data.classes))
    if plan.resumed is None:
        _initialize(network, settings, data.classes)
    if isinstance(network, FinetuneNetwork):
        network.backbone.freeze(settings.freeze)
    return ClassifierTrainer(settings, data, network, plan.device)


def initialize_from_checkpoint(
    network: Classifier, path: Path, state: dict[str, Any], classes: tuple[str, ...]
) -> None:
    """Copy the parts of a checkpoint's network that fit as a whole, and report which.

    The convolutions must fit. The layers after them are copied if they do, and the head only if all other
    parts fit and the classes are the same.

    Args:
        network: changed in place.
        path: of the checkpoint, for messages.
        state: contents of the checkpoint.
        classes: of the network.

    Raises:
        UserError: the convolutions do not fit.
    """
    weights = evaluation_weights(state)
    parts: dict[str, list[str]] = {}
    misfits: dict[str, str] = {}
    for name, weight in network.state_dict().items():
        part = name.partition(".")[0]
        parts.setdefault(part, []).append(name)
        if name not in weights or weights[name].shape != weight.shape:
            misfits.setdefault(part, name)
    for part in ("backbone", "body"):
        if part in misfits:
            raise UserError(f"cannot start from {path}: its network has no {misfits[part]} of that shape")
    if misfits or tuple(state.get("classes", ())) != classes:
        misfits.setdefault("head", "")
    copied = [part for part in parts if part not in misfits]
    network.load_state_dict({name: weights[name] for part in copied for name in parts[part]}, strict=False)
    names = dict.fromkeys(PARTS.get(part, part) for part in copied)
    print(f"starting from the {' and '.join(names) if misfits else 'network'} of {path}")


def _initialize(network: Classifier, settings: ClassifierSettings, classes: tuple[str, ...]) -> None:
    if settings.from_checkpoint is not None:
        initialize_from_checkpoint(network, *_load_source(settings.from_checkpoint), classes)
    elif settings.weights not in (None, "none"):
        backbone = network.get_submodule("backbone")
        assert isinstance(backbone, Backbone), "only networks with a backbone have --weights"
        try:
            load_weights(backbone, settings.weights)
        except UserError as error:
            raise UserError(f"{error}; or start from a checkpoint, with --from CHECKPOINT") from None


def _load_source(path: Path) -> tuple[Path, dict[str, Any]]:
    """The file and contents of the checkpoint to start from: a run's best one, or the file itself."""
    file, state = load_path(path)
    if "network" not in state or "image_size" not in state.get("settings", {}):
        raise UserError(
            f"{file} is of another kind: {state.get('kind', DEFAULT_KIND)}, not {TASK_NAME}; --from takes a "
            "checkpoint of train_classifier.py or train_landmarks.py"
        )
    return file, state


def _with_source_defaults(settings: ClassifierSettings, state: dict[str, Any]) -> ClassifierSettings:
    """Fill in backbone and image size from the checkpoint to start from, where they are not given."""
    source, kind = state["settings"], state["kind"]
    if settings.method == "scratch" and kind != TASK_NAME:
        raise UserError(
            f"{settings.from_checkpoint} is of another kind: {kind}, not {TASK_NAME}; its convolutions fit "
            "--method finetune and arcface, but not scratch"
        )
    if settings.method != "scratch" and settings.backbone is None:
        if source.get("backbone") is None:
            raise UserError(
                f"{settings.from_checkpoint} contains a network without a backbone; only --method scratch "
                "can start from it"
            )
        settings = replace(settings, backbone=source["backbone"])
    return settings if settings.image_size else replace(settings, image_size=source["image_size"])


def _with_frozen_layers(settings: ClassifierSettings) -> ClassifierSettings:
    """Fill in the last frozen layer, where it is not given."""
    assert settings.backbone is not None, "settings are resolved"
    pretrained = settings.weights != "none" or settings.from_checkpoint is not None
    backbone = Backbone(settings.backbone)
    if settings.freeze is None and pretrained:
        settings = replace(settings, freeze=layer_before_last_block(backbone))
    if settings.freeze is not None and not pretrained:
        raise UserError("--freeze needs trained layers: add --weights or --from")
    if settings.once and settings.freeze not in backbone.layer_names:
        raise UserError(f"--once needs frozen layers: give --freeze one of {', '.join(backbone.layer_names)}")
    return settings
