"""Measure how fast a training step is, beside the textbook loop with the same losses and images.

    python -m benchmarks.train_speed [--presets evening] [--json]

The baseline is the step of textbook.py, with the same networks but no packs. Ours is the step of
train_gan.py, which also augments, blends negatives and averages. Each measurement is made in a new process;
all are interleaved and repeated, and a row has the median and, in brackets, the range. The work of a step is
counted from the shapes of the layers, as if every multiplication of a convolution were made, and compared
with the device's rate in a large matrix product and in the forward pass of a convolution. A profile shows
where a step's time goes; on a GPU it is of a step without its CUDA graph, whose kernels have no names. The
share of scoring is the share of the training time that goes into `gan.validation` at the default interval; it
should be below 0.05.
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
from typing import TYPE_CHECKING, Any, Literal

from benchmarks.measuring import Spread, call_in_subprocess, interleave, log, print_rows, rounded
from engine.cli import parse
from engine.errors import UserError, run_script
from engine.settings import Device, Precision, at_least
from faces.drawn import write_folder
from gan.config import Settings, check, preset_settings
from gan.negatives import count_negatives

if TYPE_CHECKING:
    from gan.validation import Validator

Loop = Literal["textbook", "ours"]

FACES = 256
"""Drawn faces to train on."""
HELD_OUT, TRAINED = 500, 200
"""Images that a score is of."""
PRODUCT_SIDE = {"cpu": 2048, "cuda": 8192}
STEPS_PER_TIMING = {"cpu": 1, "cuda": 10}
"""Steps that are timed as one: a GPU runs behind the host until the next logging step. The first ten, which
are not timed, record our CUDA graph."""
OPERATIONS: dict[str, tuple[str, ...]] = {
    "convolutions": ("convolution",),
    "matrix products": ("mm", "baddbmm"),
    "optimizers and average": ("adam", "lerp", "linalg", "addcmul", "addcdiv"),
    "norms and activations": ("norm", "relu", "threshold", "clamp_min", "tanh"),
    "copies": ("copy", "fill", "cat", "index", "shuffle", "flip", "where"),
}
"""Groups of the profile, with substrings of the names of torch's operations."""


@dataclass(frozen=True)
class TrainSpeedArguments:
    """What to measure."""

    presets: tuple[Literal["quick", "evening"], ...] = ("quick", "evening")
    """Networks, their initial weights, and batches."""
    precisions: tuple[Precision, ...] = ("auto",)
    """Precisions of our networks; the textbook's is float32."""
    device: Device = "auto"
    """Where to compute."""
    image_size: int = 96
    """Side of the images in pixels."""
    batch_size: int | None = None
    """Images per step; the preset's if not given."""
    steps: int = 3
    """Steps timed in each process, after one that is not; on a GPU tens of steps."""
    times: int = 3
    """Processes for each row."""
    json: bool = False
    """Print JSON instead of tables."""

    def __post_init__(self) -> None:
        at_least(self, 1, "steps times")
        if not self.presets:
            raise UserError("--presets takes quick, evening, or both")
        for preset in self.presets:
            check(self.settings(preset))

    def settings(self, preset: Literal["quick", "evening"]) -> Settings:
        """Settings of a run with this preset; the precision is still open."""
        settings = replace(preset_settings(preset), image_size=self.image_size)
        return settings if self.batch_size is None else replace(settings, batch_size=self.batch_size)


@dataclass(frozen=True)
class Measurement:
    """Measurement of one process."""

    seconds: float
    """Median of a step."""
    cpu_seconds: float
    """CPU time of all threads, without the textbook's DataLoader; more reliable on a busy machine."""
    memory: float
    """Peak memory of the process, or of the GPU [MB]."""
    profile: dict[str, float]
    """Share of each group of operations in a step."""
    scoring: float
    """Seconds to score once; 0 for the textbook loop."""


@dataclass(frozen=True)
class DeviceRates:
    """Rates of the device [GFLOP/s]."""

    product: float
    convolution: float


