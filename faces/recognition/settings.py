"""The settings of classifier training; see `faces.settings`. Nothing here imports torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from tyro.conf import DisallowNone, arg

from engine.cli import RunOptions
from engine.errors import UserError
from engine.settings import MAX_WIDTH, Folder, Groups, TrainingSettings, at_least, between, flag
from faces.settings import OptimizerName, check_supervised

TASK_NAME = "classifier"
"""Kind of these runs in config.json and in checkpoints."""

Method = Literal["scratch", "finetune", "arcface"]
Loss = Literal["arcface", "softmax"]
ScheduleName = Literal["constant", "cosine", "plateau"]


@dataclass(frozen=True)
class ClassifierSettings(TrainingSettings):
    """The settings of classifier training."""

    GROUPS: ClassVar[Groups] = {
        "everyday": "folder method steps minutes image_size batch_size name resume init_from dry_run",
        "data": "exclude label held_out centre balance mirror cache workers",
        "network": "backbone weights from_checkpoint freeze embedding",
        "logging and saving": "output log_every sample_every score_every checkpoint_every keep",
        "expert": "once stages loss scale margin easy_margin optimizer learning_rate schedule weight_decay "
        "ema_half_life device seed force",
    }

    folder: Folder = None
    """Folder with one sub-folder per class, or with train/ and validate/ that contain those. Without one,
    train on drawn faces."""
    output: Path = Path("outputs/classifiers")
    """Folder of runs."""
    method: Method = "scratch"
    """scratch: a network of four convolutions (10 million weights); finetune: a new head on a pretrained
    network; arcface: an embedding, by which new people can be enrolled without training."""
    label: Annotated[str | None, arg(metavar="COLUMN|REGEX")] = None
    """Without sub-folders: the column of the folder's labels.csv with the classes, or a regular expression
    for the file names, whose first group is the class."""
    held_out: float = 0.2
    """Share of each class that is held out for scoring."""
    centre: float = 1.0
    """Share of the images' side that is used, around the centre; less than 1 for photos with wide margins
    around the face."""
    balance: bool = True
    """Sample all classes equally often, whatever their numbers of images."""

    image_size: int | None = None
    """Side of the network's input in pixels. By default 96, for finetune 224, for arcface 112."""
    steps: int | None = None
    """Steps of the whole run. By default 1500, for finetune 800, for arcface 4000."""
    batch_size: int = 32
    """Images per step."""
    backbone: str | None = None
    """Backbone of finetune (by default vgg16) and arcface (by default mobilenet_v2): a torchvision network,
    or small."""
    weights: str | None = None
    """Initial weights of the backbone: imagenet, none, or a file with a torchvision state dict. By default
    imagenet, but none with --from-checkpoint or --backbone small."""
    from_checkpoint: Annotated[Path | None, arg(aliases=("--from",))] = None
    """Initialise the convolutions, and the layers after them that fit, from a checkpoint of
    train_classifier.py or train_landmarks.py: a file, a run's folder, or a name or number in --output. Its
    backbone and image size are the defaults."""
    freeze: Annotated[str | None, arg(metavar="LAYER")] = None
    """For finetune: last frozen layer of the backbone. By default the one before the last block of
    convolutions, or none if the backbone is not pretrained."""
    once: bool = False
    """For finetune: run each image and its mirror image through the frozen layers once, before training; much
    faster, but without any other augmentation."""
    stages: int | None = None
    """For arcface: stages of the run, from training only the head to training all layers. By default 4, or 1
    if the backbone is not pretrained."""
    embedding: int = 128
    """For arcface: size of the embedding."""
    loss: Loss = "arcface"
    """For arcface: ArcFace, or plain softmax for comparison."""
    scale: float = 30.0
    """For the ArcFace loss: s, the factor on the cosines."""
    margin: float = 0.5
    """For the ArcFace loss: m, added to the angle to the true class [radians]."""
    easy_margin: bool = False
    """For the ArcFace loss: add the margin only to angles below a right angle."""

    mirror: DisallowNone[bool | None] = None
    """Mirror half of the images. By default true, for arcface false."""
    optimizer: OptimizerName | None = None
    """adam, sgd with momentum 0.9, or adamw. By default adam, for finetune sgd, for arcface adamw."""
    learning_rate: float | None = None
    """Maximum learning rate. By default 1e-3, for finetune 1e-4."""
    schedule: ScheduleName | None = None
    """Learning rate schedule: constant; cosine, with a linear warm-up over the first twentieth of the steps;
    or plateau, which multiplies the rate by 0.8 after 5 scores without an improvement. By default cosine, for
    finetune constant, for arcface plateau."""
    weight_decay: float | None = None
    """Weight decay. By default 0.004 for scratch, where it applies to the two hidden layers only, 0 for
    finetune, and 0.0005 for arcface."""
    ema_half_life: float | None = None
    """For scratch: half-life in images of the moving average of the weights (EMA), which is scored and used.
    By default 5000; 0 disables it."""

    log_every: int = 20
    """Steps between lines in metrics.jsonl and TensorBoard."""
    sample_every: int = 500
    """Steps between pictures of augmented training images."""
    score_every: int = 100
    """Steps between scores on the held-out images; the checkpoint with the best score is kept."""
    checkpoint_every: int = 100
    """Steps between checkpoints."""


