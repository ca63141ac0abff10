"""How long a user waits for faces from a trained network, and for the scripts to answer at all.

    python benchmarks/sample_speed.py [RUN]

Without a run, one of the preset `light` is made. Beside sample.py stands the textbook way: read the
checkpoint, draw, let torchvision write the picture; one image at a time where single images are wanted.
Beside each script's --help stand an interpreter that does nothing and one that imports torch. Everything is
timed from the start of the process to its end. A target is marked where it is missed.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from benchmarks.measuring import ROOT, Cost, Spread, fresh, in_turn, run, show, tell
from engine.cli import parse
from engine.errors import run_script
from engine.runs import find_run
from engine.settings import at_least

HELP_TARGET = 0.8
"""Seconds for `sample.py --help`."""
GRID_TARGET = 5.0
"""Seconds for 8 x 8 faces."""


@dataclass(frozen=True)
class SampleSpeedChoice:
    """What to time."""

    run: Annotated[str | None, Positional, arg(metavar="[RUN]")] = None
    """Folder of a run, or its name or number; an untrained `light` run is made if none is named."""
    image_size: int = 96
    """Side of the images of the run that is made, in pixels."""
    many: int = 10_000
    """Single images in the longest task; it is done once."""
    times: int = 5
    """How often everything else is done."""
    quick: bool = False
    """A tenth of the images, and three times."""
    json: bool = False
    """Print JSON instead of a table."""

    def __post_init__(self) -> None:
        at_least(self, 1, "times")
        at_least(self, 100, "many")


def main() -> None:
    """Make a run if there is none, time, print."""
    choice = parse(SampleSpeedChoice, description=__doc__)
    many, times = (choice.many // 10, 3) if choice.quick else (choice.many, choice.times)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        source = find_run(choice.run).absolute() if choice.run else _made_run(folder, choice.image_size)
        rows = [*_starts(folder, times), *_grids(folder, source, times), *_singles(folder, source, many)]
    show(rows, as_json=choice.json)


def _made_run(folder: Path, size: int) -> Path:
    tell("making a run")
    from faces.drawn import write_folder

    write_folder(folder / "faces", 8, workers=0)
    flags = ("--preset", "light", "--image-size", size, "--batch-size", 8, "--held-out", 0, "--device", "cpu")
    run(ROOT / "train_gan.py", "faces", *flags, "--steps", 1, "--workers", 0, folder=folder)
    (made,) = (folder / "outputs").iterdir()
    return made


def _starts(folder: Path, times: int) -> list[dict[str, Any]]:
    """--help of every script, in turn with an interpreter that does nothing and one that imports torch."""
    tell("--help of each script")
    scripts = sorted(ROOT.glob("*.py"))
    tasks = {f"`{script.name} --help`": partial(run, script, "--help", folder=folder) for script in scripts}
    tasks |= {
        f"`python -c '{code}'`": partial(run, "-c", code, folder=folder) for code in ("", "import torch")
    }
    in_turn(tasks, 1)  # compiles what is not yet
    found = in_turn(tasks, times)
    nothing, torch = list(found)[-2:]
    rows = [
        _row(name, costs, target=HELP_TARGET) for name, costs in found.items() if name not in (nothing, torch)
    ]
    return [*rows, _row(f"{nothing}: baseline", found[nothing]), _row(f"{torch}: baseline", found[torch])]


def _grids(folder: Path, source: Path, times: int) -> list[dict[str, Any]]:
    tell("grids")
    script = ROOT / "sample.py"
    tasks = {
        "`sample.py --count 1`": partial(run, script, source, "--count", 1, "--device", "cpu", folder=folder),
        "`sample.py`, 8 x 8 faces": partial(run, script, source, "--device", "cpu", folder=folder),
        "textbook, 8 x 8 faces: baseline": partial(_cost, _textbook_grid, source, folder),
    }
    found = in_turn(tasks, times)
    return [
        _row(name, costs, target=None if "textbook" in name else GRID_TARGET) for name, costs in found.items()
    ]


def _singles(folder: Path, source: Path, many: int) -> list[dict[str, Any]]:
    tell(f"{many:,} single images")
    words = (source, "--count", many, "--separate", folder / "singles", "--device", "cpu")
    few = many // 10
    return [
        _row(
            f"`sample.py --count {many} --separate`", [run(ROOT / "sample.py", *words, folder=folder)], many
        ),
        _row(
            f"textbook, {few:,} single images: baseline", [_cost(_textbook_singles, source, folder, few)], few
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


def _cost(task: Any, *arguments: object) -> Cost:
    return fresh(task, *arguments)[1]


def _textbook_generator(source: Path) -> Any:
    """The averaged generator as a textbook script has it: whole state read, contiguous."""
    import torch

    from engine.runs import checkpoints, read_info
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
