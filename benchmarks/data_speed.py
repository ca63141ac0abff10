"""How soon a folder of images is ready to train on, how fast they come, and what memory that takes.

    python benchmarks/data_speed.py [FOLDER]

Beside this project's way (decode once, map the array) stands the usual one: torchvision's ImageFolder and a
DataLoader that decodes the files in every epoch. Sets larger than the folder are filled up with recoloured
and mirrored copies; without a folder, faces are drawn. Each row is timed in a fresh process, in turn; the
first start on a large set is timed once, as it takes minutes. At the end train_gan.py itself is run on the
smallest and the largest set, with networks so small that the data could be seen to hold them up.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Annotated, Any, NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm
from tyro.conf import Positional, arg

from benchmarks.measuring import ROOT, Cost, Spread, fresh, in_turn, run, show, tell
from engine.cli import parse
from engine.errors import UserError, run_script
from engine.settings import at_least
from engine.worker_pool import parallel_map, worker_count
from gan.config import IMAGE_SIZES
from images.decode import UnusableImageError, decode_full
from images.plots import read_metrics
from images.scan import list_images

DRAWN = 1000
"""Different faces of which drawn sets are made."""
SIDE = 112
"""Of drawn faces, in pixels."""
BATCH = 96
FED = 200
"""Batches over which the rate is taken at which images come; of the baseline a tenth."""
LARGE = 50_000
"""Images from which on a first start is timed once."""
SMALL_NETWORKS = (
    *("--generator-widths", 64, 48, 32, 16, "--discriminator-widths", 16, 32, 64, 128),
    *("--batch-size", 32, "--device", "cpu", "--precision", "float32", "--log-every", 1),
)


@dataclass(frozen=True)
class DataSpeedChoice:
    """Which images, and how many."""

    folder: Annotated[Path | None, Positional, arg(metavar="[FOLDER]")] = None
    """Folder of images; without one, faces are drawn."""
    counts: tuple[int, ...] = (10_800, 200_000)
    """Images in each set."""
    image_size: int = 96
    """Side they are decoded to, in pixels."""
    workers: int | None = None
    """Processes that decode; one for each core if not given."""
    times: int = 3
    """How often everything is done."""
    steps: int = 12
    """Of each training."""
    scratch: Path | None = None
    """Folder for the sets, which are removed at the end; that for temporary files if none is given."""
    quick: bool = False
    """Sets of 1,000 and 10,000 images of 48 pixels."""
    json: bool = False
    """Print JSON instead of a table."""

    def __post_init__(self) -> None:
        at_least(self, 1, "times steps")
        at_least(self, 0, "workers")
        if min(self.counts, default=0) < 2 * BATCH or len(set(self.counts)) < len(self.counts):
            raise UserError(f"--counts takes different numbers, each {2 * BATCH} or more")
        if self.image_size not in IMAGE_SIZES:
            raise UserError(f"--image-size must be a multiple of 16 from 32 to 256, not {self.image_size}")
        if self.scratch is not None and not self.scratch.is_dir():
            raise UserError(f"--scratch {self.scratch} is no folder; make it, or give another")


class Fed(NamedTuple):
    """What a process measured that made a set ready and took batches from it."""

    ready: float
    """Seconds until the first batch was there."""
    rate: float
    """Images a second from then on."""


def main() -> None:
    """Make the sets, time, print, clean up."""
    choice = parse(DataSpeedChoice, description=__doc__)
    counts, size = ((1000, 10_000), 48) if choice.quick else (choice.counts, choice.image_size)
    workers = worker_count(choice.workers)
    with tempfile.TemporaryDirectory(dir=choice.scratch) as scratch:
        folder = Path(scratch)
        files = _source(choice.folder, folder / "drawn", workers)
        sets = {count: _made_set(files, folder / f"set-{count}", count, workers) for count in counts}
        rows = [row for made in sets.values() for row in _starts(made, size, workers, choice.times)]
        rows += _trainings(folder, {min(sets): sets[min(sets)], max(sets): sets[max(sets)]}, size, choice)
    show(rows, as_json=choice.json)


def _source(given: Path | None, drawn: Path, workers: int) -> list[Path]:
    """The files that sets are made of."""
    if given is None:
        from faces.drawn import write_folder

        write_folder(drawn, DRAWN, size=SIDE, workers=workers)
        given = drawn
    try:
        files = list_images(given).files
    except OSError as error:
        raise UserError(f"cannot read the folder {given} ({error.strerror})") from None
    if not files:
        raise UserError(f"no image in {given}; give a folder that holds face images")
    return [(given / file).resolve() for file in files]


def _made_set(files: list[Path], folder: Path, count: int, workers: int) -> Path:
    """A folder of `count` JPEGs: the first copies of the files as they are, then others of other looks."""
    inside = folder / "faces"  # ImageFolder wants a folder for each class
    inside.mkdir(parents=True)
    jobs = [(file, index, range(index, count, len(files))) for index, file in enumerate(files[:count])]
    with contextlib.closing(parallel_map(partial(_write_copies, inside), jobs, workers)) as written:
        for _ in tqdm(written, f"making {count:,} images", len(jobs), unit=" faces"):
            pass
    return folder


def _write_copies(folder: Path, job: tuple[Path, int, range]) -> None:
    file, index, numbers = job
    try:
        levels = decode_full(file).transpose(1, 2, 0)
    except UnusableImageError as error:
        raise UserError(f"{file}: {error}; leave it out of the folder") from None
    for variant, number in enumerate(numbers):
        target = folder / f"{variant:04d}_{index:06d}.jpg"
        if variant == 0 and file.suffix == ".jpg":
            with contextlib.suppress(OSError):  # another file system
                os.link(file, target)
                continue
        shades = np.random.default_rng(number).uniform(0.7, 1.1, 3) if variant else np.ones(3)
        copy = np.minimum(levels * shades, 255).astype(np.uint8)
        Image.fromarray(copy[:, ::-1] if variant % 2 else copy).save(target, quality=90)


def _starts(made: Path, size: int, workers: int, times: int) -> list[dict[str, Any]]:
    """First and second start, in turn with the baseline, which has but one kind."""
    count = sum(1 for _ in (made / "faces").iterdir())
    tell(f"{count:,} images: starts")
    cache = made.parent / "cache"
    first, second = "decoded once: first start", "decoded once: second start"
    usual = "ImageFolder and DataLoader: baseline"
    tasks = {
        first: partial(_first_start, made, size, cache, workers),
        second: partial(fresh, _ours, made, size, cache, workers),
        usual: partial(fresh, _usual, made, size, workers),
    }
    found = in_turn(tasks, 1)
    if count >= LARGE:
        del tasks[first]
    for name, more in in_turn(tasks, times - 1).items():
        found[name] += more
    return [_start_row(count, name, results) for name, results in found.items()]


def _start_row(count: int, what: str, results: list[tuple[Fed, Cost]]) -> dict[str, Any]:
    ready = Spread.of([fed.ready for fed, _ in results])
    return {
        "images": f"{count:,}",
        "what": what,
        "ready after [s]": ready,
        "CPU seconds": Spread.of([cost.cpu_seconds for _, cost in results]),
        "images/s made ready": count / ready.median if "first" in what else None,
        "images/s to training": Spread.of([fed.rate for fed, _ in results]),
        "memory [MB]": Spread.of([cost.memory for _, cost in results]),
    }


def _first_start(made: Path, size: int, cache: Path, workers: int) -> tuple[Fed, Cost]:
    for path in cache.glob("*"):
        path.unlink()
    return fresh(_ours, made, size, cache, workers)


def _ours(made: Path, size: int, cache: Path, workers: int) -> Fed:
    """This project's way: `load_folder`, and batches gathered from the array."""
    import torch

    from images.dataset import load_folder
    from images.sampler import batch_indices
    from images.tiles import to_float

    start = time.perf_counter()
    data = load_folder(made, size, cache=cache, workers=workers, held_out=0.05, progress=False)
    trained = data.trained

    def batch(step: int) -> torch.Tensor:
        rows = trained[batch_indices(len(trained), BATCH, step, seed=0)]
        return to_float(torch.from_numpy(data.images[rows]))

    return _fed(start, iter(map(batch, range(FED + 1))))


