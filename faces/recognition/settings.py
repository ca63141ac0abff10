"""Every setting of a training of classes, once; see `faces.settings`. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import DisallowNone, arg

from engine.cli import RunOptions
from engine.errors import UserError
from engine.settings import MAX_WIDTH, Folder, at_least, flag
from faces.settings import OptimizerName, TrainingSettings, between, check_training

Method = Literal["scratch", "finetune", "arcface"]
Loss = Literal["arcface", "softmax"]
ScheduleName = Literal["constant", "cosine", "plateau"]


@dataclass(frozen=True)
class ClassifierSettings(TrainingSettings):
    """Everything that describes a training of classes."""

    folder: Folder = None
    """Folder with one sub-folder a class, or with train/ and validate/ that hold those. Without one, faces
    are drawn."""
    output: Path = Path("outputs/classifiers")
    """Folder of runs."""
    method: Method = "scratch"
    """scratch: a network of four convolutions (10 million weights); finetune: a new head on a pretrained
    network; arcface: an embedding, which takes in new people without training."""
    label: str | None = None
    """Where there are no sub-folders: the column of the folder's labels.csv that holds the classes, or a
    regular expression that fits the files' names, whose first group is the class."""
    held_out: float = 0.2
    """Share of each class that is never trained on, to score the network against."""
    centre: float = 1.0
    """Share of the images' side, around the middle, that is looked at: less than 1 for photos with much
    around the face."""
    balance: bool = True
    """Show each class equally often, however many images it has."""

    image_size: int | None = None
    """Side in pixels of what the network sees: 96, for finetune 224, for arcface 112 if not given."""
    steps: int | None = None
    """Steps of the whole run; 1500, for finetune 800, for arcface 4000 if not given."""
    batch_size: int = 32
    """Images a step."""
    backbone: str | None = None
    """The convolutions of finetune (vgg16 if not given) and arcface (mobilenet_v2): a network of torchvision,
    or small."""
    weights: str | None = None
    """What the backbone begins with: imagenet, none, or a file with a state dict of torchvision's; imagenet
    if not given, and none with --from-checkpoint or the backbone small."""
    from_checkpoint: Annotated[Path | None, arg(aliases=("--from",))] = None
    """Begin with the convolutions of any checkpoint of this project that looks at faces, and with the layers
    after them that fit: a file, a run's folder, or a name or number in --output. Its backbone and image size
    are taken over unless others are asked for."""
    freeze: str | None = None
    """Of finetune: the last of the backbone's layers that stay as they are; all but the last block of
    convolutions if not given, none where the backbone has learnt nothing."""
    once: bool = False
    """Of finetune: put each image and its mirror image through the frozen layers once, before training;
    faster by far, but no other variation is left."""
    stages: int | None = None
    """Of arcface: parts of the run, in the first of which the head alone learns and in the last all layers;
    4, or 1 where the backbone has learnt nothing, if not given."""
    embedding: int = 128
    """Of arcface: values in the vector of a face."""
    loss: Loss = "arcface"
    """Of arcface: its own loss, or plain softmax, to compare with."""
    scale: float = 30.0
    """Of ArcFace: s, the factor on the cosines."""
    margin: float = 0.5
    """Of ArcFace: m, added to the angle to the right class [radians]."""
    easy_margin: bool = False
    """Of ArcFace: add the margin only to angles below a right one."""

    mirror: DisallowNone[bool | None] = None
    """Mirror half of the images; true, for arcface false if not given."""
    optimizer: OptimizerName | None = None
    """adam, for finetune sgd with momentum 0.9, for arcface adamw if not given."""
    learning_rate: float | None = None
    """The highest; 1e-3, for finetune 1e-4 if not given."""
    schedule: ScheduleName | None = None
    """Of the learning rate: constant; cosine, which rises over a twentieth of the steps and falls to 0; or
    plateau, which takes 0.8 of it after 5 scores without a better one. cosine, for finetune constant, for
    arcface plateau if not given."""
    weight_decay: float | None = None
    """Of scratch on the two hidden layers (0.004), of the others on all weights (0, for arcface 0.0005)."""
    ema_half_life: float | None = None
    """Of scratch: images after which a weight counts half in the averaged network, which is the one that is
    used; 5000 if not given, 0 for none."""

    log_every: int = 20
    """Steps between lines in metrics.jsonl and TensorBoard."""
    sample_every: int = 500
    """Steps between pictures of what the network is shown in training."""
    score_every: int = 100
    """Steps between scores against the images held out; the best score's network is kept."""
    checkpoint_every: int = 100
    """Steps between checkpoints."""
    histogram_every: int = 500
    """Steps between histograms of the weights and their gradients in TensorBoard."""


