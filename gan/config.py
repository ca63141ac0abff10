"""Every setting of a GAN run, once: its default, unit and meaning; and the presets."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from engine.cli import RunOptions, settings_of
from engine.errors import UserError
from engine.runs import RunInfo
from engine.runs import read_info as read_any_info
from engine.settings import MAX_WIDTH, Device, Folder, Precision, at_least, flag
from engine.settings import from_json as from_any_json

Preset = Literal["light", "paper"]
Updates = Literal["separate", "simultaneous"]
Normalisation = Literal["batch", "batch-but-first", "layer", "spectral", "none"]
Augmentation = Literal["colour", "translation", "cutout"]
Widths = tuple[int, int, int, int]

IMAGE_SIZES = range(32, 257, 16)
FEWEST_IMAGES = 8
DEFAULT_STEPS = 7000


@dataclass(frozen=True)
class Settings:
    """Everything that describes a run."""

    folder: Folder = None
    """Folder of face photos, flat or nested. Without one, drawn faces are made and trained on; on a CPU,
    where no preset is named, in batches of 32 and without negatives."""
    name: str | None = None
    """Name of the run; the folder's if none is given. A number is put in front."""
    output: Path = Path("outputs")
    """Folder of runs."""
    cache: Path = Path("data/cache")
    """Folder of decoded images, kept for the next start."""
    preset: Preset | None = None
    """Sizes of the generator and the batch: `light` (250 150 90 54, 96) or `paper` (1024 512 256 128, 128);
    the default is light on a CPU, paper on a GPU."""
    plain: bool = False
    """The textbook form: batch norm on all of D, its logits as they are, beta2 0.999, simultaneous
    updates, no averaged weights, no augmentation, no
    negatives."""

    steps: int | None = None
    """Stop after this many steps; 7000 if neither steps nor minutes are given."""
    minutes: float | None = None
    """Stop after this many minutes of this sitting."""
    batch_size: int = 96
    """Images a step, of all processes together; as many generated ones."""
    accumulate: int = 1
    """Parts of its share of the batch that a process works on one after another, which takes less memory;
    batch norm takes the statistics of each part by itself."""
    sync_batch_norm: bool = True
    """Of several processes: batch norm's statistics over the batch of all of them, or of each by itself,
    which is faster."""
    cuda_graph: bool = True
    """On a GPU: record a step once as a CUDA graph and replay it, which spares the launch of each kernel."""
    image_size: int = 96
    """Side of the images in pixels: a multiple of 16 from 32 to 256."""
    seed: int = 0
    """Of everything that is drawn: weights, latent vectors, order of the images, augmentation, negatives."""
    device: Device = "auto"
    """Where to compute; auto takes CUDA, then Apple's MPS, then the CPU."""
    precision: Precision = "auto"
    """Of the networks' arithmetic (weights are always float32); auto takes bfloat16 where it proves
    faster."""
    workers: int | None = None
    """Processes that decode images or draw faces; 0 is this one, none given one for each core."""
    memory_share: float = 0.25
    """Share of the memory that images may take where they cannot be kept in the cache, from which they are
    mapped otherwise."""
    held_out: float = 0.05
    """Share of the images that is never trained on, to score the run against; at least 200 or, of few
    images, a fifth. 0 for none, and no scores."""

    generator_widths: Widths = (250, 150, 90, 54)
    """Channels of G's first feature map and after each transposed convolution but the last."""
    discriminator_widths: Widths = (64, 128, 256, 512)
    """Channels after each of D's convolutions."""
    latent_size: int = 100
    """Values in a latent vector, each uniform in [-1, 1]."""
    normalisation: Normalisation = "layer"
    """In D: batch norm on all layers, on all but the first (Radford et al. 2015), layer norm on all but the
    first (Ba et al. 2016), spectral norm of the weights (Miyato et al. 2018), or none."""
    head_scale: float = 0.25
    """Factor on D's logits: below 1, a step of Adam on the wide head swings them less."""
    updates: Updates = "simultaneous"
    """D, then G against the new D; or both from one pass of D over the fakes, which is faster."""
    learning_rate: float = 1e-4
    """Of Adam, for both networks."""
    beta1: float = 0.5
    """Adam's decay of the mean gradient [per step] (Radford et al. 2015)."""
    beta2: float = 0.99
    """Adam's decay of the mean squared gradient [per step]: it forgets the large gradients of the start
    sooner than the customary 0.999, and learns faster."""
    weight_decay: float = 0.0
    """L2 penalty on all weights, as Adam's: added to the gradient."""
    flip: bool = True
    """Mirror half of the real images."""
    augmentation: tuple[Augmentation, ...] = ("translation",)
    """What is done to all images in front of D, real, generated and blended (Zhao et al. 2020)."""
    augmentation_target: float = 0.7
    """Of D's answers about real images, the right less the wrong ones: with fewer, a smaller share of the
    images is augmented, with more a greater one (Karras et al. 2020). 0: all are, always."""
    negatives: float = 0.25
    """Of the half of D's loss that is about generated images, the share that real faces blended in patches
    have, which D is told are generated too (Sinha et al. 2021): 0, for none, to 0.5. As large a share of the
    batch is blended, beside as many real and generated images as without."""
    ema_half_life: float = 10_000.0
    """Images after which a weight of G counts half in the averaged generator; 0 for none."""

    log_every: int = 10
    """Steps between lines in metrics.jsonl and TensorBoard."""
    sample_every: int = 100
    """Steps between sample grids."""
    score_every: int = 250
    """Steps between scores against the held-out images; the best score's networks are kept."""
    checkpoint_every: int = 500
    """Steps between checkpoints."""
    histogram_every: int = 500
    """Steps between histograms of the weights in TensorBoard."""
    keep: int = 3
    """Checkpoints kept, the newest ones."""


