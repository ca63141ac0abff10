"""Measure how soon a folder of images is ready, how fast batches arrive, and the memory that this takes.

    python -m benchmarks.data_speed [FOLDER]

The baseline is torchvision's ImageFolder with a DataLoader that decodes the files in every epoch; this
project decodes once and maps the array. Sets larger than the folder are filled with recoloured and mirrored
copies. Without a folder, faces are drawn. Each row is measured in new processes, interleaved; the first start
on a large set is measured once, since it takes minutes. Finally train_gan.py runs on the smallest and the
largest set, with networks so small that slow data would show.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Annotated, Any, NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm
from tyro.conf import Positional, arg

from benchmarks.measuring import (
    ROOT,
    Cost,
    Spread,
    call_in_subprocess,
    interleave,
    log,
    print_rows,
    run_python,
)
from engine.cli import parse
from engine.errors import UserError, run_script
from engine.settings import at_least
from engine.worker_pool import parallel_map, worker_count
from gan.config import IMAGE_SIZES
from images.decode import UnusableImageError, decode_full
from images.plots import read_metrics
from images.scan import list_images

DRAWN_FACES = 1000
"""Different faces in drawn sets."""
DRAWN_SIZE = 112
"""Side of drawn faces in pixels."""
BATCH_SIZE = 96
BATCHES = 200
"""Batches over which the rate is measured; a tenth of that for the baseline."""
LARGE_SET = 50_000
"""Images from which on the first start is measured only once."""
SMALL_NETWORKS = (
    *("--generator-widths", 64, 48, 32, 16, "--discriminator-widths", 16, 32, 64, 128),
    *("--batch-size", 32, "--device", "cpu", "--precision", "float32", "--log-every", 1),
)


@dataclass(frozen=True)
class DataSpeedArguments:
    """Which images to measure on, and how often."""

    folder: Annotated[Path | None, Positional, arg(metavar="[FOLDER]")] = None
    """Folder of images; drawn faces if not given."""
    counts: tuple[int, ...] = (10_800, 200_000)
    """Images in each set."""
    image_size: int = 96
    """Side of the decoded images in pixels."""
    workers: int | None = None
    """Processes that decode; one per core if not given."""
    times: int = 3
    """Repetitions of each measurement."""
    steps: int = 12
    """Steps of each run."""
    scratch: Path | None = None
    """Folder for the sets, which are removed at the end; the system's temporary folder if not given."""
    quick: bool = False
    """Measure on sets of 1,000 and 10,000 images of 48 pixels."""
    json: bool = False
    """Print JSON instead of a table."""

    def __post_init__(self) -> None:
        at_least(self, 1, "times steps")
        at_least(self, 0, "workers")
        if min(self.counts, default=0) < 2 * BATCH_SIZE or len(set(self.counts)) < len(self.counts):
            raise UserError(f"--counts takes different numbers of {2 * BATCH_SIZE} or more")
        if self.image_size not in IMAGE_SIZES:
            raise UserError(f"--image-size must be a multiple of 16 from 32 to 256, not {self.image_size}")
        if self.scratch is not None and not self.scratch.is_dir():
            raise UserError(f"--scratch {self.scratch} is not a folder")


class LoadingTimes(NamedTuple):
    """Times of a process that prepared a set and read batches from it."""

    ready: float
    """Seconds until the first batch."""
    rate: float
    """Images per second from then on."""


def main() -> None:
    """Make the sets, measure, print, clean up."""
    args = parse(DataSpeedArguments, description=__doc__)
    counts, size = ((1000, 10_000), 48) if args.quick else (args.counts, args.image_size)
    workers = worker_count(args.workers)
    with tempfile.TemporaryDirectory(dir=args.scratch) as scratch:
        folder = Path(scratch)
        files = _list_files(args.folder, folder / "drawn", workers)
        sets = {count: _make_set(files, folder / f"set-{count}", count, workers) for count in counts}
        rows = [row for path in sets.values() for row in _measure_starts(path, size, workers, args.times)]
        rows += _measure_runs(folder, {min(sets): sets[min(sets)], max(sets): sets[max(sets)]}, size, args)
    print_rows(rows, as_json=args.json)


def _list_files(folder: Path | None, drawn: Path, workers: int) -> list[Path]:
    """The files that sets are made from."""
    if folder is None:
        from faces.drawn import write_folder

        write_folder(drawn, DRAWN_FACES, size=DRAWN_SIZE, workers=workers)
        folder = drawn
    try:
        files = list_images(folder).files
    except OSError as error:
        raise UserError(f"cannot read the folder {folder} ({error.strerror})") from None
    if not files:
        raise UserError(f"{folder} contains no images")
    return [(folder / file).resolve() for file in files]


def _make_set(files: list[Path], folder: Path, count: int, workers: int) -> Path:
    """Make a folder of `count` JPEGs: the files as they are, then recoloured and mirrored copies."""
    class_folder = folder / "faces"  # ImageFolder needs one for each class
    class_folder.mkdir(parents=True)
    jobs = [(file, index, range(index, count, len(files))) for index, file in enumerate(files[:count])]
    with contextlib.closing(parallel_map(partial(_write_copies, class_folder), jobs, workers)) as progress:
        for _ in tqdm(progress, f"making {count:,} images", len(jobs), unit=" faces"):
            pass
    return folder


