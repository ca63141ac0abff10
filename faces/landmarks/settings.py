"""The settings of landmark training; see `faces.settings`. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from tyro.conf import arg

from engine.cli import RunOptions
from engine.settings import Folder, Groups, TrainingSettings, at_least, between
from faces.settings import check_supervised

TASK_NAME = "landmarks"
"""Kind of these runs in config.json and in checkpoints."""

LossName = Literal["point", "distance", "distances", "triangles", "areas", "wing"]
OptimizerName = Literal["adamw", "sgd"]


@dataclass(frozen=True)
class LandmarkSettings(TrainingSettings):
    """The settings of landmark training."""

    GROUPS: ClassVar[Groups] = {
        "everyday": "folder steps minutes image_size batch_size name resume init_from dry_run",
        "data": "exclude csv points person held_out mirror turn scale shift colour cache workers",
        "network": "backbone weights freeze",
        "logging and saving": "output log_every sample_every score_every checkpoint_every keep",
        "expert": "loss optimizer learning_rate weight_decay ema_half_life device seed force",
    }

    folder: Folder = None
    """Folder of photos with landmarks in a CSV or .cat files. Without one, train on drawn faces."""
    output: Path = Path("outputs/landmarks")
    """Folder of runs."""
    csv: Path | None = None
    """CSV of the landmarks, `file, x0, y0, ...` in pixels. By default landmarks.csv or labels.csv in the
    folder, or else its .cat files."""
    points: str | None = None
    """Point set: faces-68, faces-5, cats-9, drawn-29 or a JSON file. By default the built-in set with this
    number of points."""
    person: Annotated[str | None, arg(metavar="REGEX")] = None
    """Regular expression for a file's name without suffix or, if it contains a /, its path; its first group
    names the person. By default the column `person`, or in a CSV without it the name up to the last `_NN`, or
    the folder if there is no `_NN`."""
    held_out: float = 0.3
    """Share of the people that is held out for scoring."""

    backbone: str = "small"
    """Convolutional network: small, for a CPU, or one of torchvision's such as resnet18 or resnet50."""
    weights: str = "none"
    """Initial weights of the backbone: none, imagenet, or a file with a torchvision state dict."""
    freeze: Annotated[str | None, arg(metavar="LAYER")] = None
    """Freeze the backbone up to and including this layer, such as layer2 of a ResNet."""
    loss: LossName = "wing"
    """Training loss; see docs/landmarks.md."""
    optimizer: OptimizerName = "adamw"
    """AdamW, or stochastic gradient descent with momentum 0.9."""
    learning_rate: float = 2e-3
    """Peak learning rate: linear warm-up over the first twentieth of the steps, then cosine decay to 0."""
    weight_decay: float = 0.05
    """Weight decay of the convolutions and the last layer."""
    ema_half_life: float = 20_000.0
    """Half-life in images of the moving average of the weights (EMA); 0 disables it."""

    mirror: bool = True
    """Mirror half of the crops and swap their paired points."""
    turn: float = 12.0
    """Standard deviation of the crops' rotation [degrees]."""
    scale: float = 0.12
    """Standard deviation of the logarithm of the crops' size."""
    shift: float = 0.08
    """Standard deviation of the crops' position, in sides of the landmarks' box."""
    colour: float = 0.1
    """Standard deviation of the weights of the principal colours that are added (Krizhevsky et al. 2012); 0
    disables it."""


@dataclass(frozen=True)
class LandmarkArguments(LandmarkSettings, RunOptions):
    """Train a network that predicts the landmarks of faces, from annotated photos."""


NETWORK_SETTINGS = ("image_size", "backbone")
"""Settings that must agree, besides the point set, to start from another run's network."""


def check(settings: LandmarkSettings) -> None:
    """Raise `UserError` for the first setting that is out of range."""
    check_supervised(settings)
    between(settings, 0, float("inf"), "learning_rate")
    at_least(settings, 0, "weight_decay ema_half_life turn scale shift colour")
