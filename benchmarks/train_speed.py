"""How fast a training step is, beside the textbook loop: the same networks, losses, batch and images.

    python benchmarks/train_speed.py [--presets light] [--updates simultaneous] [--json]

The textbook loop is written out in textbook.py: float32, contiguous tensors, torch's own layers, D and then
G, Adam as it comes, a DataLoader that decodes files, five values read back in every step. Ours is the step of
train_gan.py, which also augments and averages. Each measurement is made in a process of its own, all in turn,
several times; a row has the median and, in brackets, the least and the most. The work of a step is counted
from the layers, as if each multiplication of a convolution were made, and compared with what the device does
in a large matrix product and in a convolution's forward pass. A profile tells where a step's time goes; on a
GPU it is that of a step made without its graph, in which kernels no longer tell what they belong to. The
share of scoring is that of a training's time which goes into its scores (`gan.validation`) at the
default interval: it should be less than 0.05.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.measuring import Spread, fresh, in_turn, short, show, tell
from engine.cli import parse
from engine.errors import UserError, run_script
from engine.settings import Device, Precision, at_least
from faces.drawn import write_folder
from gan.config import Preset, Settings, Updates, base, check
from gan.negatives import count_negatives

if TYPE_CHECKING:
    from gan.validation import Scorer

FACES = 256
"""Drawn faces, of which batches are taken."""
PRODUCT_SIDE = {"cpu": 2048, "cuda": 8192}
AT_ONCE = {"cpu": 1, "cuda": 10}
"""Steps that are timed as one: on a GPU the next is prepared while one is under way, up to a logging step.
The first ten, which are not timed, record our graph."""
KINDS: dict[str, tuple[str, ...]] = {
    "convolutions": ("convolution",),
    "matrix products": ("mm", "baddbmm"),
    "optimizers and average": ("adam", "lerp", "linalg", "addcmul", "addcdiv"),
    "norms and activations": ("norm", "relu", "threshold", "clamp_min", "tanh"),
    "copies": ("copy", "fill", "cat", "index", "shuffle", "flip", "where"),
}
"""Kinds of work, and what the names of torch's operations of that kind contain."""


@dataclass(frozen=True)
class TrainSpeedChoice:
    """What to time."""

    presets: tuple[Preset, ...] = ("light", "paper")
    """Sizes of generator and batch."""
    updates: tuple[Updates, ...] = ("simultaneous", "separate")
    """Orders of our updates; the textbook's are separate."""
    precisions: tuple[Precision, ...] = ("auto",)
    """Of our networks; the textbook's is float32."""
    device: Device = "auto"
    """Where to compute."""
    image_size: int = 96
    """Side of the images in pixels."""
    batch_size: int | None = None
    """Images a step; the preset's if none is given."""
    steps: int = 3
    """Steps timed in each process, after one that is not; on a GPU tens of steps."""
    times: int = 3
    """Processes for each way."""
    json: bool = False
    """Print JSON instead of tables."""

    def __post_init__(self) -> None:
        at_least(self, 1, "steps times")
        if not self.presets:
            raise UserError("--presets takes light, paper, or both")
        for preset in self.presets:
            check(self.settings(preset))

    def settings(self, preset: Preset) -> Settings:
        """Of a training with this preset, the precision not decided."""
        settings = replace(base(preset, False), image_size=self.image_size)
        return settings if self.batch_size is None else replace(settings, batch_size=self.batch_size)


@dataclass(frozen=True)
class Measured:
    """What a process found."""

    seconds: float
    """A step; the median."""
    cpu_seconds: float
    """Of all threads; on a busy machine the better guide. Of the textbook's loader, not counted."""
    memory: float
    """Largest memory of the process, or of the GPU in use [MB]."""
    profile: dict[str, float]
    """Share of each kind of work, where it was asked for."""
    scoring: float
    """Seconds of scoring once; the textbook's loop does not."""


@dataclass(frozen=True)
class Rates:
    """What the device does [GFLOP/s]."""

    product: float
    convolution: float