@dataclass(frozen=True)
class ClassifierArguments(ClassifierSettings, RunOptions):
    """Train an image classifier on a folder with one sub-folder per class."""


MAX_IMAGE_SIZE = 800
"""The largest input of a network of torchvision is 600 pixels."""
TILE_RATIO = 112 / 96
"""Side of the images that scratch takes random crops from, over the side of the crops."""

NETWORK_SETTINGS = ("method", "image_size", "backbone", "embedding", "loss")
"""Settings that must agree, besides the classes, to start from another run's network."""

DEFAULTS: dict[Method, dict[str, Any]] = {
    "scratch": {
        **{"image_size": 96, "steps": 1500, "weights": "none", "stages": 1, "mirror": True},
        **{"optimizer": "adam", "learning_rate": 1e-3, "schedule": "cosine", "weight_decay": 0.004},
        **{"ema_half_life": 5000.0},
    },
    "finetune": {
        **{"image_size": 224, "steps": 800, "backbone": "vgg16", "weights": "imagenet", "stages": 1},
        **{"optimizer": "sgd", "learning_rate": 1e-4, "schedule": "constant", "weight_decay": 0.0},
        **{"ema_half_life": 0.0, "mirror": True},
    },
    "arcface": {
        **{"image_size": 112, "steps": 4000, "backbone": "mobilenet_v2", "weights": "imagenet", "stages": 4},
        **{"optimizer": "adamw", "learning_rate": 1e-3, "schedule": "plateau", "weight_decay": 5e-4},
        **{"ema_half_life": 0.0, "mirror": False},
    },
}
"""Defaults that depend on the method."""


def resolve(settings: ClassifierSettings) -> ClassifierSettings:
    """Replace settings that are None with the method's defaults."""
    defaults = dict(DEFAULTS[settings.method])
    from_checkpoint = settings.from_checkpoint is not None
    if from_checkpoint or settings.backbone == "small":  # torchvision has no weights for it
        defaults["weights"] = "none"
    if (settings.weights or defaults["weights"]) == "none" and not from_checkpoint:
        defaults["stages"] = 1
    return replace(
        settings, **{name: value for name, value in defaults.items() if getattr(settings, name) is None}
    )


def tile_side(settings: ClassifierSettings) -> int:
    """Side in pixels of the images that crops are taken from, by resolved settings."""
    assert settings.image_size is not None, "settings are resolved"
    return round(settings.image_size * (TILE_RATIO if settings.method == "scratch" else 1))


def check(settings: ClassifierSettings) -> None:
    """Raise `UserError` for the first setting that is out of range, or belongs to another method."""
    check_supervised(settings)
    between(settings, 0, float("inf"), "learning_rate scale")
    at_least(settings, 0, "weight_decay ema_half_life margin")
    at_least(settings, 1, "stages embedding")
    for name, limit in (("image_size", MAX_IMAGE_SIZE), ("embedding", MAX_WIDTH)):
        if (getattr(settings, name) or 0) > limit:
            raise UserError(f"{flag(name)} must be at most {limit}, not {getattr(settings, name)}")
    if not 0.1 <= settings.centre <= 1:
        raise UserError(f"--centre must be 0.1 to 1, not {settings.centre}")
    if settings.margin >= math.pi:
        raise UserError(f"--margin must be less than pi, not {settings.margin}")
    method_only = {
        "scratch": {"ema_half_life": (None, 0.0)},
        "finetune": {"freeze": (None,), "once": (False,)},
        "arcface": {
            **{"stages": (None, 1), "loss": ("arcface",), "easy_margin": (False,)},
            **{name: (getattr(ClassifierSettings, name),) for name in ("embedding", "scale", "margin")},
        },
    }
    for method, defaults in method_only.items():
        for name, allowed in defaults.items():
            if settings.method != method and getattr(settings, name) not in allowed:
                raise UserError(f"{flag(name)} is for --method {method}, not {settings.method}")
    if settings.method == "scratch":
        if settings.backbone is not None:
            raise UserError("--backbone is for --method finetune and arcface; scratch has its own network")
        if settings.weights not in (None, "none"):
            raise UserError("--weights is for --method finetune and arcface; scratch is not pretrained")
        if settings.image_size is not None and settings.image_size % 16:
            raise UserError(f"--image-size must be a multiple of 16 for scratch, not {settings.image_size}")
    if settings.from_checkpoint is not None and settings.weights not in (None, "none"):
        raise UserError(
            "--weights and --from (or --init-from) both give initial weights: give one of the two"
        )
