"""Every setting of a GAN run, with its default, unit and meaning; the presets; older runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from engine.cli import RunOptions
from engine.errors import UserError
from engine.runs import RunInfo
from engine.runs import read_info as read_any_info
from engine.settings import (
    MAX_WIDTH,
    Folder,
    Groups,
    Precision,
    TrainingSettings,
    at_least,
    between,
    check_training,
    flag,
)
from engine.settings import from_json as from_any_json

Preset = Literal["quick", "evening", "textbook"]
Normalisation = Literal["batch", "layer", "none"]
Augmentation = Literal["none", "always", "adaptive"]
Widths = tuple[int, int, int, int]

IMAGE_SIZES = range(32, 257, 16)
MIN_IMAGES = 8
DEFAULT_STEPS = 14_000
MAX_PACK = 16
"""Maximum of --pack: no more than the held-out images that a score needs."""
GENERATOR_SUFFIX = ".safetensors"
"""Extension of the file that export.py writes, with the generator alone."""
BETA1 = 0.5
"""Adam's decay of the mean gradient per step (Radford et al. 2015)."""


@dataclass(frozen=True)
class Settings(TrainingSettings):
    """Everything that describes a run."""

    GROUPS: ClassVar[Groups] = {
        "everyday": "folder steps minutes image_size batch_size preset name resume init_from dry_run",
        "data": "exclude held_out flip augmentation cache workers",
        "network": "generator_widths discriminator_widths latent_size pack normalisation head_scale",
        "logging and saving": "output log_every sample_every score_every checkpoint_every keep",
        "expert": "learning_rate beta2 negatives ema_half_life precision device seed force",
    }

    folder: Folder = None
    """Folder of face photos, flat or nested. Without one, train on drawn faces, without packs and
    negatives."""
    preset: Preset | None = None
    """`quick` is for a first look within minutes: generator G with 192 128 64 32 channels, discriminator D
    with 48 96 192 384, smaller initial weights, batches of 32. `evening` is for some hours on a CPU: G 512
    256 128 64, D 64 128 256 512, batches of 48. `textbook` is for comparison: as evening, but in batches of
    96, without packs, averaged weights, augmentation and negatives, with batch norm on all of D, unscaled
    logits and beta2 0.999. The default is evening, and quick without a FOLDER."""
    steps: int | None = None
    """Stop after this many steps. Without steps and minutes, a run takes 14000 steps on a FOLDER, and 15
    minutes on drawn faces."""
    minutes: float | None = None
    """Stop this many minutes after the start."""
    batch_size: int = 48
    """Real images per step over all processes, and as many generated ones."""
    image_size: int = 96
    """Side of the images in pixels: a multiple of 16 from 32 to 256."""
    held_out: float = 0.05
    """Share of the images that is held out for scoring: at least 200 images, or about a fifth of fewer than
    1,000. 0 for none, and no scores."""
    precision: Precision = "auto"
    """Precision of the networks' arithmetic (weights are always float32); auto takes bfloat16 where it is
    faster."""

    generator_widths: Widths = (512, 256, 128, 64)
    """Channels of G's first feature map and of each transposed convolution but the last."""
    discriminator_widths: Widths = (64, 128, 256, 512)
    """Channels after each of D's convolutions."""
    latent_size: int = 100
    """Values in a latent vector, each uniform in [-1, 1]."""
    pack: int = 2
    """Images that D judges as one, all real or all generated (PacGAN, Lin et al. 2018), which lets it detect
    mode collapse: from 1 (no packs) to 16. --batch-size must be a multiple of it."""
    normalisation: Normalisation = "layer"
    """Normalisation in D: batch norm on all layers, layer norm on all but the first (Ba et al. 2016), or
    none."""
    head_scale: float = 0.25
    """Factor on D's logits. A value below 1 limits how much one step of Adam changes them."""
    learning_rate: float = 1e-4
    """Learning rate of Adam for both networks."""
    beta2: float = 0.99
    """Adam's decay of the mean squared gradient per step. It forgets the large gradients of the start sooner
    than the usual 0.999, and learns faster."""
    flip: bool = True
    """Mirror half of the real images."""
    augmentation: Augmentation = "adaptive"
    """Translate the images in front of D, real and generated (Zhao et al. 2020): none, always, or an adaptive
    share (Karras et al. 2020)."""
    negatives: float = 0.25
    """Weight, within D's loss on fakes, of negatives: pairs of real faces blended in patches, which D must
    classify as fake (Sinha et al. 2021); 0 for none, at most 0.5."""
    ema_half_life: float = 10_000.0
    """Half-life of the averaged generator's weights, in images; 0 for no average."""

    log_every: int = 10
    """Steps between lines in metrics.jsonl and TensorBoard."""
    sample_every: int = 100
    """Steps between sample grids."""
    score_every: int = 500
    """Steps between scores on the held-out images, each of which takes a CPU as long as a dozen steps; the
    best generator is kept."""
    keep: int = 3
    """Number of newest checkpoints to keep."""


PRESETS: dict[Preset, dict[str, Any]] = {
    "quick": {
        "generator_widths": (192, 128, 64, 32),
        "discriminator_widths": (48, 96, 192, 384),
        "batch_size": 32,
    },
    "evening": {},
    "textbook": {
        "batch_size": 96,
        "pack": 1,
        "normalisation": "batch",
        "head_scale": 1.0,
        "beta2": 0.999,
        "augmentation": "none",
        "negatives": 0.0,
        "ema_half_life": 0.0,
    },
}

NETWORK_SETTINGS = (
    *("image_size", "latent_size", "generator_widths", "discriminator_widths"),
    *("pack", "normalisation", "head_scale"),
)
"""Settings that two runs must share for one to start from the other's networks."""

