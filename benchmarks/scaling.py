"""How speed and memory grow: with processes, image size, batch and the number of images.

    python benchmarks/scaling.py

Each point is a training of a few steps with the widths of `light` in a fresh process with one thread, all
points in turn and all over again; its seconds are those of the processor, which are the same as the clock's
where nothing else runs. Growth is told as the exponent b of a x^b, fitted to the medians by least squares of
the logarithms, with its standard error. Beside what was measured stands what theory says: the work of a step
grows as the pixels and as the batch, not as the data set, and N processes on as many cores share it. Tables
are of 4 images of each size, of batches of 32 px, and of sets of 32 px with batches of 32, mapped from disk.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image

from benchmarks.measuring import (
    ROOT,
    Spread,
    anonymous,
    exponent,
    forget_peak,
    fresh,
    in_turn,
    peak_anonymous,
    run,
    show,
    tell,
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
"""Images of a step that several processes share."""


@dataclass(frozen=True)
class ScalingChoice:
    """What is measured, and how often."""

    only: tuple[Literal["processes", "size", "batch", "images"], ...] = (
        "processes",
        "size",
        "batch",
        "images",
    )
    """Tables."""
    steps: int = 3
    """Timed of each training, after one that is not."""
    times: int = 3
    """How often each point is measured."""
    quick: bool = False
    """Every second point, twice."""
    json: bool = False
    """Print JSON instead of tables; the words go to standard error."""

    def __post_init__(self) -> None:
        at_least(self, 1, "steps times")


class Point(NamedTuple):
    """A training of a few steps."""

    seconds: float
    """Of a step, the median; of the processor."""
    memory: float
    """Largest anonymous memory [MB] beside that of the libraries."""


@dataclass(frozen=True)
class Growth:
    """One thing that grows, and what theory says of the seconds of a step."""

    what: str
    points: Mapping[int, Callable[[], Point]]
    in_theory: float
    """The exponent."""


def main() -> None:
    """Measure, fit, print."""
    choice = parse(ScalingChoice, description=__doc__)
    times = 2 if choice.quick else choice.times
    rows: list[dict[str, Any]] = []
    words: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        if "processes" in choice.only:
            rows += _processes(Path(scratch), choice.steps, times)
        for growth in _growths(choice, Path(scratch)):
            tell(growth.what)
            found = in_turn({str(x): point for x, point in growth.points.items()}, times)
            results = dict(zip(growth.points, found.values(), strict=True))
            rows += _rows(growth, results)
            words.append(_in_words(growth, results))
    if not rows:
        return
    show(rows, as_json=choice.json)
    for line in words:
        tell(line) if choice.json else print(f"\n{line}")


def _growths(choice: ScalingChoice, scratch: Path) -> list[Growth]:
    def points(values: Sequence[int], **fixed: Any) -> dict[int, Callable[[], Point]]:
        (free,) = {"size", "batch", "count"} - fixed.keys()
        chosen = values[:: 2 if choice.quick else 1]
        return {value: partial(_trained, choice.steps, scratch, **fixed, **{free: value}) for value in chosen}

    growths = {
        "size": Growth("side of the images [px]", points(SIZES, batch=4, count=200), in_theory=2.0),
        "batch": Growth("images in a batch", points(BATCHES, size=32, count=200), in_theory=1.0),
        "images": Growth("images in the data set", points(COUNTS, size=32, batch=32), in_theory=0.0),
    }
    return [growth for name, growth in growths.items() if name in choice.only]


def _trained(steps: int, scratch: Path, *, size: int, batch: int, count: int) -> Point:
    """Train in a process of its own, on random images that are made once."""
    path = scratch / f"{count}-{size}px.npy"
    if not path.exists():
        images = np.lib.format.open_memmap(path, "w+", np.uint8, (count, 3, size, size))
        some = np.random.default_rng(0).integers(0, 256, (200, 3, size, size), np.uint8)
        for first in range(0, count, 200):
            images[first : first + 200] = some
        images.flush()
    return fresh(_train, steps, path, size, batch)[0]


def _train(steps: int, path: Path, size: int, batch: int) -> Point:
    import torch

    from gan.config import base
    from gan.trainer import Trainer

    torch.set_num_threads(1)
    settings = replace(base("light", plain=False), image_size=size, batch_size=batch, precision="float32")
    torch.optim.Adam([torch.zeros(1, requires_grad=True)])  # the first one loads a hundred megabytes of code
    before = anonymous()
    trainer = Trainer(settings, np.load(path, mmap_mode="r"), torch.device("cpu"))
    trainer.step()
    forget_peak()
    seconds = []
    for _ in range(steps):
        start = time.process_time()
        trainer.step()
        seconds.append(time.process_time() - start)
    return Point(median(seconds), peak_anonymous() - before)


def _rows(growth: Growth, results: Mapping[int, Sequence[Point]]) -> list[dict[str, Any]]:
    seconds = {x: Spread.of([point.seconds for point in points]) for x, points in results.items()}
    least = min(results)
    return [
        {
            "what": growth.what,
            "at": x,
            "seconds a step": seconds[x],
            "times the first": seconds[x].median / seconds[least].median,
            "in theory": (x / least) ** growth.in_theory,
            "memory [MB]": Spread.of([point.memory for point in points]),
        }
        for x, points in results.items()
    ]


def _in_words(growth: Growth, results: Mapping[int, Sequence[Point]]) -> str:
    """The exponents over all points and between the last two, where what does not grow weighs least."""
    *_, before, last = results
    told = []
    for name in ("seconds", "memory"):
        x, y = _curve(results, name)
        power, error = exponent(x, y)
        at_the_end = np.log(y[-1] / y[-2]) / np.log(last / before)
        told.append(f"{power:.2f} ± {error:.2f}, from {before:,} to {last:,} alone {at_the_end:.2f}")
    return (
        f"{growth.what}: the seconds of a step grow as the power {told[0]} (of the work "
        f"{growth.in_theory:g}); memory as the power {told[1]}."
    )


def _curve(results: Mapping[int, Sequence[Point]], name: str) -> tuple[list[int], list[float]]:
    return list(results), [median(getattr(point, name) for point in points) for points in results.values()]


def _processes(scratch: Path, steps: int, times: int) -> list[dict[str, Any]]:
    """Seconds a step of one training shared by several processes; none where they do not share it."""
    tell("processes")
    faces = scratch / "faces"
    faces.mkdir()
    random = np.random.default_rng(0)
    for index in range(2 * SHARED_BATCH):
        Image.fromarray(random.integers(0, 256, (48, 48, 3), np.uint8)).save(faces / f"{index}.png")
    try:
        _shared(faces, 2, 1)
    except UserError as error:
        tell(f"no table of processes: {error}")
        return []
    found = in_turn({str(count): partial(_shared, faces, count, steps) for count in PROCESSES}, times)
    seconds = {count: Spread.of(found[str(count)]) for count in PROCESSES}
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


def _shared(faces: Path, processes: int, steps: int) -> float:
    """Seconds a step of train_gan.py under torchrun, one thread for each process."""
    output = Path(tempfile.mkdtemp(dir=faces.parent))
    flags = ("--image-size", 48, "--batch-size", SHARED_BATCH, "--device", "cpu", "--precision", "float32")
    ends = ("--steps", steps + 1, "--log-every", 1, "--held-out", 0, "--workers", 0, "--output", output)
    torchrun = ("-m", "torch.distributed.run", "--nproc-per-node", processes)
    words = (*torchrun, ROOT / "train_gan.py", faces, *flags, *ends, "--cache", faces.parent / "cache")
    run(*words, folder=faces.parent, threads=1)
    runs = list(output.iterdir())
    if len(runs) != 1:
        raise UserError(f"{processes} processes of train_gan.py made {len(runs)} runs of their own")
    _, rates = read_metrics(runs[0])["speed/images_per_second"]
    return SHARED_BATCH / median(rates[1:])


if __name__ == "__main__":
    run_script(main)
