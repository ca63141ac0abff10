"""Measure how long the scripts take to start, and to draw faces from a trained network.

    python -m benchmarks.sample_speed [RUN]

Without a run, an untrained one of the preset `evening` is made. The baseline of sample.py is the textbook
way: read the whole checkpoint, draw, and let torchvision write the picture, one image at a time for single
images.
The baselines of --help are an interpreter that does nothing and one that imports torch. Everything is
measured from the start of the process to its end. The table marks targets that are missed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

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
from engine.errors import run_script
from engine.runs import find_run
from engine.settings import at_least

HELP_TARGET = 0.8
"""Seconds for the --help of a script."""
GRID_TARGET = 5.0
"""Seconds for 8 x 8 faces."""


@dataclass(frozen=True)
class SampleSpeedArguments:
    """What to measure."""

    run: Annotated[str | None, Positional, arg(metavar="[RUN]")] = None
    """Folder of a run, or its name or number; an untrained `evening` run if not given."""
    image_size: int = 96
    """Side of the images of that untrained run in pixels."""
    many: int = 10_000
    """Single images of the longest task, which is measured once."""
    times: int = 5
    """Repetitions of all other measurements."""
    quick: bool = False
    """Use a tenth of the images and three repetitions."""
    json: bool = False
    """Print JSON instead of a table."""

    def __post_init__(self) -> None:
        at_least(self, 1, "times")
        at_least(self, 100, "many")


def main() -> None:
    """Make a run if none is given, measure, print."""
    args = parse(SampleSpeedArguments, description=__doc__)
    many, times = (args.many // 10, 3) if args.quick else (args.many, args.times)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        source = find_run(args.run).absolute() if args.run else _make_run(folder, args.image_size)
        rows = [*_starts(folder, times), *_grids(folder, source, times), *_singles(folder, source, many)]
    print_rows(rows, as_json=args.json)


def _make_run(folder: Path, size: int) -> Path:
    log("making a run")
    from faces.drawn import write_folder

    write_folder(folder / "faces", 8, workers=0)
    flags = ("--preset", "evening", "--image-size", size, "--batch-size", 8)
    flags += ("--held-out", 0, "--device", "cpu")
    run_python(ROOT / "train_gan.py", "faces", *flags, "--steps", 1, "--workers", 0, folder=folder)
    (run,) = (folder / "outputs").iterdir()
    return run


def _starts(folder: Path, times: int) -> list[dict[str, Any]]:
    """--help of every script, an interpreter that does nothing, and one that imports torch."""
    log("--help of each script")
    scripts = sorted(ROOT.glob("*.py"))
    tasks = {
        f"`{script.name} --help`": partial(run_python, script, "--help", folder=folder) for script in scripts
    }
    tasks |= {
        f"`python -c '{code}'`": partial(run_python, "-c", code, folder=folder)
        for code in ("", "import torch")
    }
    interleave(tasks, 1)  # compiles the modules
    results = interleave(tasks, times)
    nothing, torch = list(results)[-2:]
    rows = [
        _row(name, costs, target=HELP_TARGET)
        for name, costs in results.items()
        if name not in (nothing, torch)
    ]
    return [*rows, _row(f"{nothing}: baseline", results[nothing]), _row(f"{torch}: baseline", results[torch])]


def _grids(folder: Path, source: Path, times: int) -> list[dict[str, Any]]:
    log("grids")
    script = ROOT / "sample.py"
    tasks = {
        "`sample.py --count 1`": partial(
            run_python, script, source, "--count", 1, "--device", "cpu", folder=folder
        ),
        "`sample.py`, 8 x 8 faces": partial(run_python, script, source, "--device", "cpu", folder=folder),
        "textbook, 8 x 8 faces: baseline": partial(_cost, _textbook_grid, source, folder),
    }
    results = interleave(tasks, times)
    return [
        _row(name, costs, target=None if "textbook" in name else GRID_TARGET)
        for name, costs in results.items()
    ]


def _singles(folder: Path, source: Path, many: int) -> list[dict[str, Any]]:
    log(f"{many:,} single images")
    arguments = (source, "--count", many, "--separate", folder / "singles", "--device", "cpu")
    fewer = many // 10
    return [
        _row(
            f"`sample.py --count {many} --separate`",
            [run_python(ROOT / "sample.py", *arguments, folder=folder)],
            many,
        ),
        _row(
            f"textbook, {fewer:,} single images: baseline",
            [_cost(_textbook_singles, source, folder, fewer)],
            fewer,
        ),
    ]


def _row(
    what: str, costs: list[Cost], images: int | None = None, target: float | None = None
) -> dict[str, Any]:
    seconds = Spread.of([cost.seconds for cost in costs])
    missed = target is not None and seconds.median > target
    return {
        "what": what,
        "seconds": seconds,
        "CPU seconds": Spread.of([cost.cpu_seconds for cost in costs]),
        "images/s": images / seconds.median if images else None,
        "memory [MB]": max(cost.memory for cost in costs),
        "target [s]": None if target is None else f"{target:g}{', missed' if missed else ''}",
    }


def _cost(function: Callable[..., None], *arguments: object) -> Cost:
    return call_in_subprocess(function, *arguments)[1]


def _textbook_generator(source: Path) -> Any:
    """The averaged generator, from the whole checkpoint and with contiguous weights."""
    import torch

    from engine.runs import checkpoints
    from gan.config import read_info
    from gan.networks import Generator

    settings = read_info(source).settings
    network = Generator(settings.generator_widths, settings.latent_size, settings.image_size)
    state = torch.load(checkpoints(source)[-1], map_location="cpu", weights_only=True)
    network.load_state_dict(state["average"] or state["generator"])
    return network.eval()


def _textbook_grid(source: Path, folder: Path) -> None:
    import torch
    from torchvision.utils import save_image

    network = _textbook_generator(source)
    with torch.no_grad():
        images = network(torch.rand(64, network.latent_size) * 2 - 1)
    save_image(images, folder / "textbook.png", nrow=8, normalize=True, value_range=(-1, 1))


def _textbook_singles(source: Path, folder: Path, count: int) -> None:
    import torch
    from torchvision.utils import save_image

    network = _textbook_generator(source)
    for index in range(count):
        with torch.no_grad():
            image = network(torch.rand(1, network.latent_size) * 2 - 1)
        save_image(image, folder / f"textbook-{index}.png", normalize=True, value_range=(-1, 1))


if __name__ == "__main__":
    run_script(main)
