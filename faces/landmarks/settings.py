"""Every setting of a training of landmarks, once; see `faces.settings`. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engine.cli import RunOptions
from engine.settings import Folder, TrainingSettings, at_least, between
from faces.settings import check_supervised

LossName = Literal["point", "distance", "distances", "triangles", "areas", "wing"]
OptimizerName = Literal["adamw", "sgd"]


@dataclass(frozen=True)
class LandmarkSettings(TrainingSettings):
    """Everything that describes a training of landmarks."""

    folder: Folder = None
    """Folder of photos with landmarks: a CSV in it, or .cat files. Without one, faces are drawn."""
    output: Path = Path("outputs/landmarks")
    """Folder of runs."""
    csv: Path | None = None
    """The landmarks, `file, x0, y0, ...` in pixels; landmarks.csv or labels.csv in the folder if not given,
    or else the .cat files there."""
    points: str | None = None
    """What the points are: faces-68, cats-9, drawn-29 or a JSON file; if not given, the one of these three
    with as many points."""
    person: str | None = None
    """Regular expression that fits a file's name without its ending or, with a / in it, its path; its first
    group names the person. If not given, a column `person` does or, in a CSV without one, what stands before
    the name's last `_NN` or, where none does, the folder."""
    held_out: float = 0.3
    """Share of the people who are never trained on, to score the network against."""

    backbone: str = "small"
    """The convolutions: small, for a CPU, or a network of torchvision such as resnet18 or resnet50."""
    weights: str = "none"
    """What the backbone begins with: none, imagenet, or a file with a state dict of torchvision's."""
    freeze: str | None = None
    """The last of the backbone's layers that stay as they are, such as layer2 of a ResNet."""
    loss: LossName = "wing"
    """What is made small: see docs/landmarks.md."""
    optimizer: OptimizerName = "adamw"
    """AdamW, or stochastic gradient descent with momentum 0.9."""
    learning_rate: float = 2e-3
    """The highest: it rises over the first twentieth of the steps and falls to 0 as half a cosine."""
    weight_decay: float = 0.05
    """Of the weights of convolutions and of the last layer."""
    ema_half_life: float = 20_000.0
    """Images after which a weight counts half in the averaged network; 0 for none."""

    mirror: bool = True
    """Mirror half of the crops, and swap the names of their points."""
    turn: float = 12.0
    """Standard deviation of the angle by which crops are turned [degrees]."""
    scale: float = 0.12
    """Of the logarithm of their size."""
    shift: float = 0.08
    """Of their place, in sides of the landmarks' box."""
    colour: float = 0.1
    """Of the weights of the principal colours that are added (Krizhevsky et al. 2012); 0 for none."""


@dataclass(frozen=True)
class LandmarkArguments(LandmarkSettings, RunOptions):
    """Learn the landmarks of faces from photos on which they are marked."""


NETWORK = ("image_size", "backbone")
"""What two runs must share for one to start from the other's network, beside the number of points."""


def check(settings: LandmarkSettings) -> None:
    """Raise `UserError` for the first setting that is out of its range."""
    check_supervised(settings)
    between(settings, 0, float("inf"), "learning_rate")
    at_least(settings, 0, "weight_decay ema_half_life turn scale shift colour")