def _usual(made: Path, size: int, workers: int) -> Fed:
    """The textbook's way, with the same filter and range of values."""
    from torch.utils.data import DataLoader
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    start = time.perf_counter()
    steps = [transforms.Resize(size, transforms.InterpolationMode.LANCZOS), transforms.CenterCrop(size)]
    to_tensor = [transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3)]
    faces = ImageFolder(made, transforms.Compose([*steps, *to_tensor]))
    loader = DataLoader(faces, BATCH, shuffle=True, num_workers=workers, drop_last=True)
    batches = min(FED // 10, len(loader) - 1)
    return _fed(start, (images for (images, _), _ in zip(loader, range(batches + 1), strict=False)))


def _fed(start: float, batches: Any) -> Fed:
    """Time the first batch from `start`, and the rate of those that follow."""
    next(batches)
    ready = time.perf_counter()
    count = sum(len(batch) for batch in batches)
    return Fed(ready - start, count / (time.perf_counter() - ready))


def _trainings(
    folder: Path, sets: dict[int, Path], size: int, choice: DataSpeedChoice
) -> list[dict[str, Any]]:
    """train_gan.py on each set, in turn."""
    tell("training")
    tasks = {count: partial(_train, folder, made, size, choice.steps) for count, made in sets.items()}
    rows = []
    for count, results in in_turn(tasks, choice.times).items():
        costs, rates = zip(*results, strict=True)
        rows.append(
            {
                "images": f"{count:,}",
                "what": f"train_gan.py, {choice.steps} steps of small networks",
                "ready after [s]": None,
                "CPU seconds": Spread.of([cost.cpu_seconds for cost in costs]),
                "images/s made ready": None,
                "images/s to training": Spread.of(rates),
                "memory [MB]": Spread.of([cost.memory for cost in costs]),
            }
        )
    return rows


def _train(folder: Path, made: Path, size: int, steps: int) -> tuple[Cost, float]:
    """The cost of a training, and the images a second of its median step."""
    output = Path(tempfile.mkdtemp(dir=folder))
    flags = ("--image-size", size, "--steps", steps, "--cache", folder / "cache", "--output", output)
    cost = run(ROOT / "train_gan.py", made, *flags, *SMALL_NETWORKS, folder=folder)
    (made_run,) = output.iterdir()
    _, rates = read_metrics(made_run)["speed/images_per_second"]
    return cost, median(rates)


if __name__ == "__main__":
    run_script(main)