RESUMABLE = frozenset(
    {
        *("folder", "exclude", "name", "output", "cache", "steps", "minutes", "device", "workers", "keep"),
        *("log_every", "sample_every", "score_every", "checkpoint_every"),
    }
)
"""Settings that may change when a run is resumed, as none changes what a step computes. (The data set is
compared by its pixels, wherever it is and whatever is excluded.)"""

REMOVED = {
    "accumulate": 1,
    "sync_batch_norm": True,
    "updates": "simultaneous",
    "weight_decay": 0.0,
    "beta1": BETA1,
}
"""Settings of earlier versions that are constants now, with the constant."""
RENAMED_PRESETS = {"light": None, "paper": None, "plain": "textbook", "night": "evening"}
"""Presets of earlier versions, with their names in this one; None for one that was removed."""
IGNORED = frozenset({"cuda_graph", "memory_share", "histogram_every", "plain", "augmentation_target"})
"""Settings of earlier versions that changed no result, or that `upgrade` converts."""


@dataclass(frozen=True)
class TrainingArguments(Settings, RunOptions):
    """Train a DCGAN on a folder of face photos, and watch it learn in outputs/ and TensorBoard.

    The defaults shown are those of the preset `evening`.
    """


def preset_settings(preset: Preset) -> Settings:
    """The settings of a preset."""
    return replace(Settings(), preset=preset, **PRESETS[preset])


def check(settings: Settings) -> None:
    """Raise `UserError` for the first setting that is out of range."""
    size = settings.image_size
    if size not in IMAGE_SIZES:
        nearest = sorted(IMAGE_SIZES, key=lambda valid: abs(valid - size))[:2]
        if size < IMAGE_SIZES[0] or size > IMAGE_SIZES[-1]:
            nearest = nearest[:1]
        suggestion = " or ".join(map(str, sorted(nearest)))
        raise UserError(
            f"--image-size must be a multiple of 16 from 32 to 256, not {size}; nearest: {suggestion}"
        )
    check_training(settings)
    at_least(settings, 1, "latent_size")
    at_least(settings, 0, "ema_half_life")
    between(settings, 0, float("inf"), "learning_rate head_scale")
    for name in ("negatives", "held_out"):
        if not 0 <= getattr(settings, name) <= 0.5:
            raise UserError(f"{flag(name)} must be 0 to 0.5, not {getattr(settings, name)}")
    if not 0 <= settings.beta2 < 1:
        raise UserError(f"--beta2 must be at least 0 and less than 1, not {settings.beta2}")
    for name in ("generator_widths", "discriminator_widths"):
        widths = getattr(settings, name)
        if not 1 <= min(widths) <= max(widths) <= MAX_WIDTH:
            raise UserError(f"{flag(name)} must be 1 to {MAX_WIDTH} each, not {' '.join(map(str, widths))}")
    if settings.latent_size > MAX_WIDTH:
        raise UserError(f"--latent-size must be 1 to {MAX_WIDTH}, not {settings.latent_size}")
    if settings.batch_size < 2:
        raise UserError(
            f"--batch-size must be 2 or more, not {settings.batch_size}: batch norm needs several images"
        )
    if not 1 <= settings.pack <= MAX_PACK:
        raise UserError(f"--pack must be 1 to {MAX_PACK}, not {settings.pack}")
    if settings.batch_size % settings.pack:
        nearest = max(1, round(settings.batch_size / settings.pack)) * settings.pack
        raise UserError(
            f"--batch-size must be a multiple of --pack {settings.pack}, such as {nearest}, not "
            f"{settings.batch_size}"
        )


def from_json(values: dict[str, Any]) -> Settings:
    """Settings from a run's config.json, also of a run of an earlier version.

    Raises:
        UserError: a value is missing, unknown, of the wrong type or out of range, or no longer supported.
    """
    settings = from_any_json(upgrade(values), Settings)
    check(settings)
    return settings


def upgrade(values: dict[str, Any]) -> dict[str, Any]:
    """The settings of a run of an earlier version, by name, as this version names them."""
    for name, constant in REMOVED.items():
        if values.get(name, constant) != constant:
            raise UserError(
                f"the run was trained with {flag(name)} {values[name]}, which is no longer supported"
            )
    upgraded = {name: value for name, value in values.items() if name not in REMOVED.keys() | IGNORED}
    upgraded.setdefault("negatives", 0.0)
    upgraded.setdefault("pack", 1)
    upgraded.setdefault("exclude", ())
    if values.get("plain") is True:
        upgraded["preset"] = "textbook"
    preset = upgraded.get("preset")
    if isinstance(preset, str) and preset in RENAMED_PRESETS:
        upgraded["preset"] = RENAMED_PRESETS[preset]
    policy, target = values.get("augmentation"), values.get("augmentation_target", 0.0)
    if isinstance(policy, list | tuple):
        given = [*policy], target if policy else 0.0
        modes = {"none": ([], 0.0), "always": (["translation"], 0.0), "adaptive": (["translation"], 0.7)}
        mode = next((mode for mode, meaning in modes.items() if meaning == given), None)
        if mode is None:
            raise UserError(f"the run was trained with --augmentation {policy}, which is no longer supported")
        upgraded["augmentation"] = mode
    return upgraded


def is_generator_file(path: str | Path) -> bool:
    """Whether a path names a file of export.py that takes the place of a run."""
    return str(path).lower().endswith(GENERATOR_SUFFIX)


def read_info(run: Path) -> RunInfo:
    """A GAN run's config.json; see `engine.runs.read_info`."""
    return read_any_info(run, "gan", from_json)


def groups_near_duplicates(info: RunInfo) -> bool:
    """Whether near-duplicates are on the same side of a run's split, as in all but early runs."""
    return "near_duplicates" in info.data
