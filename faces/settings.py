"""Settings that every training of a network that looks at faces has, and how they are asked for.

Each training adds its own to `TrainingSettings`; `gan.config` makes command line, config.json and tables of
them. Nothing here imports torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from engine.errors import UserError
from engine.settings import Device, Folder, at_least, flag

OptimizerName = Literal["adam", "adamw", "sgd"]


@dataclass(frozen=True)
class TrainingSettings:
    """What a training can be told, whatever it learns."""

    folder: Folder = None
    """Folder of images, and of what is to be learnt of them. Without one, faces are drawn."""
    name: str | None = None
    """Name of the run; the folder's if none is given. A number is put in front."""
    output: Path = Path("outputs")
    """Folder of runs."""
    cache: Path = Path("data/cache")
    """Folder of decoded images, kept for the next start."""
    steps: int = 6000
    """Steps of the whole run: the learning rate falls to nothing by the last one."""
    minutes: float | None = None
    """Stop after this many minutes of this sitting, wherever the run is; --resume goes on."""
    batch_size: int = 64
    """Images a step."""
    image_size: int = 64
    """Side in pixels of what the network sees."""
    held_out: float = 0.3
    """Share that is never trained on, to score the network against."""
    seed: int = 0
    """Of everything that is drawn: weights, order of the images, augmentation."""
    device: Device = "auto"
    """Where to compute; auto takes CUDA, then Apple's MPS, then the CPU."""
    workers: int | None = None
    """Processes that decode images; 0 is this one, none given one for each core."""
    log_every: int = 20
    """Steps between lines in metrics.jsonl and TensorBoard."""
    sample_every: int = 1000
    """Steps between pictures of what the network makes of images that it is not trained on."""
    score_every: int = 250
    """Steps between scores against those images; the best score's network is kept."""
    checkpoint_every: int = 500
    """Steps between checkpoints."""
    histogram_every: int = 2000
    """Steps between histograms of the weights in TensorBoard."""
    keep: int = 2
    """Checkpoints kept, the newest ones."""


FREE = frozenset(
    {
        *("folder", "name", "output", "cache", "minutes", "device", "workers", "keep"),
        *("log_every", "sample_every", "checkpoint_every", "histogram_every"),
    }
)
"""What a resumed run may change: none of it alters the mathematics of a step by itself. The number of steps
does, as the learning rate depends on it, and so does `score_every`, as a plateau is one of scores."""


def check_training(settings: TrainingSettings) -> None:
    """Raise `UserError` for the first of these settings that is out of its range."""
    at_least(settings, 1, "steps keep log_every sample_every score_every checkpoint_every histogram_every")
    at_least(settings, 0, "seed workers")
    at_least(settings, 2, "batch_size")
    at_least(settings, 32, "image_size")
    between(settings, 0, float("inf"), "minutes")
    if not 0 < settings.held_out <= 0.5:
        raise UserError(f"--held-out must be more than 0 and at most 0.5, not {settings.held_out}")
    if settings.seed >= 2**63:
        raise UserError(f"--seed must be less than 2**63, not {settings.seed}")


def between(settings: Any, low: float, high: float, names: str) -> None:
    """Raise `UserError` for the first of these settings, named in one string, that is not above and below."""
    for name in names.split():
        value = getattr(settings, name)
        if value is not None and not low < value < high:
            limits = f"more than {low:g}" + ("" if high == float("inf") else f" and less than {high:g}")
            raise UserError(f"{flag(name)} must be {limits}, not {value}")
