"""From what a user of train_classifier.py asks for to a learner that is ready."""

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
    ClassifierArguments,
    ClassifierSettings,
    check,
    resolve,
    tile_side,
)
from faces.recognition.trainer import KIND, ClassifierTrainer
from faces.settings import RESUMABLE, upgrade

SCRIPT = "train_classifier.py FOLDER"


def _absolute(settings: ClassifierSettings) -> ClassifierSettings:
    """The settings with the path from the root of the checkpoint to begin from, where there is one."""
    source = settings.from_checkpoint
    with contextlib.suppress(UserError):  # told where it is needed: it may be gone once a run has begun
        source = source and find_run_or_checkpoint(source, settings.output, SCRIPT).absolute()
    return replace(settings, from_checkpoint=source)


CLASSIFIER = Task(
    KIND,
    SCRIPT,
    ClassifierSettings,
    ClassifierArguments,
    check,
    NETWORK_SETTINGS,
    RESUMABLE,
    upgrade,
    _absolute,
)
PARTS = {"body": "convolutions", "backbone": "convolutions", "hidden": "hidden layers", "norm": "embedding"}
"""What the parts of a network are called where that is not their own name."""


def make_plan(words: Sequence[str]) -> Plan[ClassifierSettings]:
    """Read a command line; what it leaves open is what the method, or the checkpoint begun from, has.

    --init-from is --from a run, with the network as it is there.

    Raises:
        UserError: as `engine.setup.make_plan`; or a checkpoint that cannot be begun from.
    """
    plan = make_task_plan(words, CLASSIFIER)
    settings = plan.settings
    if plan.source is not None:
        if settings.from_checkpoint is not None:
            raise UserError("--init-from and --from both say what to begin with: give one of the two")
        settings = replace(settings, from_checkpoint=plan.source.absolute())
    if settings.from_checkpoint is not None and plan.resumed is None:
        source = find_run_or_checkpoint(settings.from_checkpoint, settings.output, SCRIPT)
        settings = _like_source(settings, _read_source(source)[1])
    settings = resolve(settings)
    if settings.method == "finetune":
        settings = _with_frozen(settings)
    check(settings)
    return replace(plan, settings=settings)


def load_data(plan: Plan[ClassifierSettings], folder: Path) -> LabelledImages:
    """Read the folder of classes.

    Raises:
        UserError: what is wrong with it; or it is not what a resumed run was trained on.
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
    )
    check_data(plan, data.digest, len(data.images))
    return data


def make_trainer(plan: Plan[ClassifierSettings], data: LabelledImages) -> ClassifierTrainer:
    """A learner at step 0, with the weights it is to begin with. Nothing is written yet.

    Raises:
        UserError: the backbone or its weights are not to be had, or do not fit.
    """
    settings = plan.settings
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = make_network(settings, len(data.classes))
    if plan.resumed is None:
        _begin(network, settings, data.classes)
    if isinstance(network, FinetuneNetwork):
        network.backbone.freeze(settings.freeze)
    return ClassifierTrainer(settings, data, network, plan.device)


def take_over(network: Classifier, path: Path, state: dict[str, Any], classes: tuple[str, ...]) -> None:
    """Begin with the parts of a checkpoint's network that fit as a whole, and tell which.

    The convolutions have to; the layers after them, which make the vector, may; the head does if all of them
    do, and the classes are the same.

    Args:
        network: to change in place.
        path: of the checkpoint, for messages.
        state: what it holds.
        classes: of the network.

    Raises:
        UserError: its convolutions are others.
    """
    theirs, parts = evaluation_weights(state), dict[str, list[str]]()
    lacking: dict[str, str] = {}
    for name, weight in network.state_dict().items():
        part = name.partition(".")[0]
        parts.setdefault(part, []).append(name)
        if name not in theirs or theirs[name].shape != weight.shape:
            lacking.setdefault(part, name)
    for part in ("backbone", "body"):
        if part in lacking:
            raise UserError(f"{path} cannot be begun from: its network has no {lacking[part]} of that shape")
    if lacking or tuple(state.get("classes", ())) != classes:
        lacking.setdefault("head", "")
    taken = [part for part in parts if part not in lacking]
    network.load_state_dict({name: theirs[name] for part in taken for name in parts[part]}, strict=False)
    told = dict.fromkeys(PARTS.get(part, part) for part in taken)
    print(f"beginning with the {' and '.join(told) if lacking else 'network'} of {path}")


def _begin(network: Classifier, settings: ClassifierSettings, classes: tuple[str, ...]) -> None:
    if settings.from_checkpoint is not None:
        take_over(network, *_read_source(settings.from_checkpoint), classes)
    elif settings.weights not in (None, "none"):
        backbone = network.get_submodule("backbone")
        assert isinstance(backbone, Backbone), "only backbones have weights to begin with"
        try:
            load_weights(backbone, settings.weights)
        except UserError as error:
            raise UserError(
                f"{error}; or begin with a checkpoint of this project: --from CHECKPOINT"
            ) from None


def _read_source(path: Path) -> tuple[Path, dict[str, Any]]:
    """The file and contents of a checkpoint to begin from: a run's best, or the file itself."""
    file, state = load_path(path)
    if "network" not in state or "image_size" not in state.get("settings", {}):
        raise UserError(
            f"{file} is of another kind: {state.get('kind', DEFAULT_KIND)}, not {KIND}; --from begins with a "
            "network that looks at faces, as train_classifier.py and train_landmarks.py make them"
        )
    return file, state


def _like_source(settings: ClassifierSettings, state: dict[str, Any]) -> ClassifierSettings:
    """The settings with the backbone and image size of the checkpoint to begin from, where none is given."""
    theirs, kind = state["settings"], state["kind"]
    if settings.method == "scratch" and kind != KIND:
        raise UserError(
            f"{settings.from_checkpoint} is of another kind: {kind}, not {KIND}; its convolutions are for "
            "--method finetune and arcface, not for scratch"
        )
    if settings.method != "scratch" and settings.backbone is None:
        if theirs.get("backbone") is None:
            raise UserError(
                f"{settings.from_checkpoint} is of a network without a backbone, from which only --method "
                "scratch can begin"
            )
        settings = replace(settings, backbone=theirs["backbone"])
    return settings if settings.image_size else replace(settings, image_size=theirs["image_size"])


def _with_frozen(settings: ClassifierSettings) -> ClassifierSettings:
    """The settings with the layers that stay as they are."""
    assert settings.backbone is not None, "settings are resolved"
    learnt = settings.weights != "none" or settings.from_checkpoint is not None
    backbone = Backbone(settings.backbone)
    if settings.freeze is None and learnt:
        settings = replace(settings, freeze=layer_before_last_block(backbone))
    if settings.freeze is not None and not learnt:
        raise UserError(
            "--freeze keeps layers as they are, and these have learnt nothing; see --weights, --from"
        )
    if settings.once and settings.freeze not in backbone.layer_names:
        raise UserError(
            f"--once needs frozen layers up to one of these, by --freeze: {', '.join(backbone.layer_names)}"
        )
    return settings