def main() -> None:
    """Measure, print."""
    args = parse(TrainSpeedArguments, description=__doc__)
    from engine.device import choose_device, choose_precision

    device = choose_device(args.device)
    precisions = list(dict.fromkeys(choose_precision(each, device) for each in args.precisions))
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = str(Path(scratch) / "faces" / "drawn")  # ImageFolder needs a folder of folders
        log(f"drawing {FACES} faces")
        write_folder(folder, FACES)
        log("rates of the device")
        rates = {
            precision: call_in_subprocess(_measure_device, device.type, precision)[0]
            for precision in {*precisions, "float32"}
        }
        for preset in args.presets:
            settings = args.settings(preset)
            ours = [replace(settings, precision=precision) for precision in precisions]
            loops = [("textbook", replace(settings, precision="float32")), *(("ours", each) for each in ours)]
            rows += _measure_loops(args, device.type, folder, loops, rates)
    print_rows(rows, as_json=args.json)
    if not args.json:
        print("\nRates of the device in GFLOP/s, in a matrix product and in a convolution's forward pass:")
        for precision, rate in rates.items():
            print(f"  {precision}: {rounded(rate.product)}, {rounded(rate.convolution)}")


def _measure_loops(
    args: TrainSpeedArguments,
    device: str,
    folder: str,
    loops: list[tuple[Loop, Settings]],
    rates: dict[str, DeviceRates],
) -> list[dict[str, Any]]:
    """A row for each loop; the first one is the baseline."""

    def measure(name: str, loop: Loop, settings: Settings) -> Measurement:
        log(name)
        return call_in_subprocess(_measure, loop, settings, folder, device, args.steps)[0]

    names = [f"{loop}, {settings.preset}, {settings.precision}" for loop, settings in loops]
    tasks = {name: partial(measure, name, *loop) for name, loop in zip(names, loops, strict=True)}
    results = interleave(tasks, args.times)
    baseline = median(loops[0][1].batch_size / each.seconds for each in results[names[0]])
    rows = []
    for name, (loop, settings) in zip(names, loops, strict=True):
        measurements = results[name]
        speed = Spread.of([settings.batch_size / each.seconds for each in measurements])
        work, rate = _gflop_per_step(settings, loop), rates[settings.precision]
        achieved = work * speed.median / settings.batch_size
        row = {
            "preset": settings.preset,
            "device": device,
            "loop": loop,
            "precision": settings.precision,
            "images_per_second": speed.median if args.json else speed,
            "ratio": speed.median / baseline,
            "seconds_a_step": settings.batch_size / speed.median,
            "cpu_seconds_a_step": median(each.cpu_seconds for each in measurements),
            "memory_mb": max(each.memory for each in measurements),
            "gflop_a_step": work,
            "share_of_product": achieved / rate.product,
            "share_of_convolution": achieved / rate.convolution,
            "share_of_scoring": median(
                each.scoring / (each.scoring + settings.score_every * each.seconds) for each in measurements
            ),
        }
        shares = measurements[-1].profile
        if args.json:
            rows.append({**row, "min": speed.min, "max": speed.max, "profile": shares})
        else:
            parts = sorted(shares.items(), key=lambda part: -part[1])
            rows.append({**row, "profile": ", ".join(f"{group} {share:.0%}" for group, share in parts)})
    return rows


def _gflop_per_step(settings: Settings, loop: Loop) -> float:
    """Work of one step [GFLOP]: two operations for each multiplication of direct convolutions."""
    pack = 1 if loop == "textbook" else settings.pack
    layers = _forward_gflop(settings.image_size, (3 * pack, *settings.discriminator_widths))
    generator = sum(_forward_gflop(settings.image_size, (3, *settings.generator_widths[::-1])))
    whole, first = sum(layers) / pack, layers[0] / pack
    # Forward on real and generated images; gradients of weights and of features. The textbook runs D on the
    # generated images once more and lets G's loss fill D's gradients.
    if loop == "textbook":
        discriminator = 9 * whole - 2 * first
    elif settings.normalisation.startswith("batch"):  # a backward pass for each loss
        discriminator = 7 * whole - 2 * first
    else:
        discriminator = 6 * whole - first
    # Negatives cost what real images do; G's loss does not involve them.
    negatives = (
        0
        if loop == "textbook"
        else count_negatives(settings.negatives, settings.batch_size, pack) * (3 * whole - first)
    )
    return settings.batch_size * (3 * generator + discriminator) + negatives