def main() -> None:
    """Time all in turn, print."""
    choice = parse(TrainSpeedChoice, description=__doc__)
    from engine.device import choose_device, choose_precision

    device = choose_device(choice.device)
    precisions = list(dict.fromkeys(choose_precision(each, device) for each in choice.precisions))
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = str(Path(scratch) / "faces" / "drawn")  # torchvision wants a folder of folders
        tell(f"drawing {FACES} faces")
        write_folder(folder, FACES)
        tell("the device's own speed")
        rates = {each: fresh(_rates, device.type, each)[0] for each in {*precisions, "float32"}}
        for preset in choice.presets:
            settings = choice.settings(preset)
            ours = [
                replace(settings, updates=updates, precision=precision)
                for precision in precisions
                for updates in choice.updates
            ]
            textbook = replace(settings, updates="separate", precision="float32")
            rows += _rows(choice, device.type, folder, textbook, ours, rates)
    show(rows, as_json=choice.json)
    if not choice.json:
        print("\nThe device's own speed in GFLOP/s, a matrix product and a convolution's forward pass:")
        for precision, rate in rates.items():
            print(f"  {precision}: {short(rate.product)}, {short(rate.convolution)}")


def _rows(
    choice: TrainSpeedChoice,
    device: str,
    folder: str,
    textbook: Settings,
    ours: list[Settings],
    rates: dict[str, Rates],
) -> list[dict[str, Any]]:
    ways = [("textbook", textbook), *(("ours", settings) for settings in ours)]
    names = [f"{way}, {each.preset}, {each.precision}, {each.updates}" for way, each in ways]

    def task(name: str, way: str, settings: Settings) -> Measured:
        tell(name)
        return fresh(_measured, way, settings, folder, device, choice.steps)[0]

    tasks = {
        name: partial(task, name, way, settings) for name, (way, settings) in zip(names, ways, strict=True)
    }
    found = in_turn(tasks, choice.times)
    rows = []
    for name, (way, settings) in zip(names, ways, strict=True):
        measured = found[name]
        speed = Spread.of([settings.batch_size / each.seconds for each in measured])
        baseline = median(settings.batch_size / each.seconds for each in found[names[0]])
        work, rate = _work(settings, way), rates[settings.precision]
        done = work * speed.median / settings.batch_size
        row = {
            "preset": settings.preset,
            "device": device,
            "loop": way,
            "precision": settings.precision,
            "updates": settings.updates,
            "images_per_second": speed.median if choice.json else speed,
            "ratio": speed.median / baseline,
            "seconds_a_step": settings.batch_size / speed.median,
            "cpu_seconds_a_step": median(each.cpu_seconds for each in measured),
            "memory_mb": max(each.memory for each in measured),
            "gflop_a_step": work,
            "share_of_product": done / rate.product,
            "share_of_convolution": done / rate.convolution,
            "share_of_scoring": median(
                each.scoring / (each.scoring + settings.score_every * each.seconds) for each in measured
            ),
        }
        shares = measured[-1].profile
        if choice.json:
            rows.append({**row, "least": speed.least, "most": speed.most, "profile": shares})
        else:
            parts = sorted(shares.items(), key=lambda part: -part[1])
            rows.append({**row, "profile": ", ".join(f"{kind} {share:.0%}" for kind, share in parts)})
    return rows


def _work(settings: Settings, way: str) -> float:
    """Of one step [GFLOP]: two for each multiplication of the convolutions, as all are made."""
    discriminator = _forward(settings.image_size, settings.discriminator_widths)
    generator = sum(_forward(settings.image_size, settings.generator_widths[::-1]))
    whole, first = sum(discriminator), discriminator[0]
    passes = {
        # Real and generated images forward, gradients of weights and of features, the latter also by G's
        # loss, which separate updates look at once more. The textbook lets that loss fill D's gradients.
        "textbook": 9 * whole - 2 * first,
        "separate": 8 * whole - 2 * first,
        "simultaneous": 7 * whole - 2 * first,
        "one backward pass": 6 * whole - first,
    }
    kind: str = settings.updates
    if way == "textbook":
        kind = "textbook"
    elif kind == "simultaneous" and not settings.normalisation.startswith("batch"):
        kind = "one backward pass"
    # Negatives are as real images, which G's loss has no part in.
    negatives = 0 if way == "textbook" else count_negatives(settings) * (3 * whole - first)
    return settings.batch_size * (3 * generator + passes[kind]) + negatives


def _forward(side: int, widths: tuple[int, ...]) -> list[float]:
    """Of a convolution of one image by each layer, from the image inwards [GFLOP]."""
    return [
        2 * 25 * inputs * outputs * (side >> depth) ** 2 / 1e9
        for depth, (inputs, outputs) in enumerate(pairwise((3, *widths)), start=1)
    ]


