"""Measure the faces per second of a landmark network, alone and in predict_landmarks.py.

    python -m benchmarks.landmark_speed RUN PHOTOS

Each photo counts as a crop of one face, so no detector is involved. "Alone" is measured in a process that is
already running, on decoded photos, cutting the crops out included. The script is measured from the start of
its process to its end, with decoding, copies and the table; nearly all of the time of a single photo is the
start.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from benchmarks.measuring import ROOT, Spread, call_in_subprocess, interleave, log, print_rows, run_python
from engine.cli import parse
from engine.errors import UserError, run_script
from engine.runs import find_run_or_checkpoint
from engine.settings import Device, at_least
from faces.landmarks.prediction import whole_image
from faces.photos import list_photos
from images.decode import UnusableImageError, decode_full


@dataclass(frozen=True)
class LandmarkSpeedArguments:
    """Which run to measure, and on which photos."""

    run: Annotated[str, Positional, arg(metavar="RUN")]
    """A run of train_landmarks.py: its folder, or its name or number in --runs."""
    photos: Annotated[Path, Positional, arg(metavar="PHOTOS")]
    """Folder of photos."""
    runs: Path = Path("outputs/landmarks")
    """Folder of runs."""
    count: int = 200
    """Number of photos, the first ones of the folder."""
    together: int = 64
    """Faces per batch; batches of one are measured too."""
    threads: int = 1
    """Threads of the arithmetic."""
    times: int = 3
    """Repetitions of each measurement."""
    device: Device = "cpu"
    """Where to compute."""
    json: bool = False
    """Print JSON instead of a table."""

    def __post_init__(self) -> None:
        at_least(self, 1, "count together threads times")


def main() -> None:
    """Measure, print."""
    args = parse(LandmarkSpeedArguments, description=__doc__)
    source = find_run_or_checkpoint(args.run, args.runs, "train_landmarks.py FOLDER").absolute()
    files = [file.absolute() for file in list_photos([args.photos]).files[: args.count]]
    network = partial(call_in_subprocess, faces_per_second, source, files, args.threads, args.device)
    alone = {
        f"alone, {together} at a time, looks: {looks}": partial(network, together, looks)
        for together, looks in product(dict.fromkeys([1, args.together]), (1, 2))
    }
    log("the network alone")
    rows = [
        {"what": what, "faces/s": Spread.of([rate for rate, _ in results]), "seconds": None}
        for what, results in interleave(alone, args.times).items()
    ]
    log("predict_landmarks.py")
    flags = ("--whole-image", "--device", args.device, "--output", "out")
    with tempfile.TemporaryDirectory() as scratch:
        script = partial(run_python, ROOT / "predict_landmarks.py", source, *flags, folder=Path(scratch))
        tasks = {
            count: partial(script, *files[:count], threads=args.threads)
            for count in dict.fromkeys([len(files), 1])
        }
        for count, costs in interleave(tasks, args.times).items():
            seconds = [cost.seconds for cost in costs]
            what = f"`predict_landmarks.py`, photos: {count}, looks: 2"
            rates = Spread.of([count / each for each in seconds])
            rows.append({"what": what, "faces/s": rates, "seconds": Spread.of(seconds)})
    print_rows(rows, as_json=args.json)


def faces_per_second(
    source: Path, files: list[Path], threads: int, device: Device, together: int, looks: int
) -> float:
    """Rate at which the network processes one face of each photo, repeated to a batch.

    Args:
        source: run or checkpoint.
        files: photos.
        threads: of the arithmetic.
        device: where to compute.
        together: faces per batch.
        looks: passes per face.

    Raises:
        UserError: the checkpoint cannot be used, or a photo cannot be decoded.
    """
    import torch

    from faces.landmarks.predictor import load_predictor

    torch.set_num_threads(threads)
    predictor = load_predictor(source, device=device)
    seconds = 0.0
    for number, file in enumerate([files[0], *files]):
        try:
            image = decode_full(file)
        except UnusableImageError as error:
            raise UserError(f"{file}: {error}") from None
        boxes = whole_image(file, image) * together
        start = time.perf_counter()
        predictor.points(image, boxes, looks=looks)
        seconds += time.perf_counter() - start if number else 0.0  # the first pass allocates memory
    return together * len(files) / seconds


if __name__ == "__main__":
    run_script(main)