PRESETS: dict[Preset, dict[str, Any]] = {
    "light": {"generator_widths": (250, 150, 90, 54), "batch_size": 96},
    "paper": {"generator_widths": (1024, 512, 256, 128), "batch_size": 128},
}

PLAIN: dict[str, Any] = {
    "normalisation": "batch",
    "head_scale": 1.0,
    "beta2": 0.999,
    "updates": "simultaneous",
    "augmentation": (),
    "augmentation_target": 0.0,
    "negatives": 0.0,
    "ema_half_life": 0.0,
}

NETWORKS = (
    "image_size",
    "latent_size",
    "generator_widths",
    "discriminator_widths",
    "normalisation",
    "head_scale",
)
"""What two runs must share for one to start from the other's networks."""

FREE = frozenset(
    {
        *("folder", "name", "output", "cache", "steps", "minutes", "device", "workers"),
        *("memory_share", "keep", "log_every", "sample_every", "score_every", "checkpoint_every"),
        *("histogram_every", "cuda_graph"),
    }
)
"""What a resumed run may change: none of it alters the mathematics of a step by itself. (The data set is
compared by its pixels, wherever it is.)"""

LATER = {
    "accumulate": 1,
    "sync_batch_norm": True,
    "cuda_graph": True,
    "augmentation_target": 0.0,
    "negatives": 0.0,
}
"""What runs of earlier versions did not have as a setting, and what they were trained with."""


def base(preset: Preset, plain: bool) -> Settings:
    """The settings where the user says nothing but these two."""
    return replace(Settings(), preset=preset, plain=plain, **PRESETS[preset], **(PLAIN if plain else {}))


def check(settings: Settings) -> None:
    """Raise `UserError` for the first setting that is out of its range."""
    size = settings.image_size
    if size not in IMAGE_SIZES:
        nearest = sorted(IMAGE_SIZES, key=lambda good: abs(good - size))[:2]
        if size < IMAGE_SIZES[0] or size > IMAGE_SIZES[-1]:
            nearest = nearest[:1]
        good = " or ".join(str(near) for near in sorted(nearest))
        raise UserError(f"--image-size must be a multiple of 16 from 32 to 256, not {size}; nearest: {good}")
    at_least(settings, 1, "steps latent_size keep accumulate")
    at_least(settings, 1, "log_every sample_every score_every checkpoint_every histogram_every")
    at_least(settings, 0, "seed workers weight_decay ema_half_life")
    if settings.seed >= 2**63:
        raise UserError(f"--seed must be less than 2**63, not {settings.seed}")
    for name in ("minutes", "learning_rate", "head_scale", "memory_share"):
        value = getattr(settings, name)
        if value is not None and not 0 < value < float("inf"):
            raise UserError(f"{flag(name)} must be more than 0, not {value}")
    if not 0 <= settings.augmentation_target < 1:
        raise UserError(
            f"--augmentation-target must be at least 0 and less than 1, not {settings.augmentation_target}"
        )
    for name in ("negatives", "held_out"):
        if not 0 <= getattr(settings, name) <= 0.5:
            raise UserError(f"{flag(name)} must be 0 to 0.5, not {getattr(settings, name)}")
    for name in ("beta1", "beta2"):
        if not 0 <= getattr(settings, name) < 1:
            raise UserError(f"{flag(name)} must be at least 0 and less than 1, not {getattr(settings, name)}")
    for name in ("generator_widths", "discriminator_widths"):
        widths = getattr(settings, name)
        if not 1 <= min(widths) <= max(widths) <= MAX_WIDTH:
            raise UserError(f"{flag(name)} must be 1 to {MAX_WIDTH} each, not {widths}")
    if settings.latent_size > MAX_WIDTH:
        raise UserError(f"--latent-size must be 1 to {MAX_WIDTH}, not {settings.latent_size}")
    if settings.batch_size < 2:
        raise UserError(
            f"--batch-size must be 2 or more, not {settings.batch_size}: batch norm compares a batch's images"
        )


def mathematics(settings: Settings) -> dict[str, Any]:
    """The settings that are not `FREE`, by name, as a checkpoint holds them."""
    return {name: value for name, value in asdict(settings).items() if name not in FREE}


@dataclass(frozen=True)
class TrainingArguments(Settings, RunOptions):
    """Train a DCGAN on a folder of face photos, and watch it learn in outputs/ and TensorBoard.

    Defaults shown are those of the preset `light`, without --plain.
    """

    @property
    def settings(self) -> Settings:
        """The settings alone."""
        return settings_of(self, Settings)


def from_json(values: dict[str, Any]) -> Settings:
    """Settings from a run's config.json, also from a run of an earlier version.

    Raises:
        UserError: a value is missing, unknown, of the wrong type or out of its range.
    """
    settings = from_any_json(LATER | values, Settings)
    check(settings)
    return settings


def read_info(run: Path) -> RunInfo:
    """A GAN run's config.json; see `engine.runs.read_info`."""
    return read_any_info(run, "gan", from_json)