def _measured(way: str, settings: Settings, folder: str, device: str, steps: int) -> Measured:
    """In a process of its own: seconds a step, memory, the profile of one more step, and our scoring."""
    import torch

    from benchmarks.textbook import textbook_step

    torch.manual_seed(0)
    ours: _Ours | None = None
    if way == "textbook":
        step = textbook_step(settings, folder, device)
    else:
        ours = _Ours(settings, folder, device)
        step = ours.step

    count = AT_ONCE.get(device, 1)

    def several() -> None:
        for _ in range(count):
            step()

    several()
    start = time.process_time()
    seconds = [_seconds(several, device) / count for _ in range(steps)]
    cpu_seconds = (time.process_time() - start) / (steps * count)
    if device == "cuda":
        memory = torch.cuda.max_memory_allocated() / 1e6
    else:
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024e-6
    scored = 0.0
    if ours:
        ours.score()  # loads what it needs
        step()  # or the averaged generator would be ready for the next
        scored = _seconds(ours.score, device)
        ours.trainer.release()  # see `_profile`
    profile = _profile(step, device)
    return Measured(median(seconds), cpu_seconds, memory, profile, scored)


def _seconds(step: Callable[[], object], device: str) -> float:
    import torch

    start = time.perf_counter()
    step()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _profile(step: Callable[[], None], device: str) -> dict[str, float]:
    """The share of each kind of work in a step that is launched operation by operation."""
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device == "cuda" else [])]
    with profile(activities=kinds) as profiled:
        step()
    spent = dict.fromkeys([*KINDS, "rest"], 0.0)
    # A GPU's kernels are told twice: under the operations that launched them, and under names of their own.
    for event in (each for each in profiled.key_averages() if each.device_type == DeviceType.CPU):
        time_taken = event.self_device_time_total if device == "cuda" else event.self_cpu_time_total
        of = (kind for kind, words in KINDS.items() if any(word in event.key.lower() for word in words))
        spent[next(of, "rest")] += time_taken
    whole = sum(spent.values()) or 1
    return {kind: value / whole for kind, value in spent.items()}


def _rates(device: str, precision: Precision) -> Rates:
    """In a process of its own: the best of several large products, and of a convolution like D's second."""
    import torch
    import torch.nn.functional as F

    kind = getattr(torch, precision)
    side, batch = PRODUCT_SIDE.get(device, 2048), 96
    left = torch.randn(side, side, device=device).to(kind)
    image = torch.randn(batch, 64, 48, 48, device=device).to(kind, memory_format=torch.channels_last)
    kernel = torch.randn(128, 64, 5, 5, device=device).to(kind, memory_format=torch.channels_last)

    def best(of: Callable[[], object]) -> float:
        return min(_seconds(of, device) for _ in range(6))

    with torch.no_grad():
        product = 2 * side**3 / best(lambda: left @ left)
        convolution = 2 * batch * 24**2 * 25 * 64 * 128 / best(lambda: F.conv2d(image, kernel, None, 2, 2))
    return Rates(product / 1e9, convolution / 1e9)


class _Ours:
    """The step of train_gan.py, with what it does at a logging step each tenth time; and its scoring."""

    def __init__(self, settings: Settings, folder: str, device: str) -> None:
        import torch

        from engine.device import enable_cudnn_benchmark, keep_freed_memory
        from gan.trainer import Trainer
        from images.dataset import load_folder

        keep_freed_memory()
        self._device = torch.device(device)
        enable_cudnn_benchmark(self._device)
        cache = Path(folder).parent.parent
        data = load_folder(folder, settings.image_size, cache=cache, workers=2, held_out=0)
        self._images = data.images
        self.trainer = Trainer(settings, data.images, self._device, data.trained)

    def step(self) -> None:
        self.trainer.step()
        if self.trainer.step_count % self.trainer.settings.log_every == 0:
            self.trainer.check_finite()
            self.trainer.statistics()

    def score(self) -> None:
        self._scorer.scores(self.trainer)

    @cached_property
    def _scorer(self) -> Scorer:
        import numpy as np

        from gan.validation import JUDGED, MOST, Scorer

        images = np.resize(self._images, (MOST + JUDGED, *self._images.shape[1:]))
        return Scorer(images, np.arange(len(images)) < MOST, self._device)


if __name__ == "__main__":
    run_script(main)
