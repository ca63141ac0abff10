"""How many faces a second a trained network of landmarks looks at, alone and in predict_landmarks.py.

    python benchmarks/landmark_speed.py RUN PHOTOS

Each photo counts as a crop of one face, so that no detector is timed. Alone means in a process that has
begun, on photos that are decoded: cutting the crops out is in it. The script is timed from the start of its
process to its end, decoding, copies and the table included; a single photo beside it is nearly all start.
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.measuring import ROOT, Spread, fresh, in_turn, run, show, tell
from engine.cli import parse
from engine.errors import UserError, run_script
from engine.runs import find_run_or_checkpoint
from engine.settings import Device, at_least
from faces.landmarks.prediction import whole_image_box
from faces.photos import list_photos
from images.decode import UnusableImageError, decode_full


@dataclass(frozen=True)
class LandmarkSpeedChoice:
    """What to time on what."""

    run: Annotated[str, Positional, arg(metavar="RUN")]
    """A run of train_landmarks.py: its folder, or its name or number in --runs."""
    photos: Annotated[Path, Positional, arg(metavar="PHOTOS")]
    """Folder of photos."""
    runs: Path = Path("outputs/landmarks")
    """Folder of runs, in which the run is sought."""
    count: int = 200
    """Photos taken of the folder, the first ones."""
    together: int = 64
    """Faces of one photo that the network is given at once, where it is not given them one by one."""
    threads: int = 1
    """Of the arithmetic."""
    times: int = 3
    """How often everything is done."""
    device: Device = "cpu"
    """Where to compute."""
    json: bool = False
    """Print JSON instead of a table."""

    def __post_init__(self) -> None:
        at_least(self, 1, "count together threads times")


def main() -> None:
    """Time, print."""
    choice = parse(LandmarkSpeedChoice, description=__doc__)
    source = find_run_or_checkpoint(choice.run, choice.runs, "train_landmarks.py FOLDER").absolute()
    files = [file.absolute() for file in list_photos([choice.photos]).files[: choice.count]]
    network = partial(fresh, rate, source, files, choice.threads, choice.device)
    alone = {
        f"alone, {together} at a time, looks: {looks}": partial(network, together, looks)
        for together, looks in product(dict.fromkeys([1, choice.together]), (1, 2))
    }
    tell("the network alone")
    rows = [
        {"what": what, "faces/s": Spread.of([rate for rate, _ in found]), "seconds": None}
        for what, found in in_turn(alone, choice.times).items()
    ]
    tell("predict_landmarks.py")
    words = ("--whole-image", "--device", choice.device, "--output", "out")
    with tempfile.TemporaryDirectory() as scratch:
        script = partial(run, ROOT / "predict_landmarks.py", source, *words, folder=Path(scratch))
        some = {
            count: partial(script, *files[:count], threads=choice.threads)
            for count in dict.fromkeys([len(files), 1])
        }
        for count, costs in in_turn(some, choice.times).items():
            seconds = [cost.seconds for cost in costs]
            what = f"`predict_landmarks.py`, photos: {count}, looks: 2"
            rates = Spread.of([count / one for one in seconds])
            rows.append({"what": what, "faces/s": rates, "seconds": Spread.of(seconds)})
    show(rows, as_json=choice.json)


def rate(source: Path, files: list[Path], threads: int, device: Device, together: int, looks: int) -> float:
    """Faces a second: each photo decoded, then its one face looked at so many times at once.

    Raises:
        UserError: the checkpoint cannot be used, or a photo not be decoded.
    """
    import torch

    from faces.landmarks.predictor import load_predictor

    torch.set_num_threads(threads)
    predictor = load_predictor(source, device=device)
    seconds = 0.0
    for number, file in enumerate([files[0], *files]):
        try:
            image = decode_full(file)
        except UnusableImageError as unusable:
            raise UserError(f"{file}: {unusable}") from None
        boxes = whole_image_box(file, image) * together
        start = time.perf_counter()
        predictor.points(image, boxes, looks=looks)
        seconds += time.perf_counter() - start if number else 0.0  # the first time, memory is laid out
    return together * len(files) / seconds


if __name__ == "__main__":
    run_script(main)
