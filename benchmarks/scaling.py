"""Measure how time and memory grow with image size, batch size, data set and processes.

    python -m benchmarks.scaling

Each point is a run of a few steps with the widths of `evening` on one thread of a new process; all points
are interleaved. Times are CPU seconds, which equal wall-clock seconds if nothing else runs. Growth is the
exponent b of a x^b, fitted to the medians by least squares of the logarithms, with its standard error. Beside
it stands the theory: the work of a step is proportional to the pixels and to the batch and independent of the
data set, and N processes on as many cores share it. The table of sizes is for batches of 4 images; those of
batches and data sets are for images of 32 px, the latter mapped from disk, in batches of 32.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image

from benchmarks.measuring import (
    ROOT,
    Spread,
    anonymous_memory,
    call_in_subprocess,
    exponent,
    interleave,
    log,
    peak_anonymous_memory,
    print_rows,
    reset_peak,
    run_python,
)
from engine.cli import parse
from engine.errors import UserError, run_script
from engine.settings import at_least
from engine.worker_pool import worker_count
from images.plots import read_metrics

PROCESSES = (1, 2, 4)
SIZES = (32, 48, 64, 96, 128, 192, 256)
BATCHES = (4, 8, 16, 32, 64, 96, 128)
COUNTS = (2_000, 6_000, 20_000, 60_000, 200_000)
SHARED_BATCH = 32
"""Images per step of all processes together."""


@dataclass(frozen=True)
class ScalingArguments:
    """What to measure, and how often."""

    only: tuple[Literal["processes", "size", "batch", "images"], ...] = (
        "processes",
        "size",
        "batch",
        "images",
    )
    """Tables to print."""
    steps: int = 3
    """Steps measured in each run, after one that is not."""
    times: int = 3
    """Repetitions of each point."""
    quick: bool = False
    """Measure every second point, twice."""
    json: bool = False
    """Print JSON instead of a table; the fits go to standard error."""

    def __post_init__(self) -> None:
        at_least(self, 1, "steps times")


class Point(NamedTuple):
    """Measurement of a run of a few steps."""

    seconds: float
    """Median CPU seconds per step."""
    memory: float
    """Peak anonymous memory [MB] above that of the libraries."""


@dataclass(frozen=True)
class Variable:
    """A variable, the points at which it is measured, and the theory."""

    name: str
    points: Mapping[int, Callable[[], Point]]
    theory: float
    """Exponent of the seconds per step."""


def main() -> None:
    """Measure, fit, print."""
    args = parse(ScalingArguments, description=__doc__)
    times = 2 if args.quick else args.times
    rows: list[dict[str, Any]] = []
    fits: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        if "processes" in args.only:
            rows += _measure_processes(Path(scratch), args.steps, times)
        for variable in _variables(args, Path(scratch)):
            log(variable.name)
            measured = interleave({str(x): point for x, point in variable.points.items()}, times)
            results = dict(zip(variable.points, measured.values(), strict=True))
            rows += _rows(variable, results)
            fits.append(_describe_fit(variable, results))
    if not rows:
        return
    print_rows(rows, as_json=args.json)
    for line in fits:
        log(line) if args.json else print(f"\n{line}")


def _variables(args: ScalingArguments, scratch: Path) -> list[Variable]:
    def points(values: Sequence[int], **fixed: Any) -> dict[int, Callable[[], Point]]:
        (free,) = {"size", "batch", "count"} - fixed.keys()
        values = values[:: 2 if args.quick else 1]
        return {value: partial(_measure, args.steps, scratch, **fixed, **{free: value}) for value in values}

    variables = {
        "size": Variable("side of the images [px]", points(SIZES, batch=4, count=200), theory=2.0),
        "batch": Variable("images in a batch", points(BATCHES, size=32, count=200), theory=1.0),
        "images": Variable("images in the data set", points(COUNTS, size=32, batch=32), theory=0.0),
    }
    return [variable for name, variable in variables.items() if name in args.only]


def _measure(steps: int, scratch: Path, *, size: int, batch: int, count: int) -> Point:
    """Train in a new process, on random images that are made once."""
    path = scratch / f"{count}-{size}px.npy"
    if not path.exists():
        images = np.lib.format.open_memmap(path, "w+", np.uint8, (count, 3, size, size))
        noise = np.random.default_rng(0).integers(0, 256, (200, 3, size, size), np.uint8)
        for first in range(0, count, 200):
            images[first : first + 200] = noise
        images.flush()
    return call_in_subprocess(_train, steps, path, size, batch)[0]


def _train(steps: int, path: Path, size: int, batch: int) -> Point:
    import torch

    from gan.config import Settings
    from gan.trainer import Trainer

    torch.set_num_threads(1)
    settings = Settings(image_size=size, batch_size=batch, precision="float32")
    torch.optim.Adam([torch.zeros(1, requires_grad=True)])  # the first optimizer loads 100 MB of code
    before = anonymous_memory()
    trainer = Trainer(settings, np.load(path, mmap_mode="r"), torch.device("cpu"))
    trainer.step()
    reset_peak()
    seconds = []
    for _ in range(steps):
        start = time.process_time()
        trainer.step()
        seconds.append(time.process_time() - start)
    return Point(median(seconds), peak_anonymous_memory() - before)


def _rows(variable: Variable, results: Mapping[int, Sequence[Point]]) -> list[dict[str, Any]]:
    seconds = {x: Spread.of([point.seconds for point in points]) for x, points in results.items()}
    first = min(results)
    return [
        {
            "what": variable.name,
            "at": x,
            "seconds a step": seconds[x],
            "times the first": seconds[x].median / seconds[first].median,
            "in theory": (x / first) ** variable.theory,
            "memory [MB]": Spread.of([point.memory for point in points]),
        }
        for x, points in results.items()
    ]


def _describe_fit(variable: Variable, results: Mapping[int, Sequence[Point]]) -> str:
    """The exponents over all points, and between the last two, where constant costs matter least."""
    x = list(results)
    exponents = []
    for name in ("seconds", "memory"):
        y = [median(getattr(point, name) for point in points) for points in results.values()]
        slope, error = exponent(x, y)
        local = np.log(y[-1] / y[-2]) / np.log(x[-1] / x[-2])
        exponents.append(f"{slope:.2f} ± {error:.2f} ({local:.2f} from {x[-2]:,} to {x[-1]:,})")
    return (
        f"{variable.name}: exponent of the seconds per step {exponents[0]}, of the work {variable.theory:g}; "
        f"exponent of the memory {exponents[1]}."
    )


def _measure_processes(scratch: Path, steps: int, times: int) -> list[dict[str, Any]]:
    """Seconds per step of a run that several processes share."""
    log("processes")
    faces = scratch / "faces"
    faces.mkdir()
    random = np.random.default_rng(0)
    for index in range(2 * SHARED_BATCH):
        Image.fromarray(random.integers(0, 256, (48, 48, 3), np.uint8)).save(faces / f"{index}.png")
    try:
        _train_shared(faces, 2, 1)
    except UserError as error:
        log(f"no table of processes: {error}")
        return []
    results = interleave(
        {str(count): partial(_train_shared, faces, count, steps) for count in PROCESSES}, times
    )
    seconds = {count: Spread.of(results[str(count)]) for count in PROCESSES}
    return [
        {
            "what": f"processes on {worker_count(None)} cores",
            "at": count,
            "seconds a step": spread,
            "times the first": spread.median / seconds[1].median,
            "in theory": 1 / min(count, worker_count(None)),
            "memory [MB]": None,
        }
        for count, spread in seconds.items()
    ]


def _train_shared(faces: Path, processes: int, steps: int) -> float:
    """Seconds per step of train_gan.py under torchrun, one thread per process."""
    output = Path(tempfile.mkdtemp(dir=faces.parent))
    flags = ("--image-size", 48, "--batch-size", SHARED_BATCH, "--device", "cpu", "--precision", "float32")
    ends = ("--steps", steps + 1, "--log-every", 1, "--held-out", 0, "--workers", 0, "--output", output)
    torchrun = ("-m", "torch.distributed.run", "--nproc-per-node", processes)
    script = (ROOT / "train_gan.py", faces, *flags, *ends, "--cache", faces.parent / "cache")
    run_python(*torchrun, *script, folder=faces.parent, threads=1)
    runs = list(output.iterdir())
    if len(runs) != 1:
        raise UserError(f"{processes} processes of train_gan.py made {len(runs)} runs")
    _, rates = read_metrics(runs[0])["speed/images_per_second"]
    return SHARED_BATCH / median(rates[1:])


if __name__ == "__main__":
    run_script(main)