@dataclass(frozen=True)
class ClassifierArguments(ClassifierSettings, RunOptions):
    """Learn to tell who or what is on an image, from a folder with one sub-folder a class."""


MOST_PIXELS = 800
"""Side of what a network may see; the largest of torchvision's networks see 600."""
TILE_RATIO = 112 / 96
"""Of scratch: side of the images that crops are cut from at random, over the side of the crops."""

NETWORK_SETTINGS = ("method", "image_size", "backbone", "embedding", "loss")
"""What two runs must share for one to start from the other's network, beside the classes."""

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
"""What stands where the user says nothing."""


def resolve(settings: ClassifierSettings) -> ClassifierSettings:
    """The settings with the method's defaults where nothing was said."""
    defaults = dict(DEFAULTS[settings.method])
    begun = settings.from_checkpoint is not None
    if begun or settings.backbone == "small":  # of which torchvision has no weights
        defaults["weights"] = "none"
    if (settings.weights or defaults["weights"]) == "none" and not begun:
        defaults["stages"] = 1
    return replace(
        settings, **{name: value for name, value in defaults.items() if getattr(settings, name) is None}
    )


def tile_side(settings: ClassifierSettings) -> int:
    """Side in pixels of the images that crops are cut from; of resolved settings."""
    assert settings.image_size is not None, "settings are resolved"
    return round(settings.image_size * (TILE_RATIO if settings.method == "scratch" else 1))


def check(settings: ClassifierSettings) -> None:
    """Raise `UserError` for the first setting that is out of its range, or of another method."""
    check_training(settings)
    between(settings, 0, float("inf"), "learning_rate scale")
    at_least(settings, 0, "weight_decay ema_half_life margin")
    at_least(settings, 1, "stages embedding")
    for name, most in (("image_size", MOST_PIXELS), ("embedding", MAX_WIDTH)):
        if (getattr(settings, name) or 0) > most:
            raise UserError(f"{flag(name)} must be at most {most}, not {getattr(settings, name)}")
    if not 0.1 <= settings.centre <= 1:
        raise UserError(f"--centre must be 0.1 to 1, not {settings.centre}")
    if settings.margin >= 3.14:
        raise UserError(f"--margin must be less than pi, not {settings.margin}")
    of_one = {
        "scratch": {"ema_half_life": (None, 0.0)},
        "finetune": {"freeze": (None,), "once": (False,)},
        "arcface": {
            **{"stages": (None, 1), "loss": ("arcface",), "easy_margin": (False,)},
            **{name: (getattr(ClassifierSettings, name),) for name in ("embedding", "scale", "margin")},
        },
    }
    for method, names in of_one.items():
        for name, neutral in names.items():
            if settings.method != method and getattr(settings, name) not in neutral:
                raise UserError(f"{flag(name)} is of --method {method}, not of {settings.method}")
    if settings.method == "scratch":
        if settings.backbone is not None:
            raise UserError("--backbone is of --method finetune and arcface; scratch has its own network")
        if settings.weights not in (None, "none"):
            raise UserError("--weights are of --method finetune and arcface; scratch begins with none")
        if settings.image_size is not None and settings.image_size % 16:
            raise UserError(f"--image-size of scratch must be a multiple of 16, not {settings.image_size}")
    if settings.from_checkpoint is not None and settings.weights not in (None, "none"):
        raise UserError(
            "--weights and --from, or --init-from, both say what to begin with: give one of the two"
        )