def _write_copies(folder: Path, job: tuple[Path, int, range]) -> None:
    file, index, numbers = job
    try:
        image = decode_full(file).transpose(1, 2, 0)
    except UnusableImageError as error:
        raise UserError(f"{file}: {error}; remove it from the folder") from None
    for variant, number in enumerate(numbers):
        target = folder / f"{variant:04d}_{index:06d}.jpg"
        if variant == 0 and file.suffix == ".jpg":
            with contextlib.suppress(OSError):  # another file system
                os.link(file, target)
                continue
        gains = np.random.default_rng(number).uniform(0.7, 1.1, 3) if variant else np.ones(3)
        copy = np.minimum(image * gains, 255).astype(np.uint8)
        Image.fromarray(copy[:, ::-1] if variant % 2 else copy).save(target, quality=90)


def _measure_starts(folder: Path, size: int, workers: int, times: int) -> list[dict[str, Any]]:
    """First and second start, and the baseline, whose starts are all alike."""
    count = sum(1 for _ in (folder / "faces").iterdir())
    log(f"{count:,} images: starts")
    cache = folder.parent / "cache"
    first, second = "decoded once: first start", "decoded once: second start"
    baseline = "ImageFolder and DataLoader: baseline"
    tasks = {
        first: partial(_first_start, folder, size, cache, workers),
        second: partial(call_in_subprocess, _load_ours, folder, size, cache, workers),
        baseline: partial(call_in_subprocess, _load_baseline, folder, size, workers),
    }
    results = interleave(tasks, 1)
    if count >= LARGE_SET:
        del tasks[first]
    for name, repeated in interleave(tasks, times - 1).items():
        results[name] += repeated
    return [_start_row(count, name, measured) for name, measured in results.items()]


def _start_row(count: int, what: str, measured: list[tuple[LoadingTimes, Cost]]) -> dict[str, Any]:
    ready = Spread.of([times.ready for times, _ in measured])
    return {
        "images": f"{count:,}",
        "what": what,
        "ready after [s]": ready,
        "CPU seconds": Spread.of([cost.cpu_seconds for _, cost in measured]),
        "images/s made ready": count / ready.median if "first" in what else None,
        "images/s to the trainer": Spread.of([times.rate for times, _ in measured]),
        "memory [MB]": Spread.of([cost.memory for _, cost in measured]),
    }


def _first_start(folder: Path, size: int, cache: Path, workers: int) -> tuple[LoadingTimes, Cost]:
    for path in cache.glob("*"):
        path.unlink()
    return call_in_subprocess(_load_ours, folder, size, cache, workers)


def _load_ours(folder: Path, size: int, cache: Path, workers: int) -> LoadingTimes:
    """`load_folder`, and batches gathered from the array."""
    import torch

    from images.dataset import load_folder
    from images.sampler import batch_indices
    from images.tiles import to_float

    start = time.perf_counter()
    data = load_folder(folder, size, cache=cache, workers=workers, held_out=0.05, progress=False)
    trained = data.training_indices

    def batch(step: int) -> torch.Tensor:
        rows = trained[batch_indices(len(trained), BATCH_SIZE, step, seed=0)]
        return to_float(torch.from_numpy(data.images[rows]))

    return _time_batches(start, map(batch, range(BATCHES + 1)))


def _load_baseline(folder: Path, size: int, workers: int) -> LoadingTimes:
    """ImageFolder and DataLoader, with the same filter and range of values."""
    from torch.utils.data import DataLoader
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    start = time.perf_counter()
    steps = [transforms.Resize(size, transforms.InterpolationMode.LANCZOS), transforms.CenterCrop(size)]
    to_tensor = [transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3)]
    faces = ImageFolder(folder, transforms.Compose([*steps, *to_tensor]))
    loader = DataLoader(faces, BATCH_SIZE, shuffle=True, num_workers=workers, drop_last=True)
    batches = min(BATCHES // 10, len(loader) - 1)
    return _time_batches(start, (images for (images, _), _ in zip(loader, range(batches + 1), strict=False)))


def _time_batches(start: float, batches: Iterator[Any]) -> LoadingTimes:
    """Time the first batch from `start` on, and the rate of the others."""
    next(batches)
    ready = time.perf_counter()
    count = sum(len(batch) for batch in batches)
    return LoadingTimes(ready - start, count / (time.perf_counter() - ready))


def _measure_runs(
    folder: Path, sets: dict[int, Path], size: int, args: DataSpeedArguments
) -> list[dict[str, Any]]:
    """train_gan.py on each set."""
    log("training")
    tasks = {count: partial(_train, folder, path, size, args.steps) for count, path in sets.items()}
    rows = []
    for count, results in interleave(tasks, args.times).items():
        costs, rates = zip(*results, strict=True)
        rows.append(
            {
                "images": f"{count:,}",
                "what": f"train_gan.py, {args.steps} steps of small networks",
                "ready after [s]": None,
                "CPU seconds": Spread.of([cost.cpu_seconds for cost in costs]),
                "images/s made ready": None,
                "images/s to the trainer": Spread.of(rates),
                "memory [MB]": Spread.of([cost.memory for cost in costs]),
            }
        )
    return rows


def _train(scratch: Path, data: Path, size: int, steps: int) -> tuple[Cost, float]:
    """The cost of a run, and the images per second of its median step."""
    output = Path(tempfile.mkdtemp(dir=scratch))
    flags = ("--image-size", size, "--steps", steps, "--cache", scratch / "cache", "--output", output)
    cost = run_python(ROOT / "train_gan.py", data, *flags, *SMALL_NETWORKS, folder=scratch)
    (run,) = output.iterdir()
    _, rates = read_metrics(run)["speed/images_per_second"]
    return cost, median(rates)


if __name__ == "__main__":
    run_script(main)