def _forward_gflop(side: int, widths: tuple[int, ...]) -> list[float]:
    """Work of the convolution of one input by each layer, from the image inwards [GFLOP]."""
    return [
        2 * 25 * inputs * outputs * (side >> depth) ** 2 / 1e9
        for depth, (inputs, outputs) in enumerate(pairwise(widths), start=1)
    ]


def _measure(loop: Loop, settings: Settings, folder: str, device: str, steps: int) -> Measurement:
    """Measure in a new process: seconds per step, memory, the profile of one more step, and our scoring."""
    import torch

    from benchmarks.textbook import textbook_step

    torch.manual_seed(0)
    ours = None if loop == "textbook" else _Ours(settings, folder, device)
    step = ours.step if ours else textbook_step(settings, folder, device)
    count = STEPS_PER_TIMING.get(device, 1)

    def run_steps() -> None:
        for _ in range(count):
            step()

    run_steps()
    start = time.process_time()
    seconds = [_seconds(run_steps, device) / count for _ in range(steps)]
    cpu_seconds = (time.process_time() - start) / (steps * count)
    if device == "cuda":
        memory = torch.cuda.max_memory_allocated() / 1e6
    else:
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024e-6
    scoring = 0.0
    if ours:
        ours.score()  # imports and caches
        step()  # or the averaged generator would be ready already
        scoring = _seconds(ours.score, device)
        ours.trainer.release()  # see `_profile`
    return Measurement(median(seconds), cpu_seconds, memory, _profile(step, device), scoring)


def _seconds(function: Callable[[], object], device: str) -> float:
    import torch

    start = time.perf_counter()
    function()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _profile(step: Callable[[], None], device: str) -> dict[str, float]:
    """The share of each group of operations in a step that launches them one by one."""
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device == "cuda" else [])]
    with profile(activities=activities) as profiler:
        step()
    spent = dict.fromkeys([*OPERATIONS, "rest"], 0.0)
    # The profiler lists a GPU's kernels twice: under the operations that launched them and under their names.
    for event in (each for each in profiler.key_averages() if each.device_type == DeviceType.CPU):
        seconds = event.self_device_time_total if device == "cuda" else event.self_cpu_time_total
        key = event.key.lower()
        groups = (group for group, names in OPERATIONS.items() if any(name in key for name in names))
        spent[next(groups, "rest")] += seconds
    total = sum(spent.values()) or 1
    return {group: value / total for group, value in spent.items()}


def _measure_device(device: str, precision: Precision) -> DeviceRates:
    """Measure in a new process: the best of several large products, and of a convolution like D's second."""
    import torch
    import torch.nn.functional as F

    dtype = getattr(torch, precision)
    side, batch = PRODUCT_SIDE.get(device, 2048), 96
    left = torch.randn(side, side, device=device).to(dtype)
    image = torch.randn(batch, 64, 48, 48, device=device).to(dtype, memory_format=torch.channels_last)
    kernel = torch.randn(128, 64, 5, 5, device=device).to(dtype, memory_format=torch.channels_last)

    def best(function: Callable[[], object]) -> float:
        return min(_seconds(function, device) for _ in range(6))

    with torch.no_grad():
        product = 2 * side**3 / best(lambda: left @ left)
        convolution = 2 * batch * 24**2 * 25 * 64 * 128 / best(lambda: F.conv2d(image, kernel, None, 2, 2))
    return DeviceRates(product / 1e9, convolution / 1e9)


class _Ours:
    """The step of train_gan.py, logging included, and its scoring."""

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
        self.trainer = Trainer(settings, data.images, self._device, data.training_indices)

    def step(self) -> None:
        self.trainer.step()
        if self.trainer.step_count % self.trainer.settings.log_every == 0:
            self.trainer.check_finite()
            self.trainer.statistics()

    def score(self) -> None:
        self._validator.scores(self.trainer)

    @cached_property
    def _validator(self) -> Validator:
        import numpy as np

        from gan.validation import Validator

        images = np.resize(self._images, (HELD_OUT + TRAINED, *self._images.shape[1:]))
        return Validator(images, np.arange(len(images)) < HELD_OUT, self._device)


if __name__ == "__main__":
    run_script(main)
