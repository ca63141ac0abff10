"""The trainings of recognition.py: folders of links to their images, and runs that are trained only once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.running import run_to_end
from engine.errors import UserError
from engine.runs import checkpoints, step_of
from engine.settings import changed, flag
from faces.recognition.launch import CLASSES, make_plan
from faces.recognition.recognizer import Recognizer, load_recognizer
from faces.settings import FREE
from images.plots import read_metrics


def link(folder: Path, split_of: dict[str, tuple[Iterable[Path], Iterable[Path]]]) -> Path:
    """A folder of links: train/ and validate/ with the classes, or the classes alone where none validates.

    Links of an earlier split are removed: one of them could be of an image that is tested on now.
    """
    given = any(held for _, held in split_of.values())
    links: dict[Path, str] = {}
    for name, (trained, held) in split_of.items():
        for place, files in {"train": trained, "validate": held}.items() if given else [("", trained)]:
            # A link in PEOPLE stays one.
            links |= {folder / place / name / file.name: os.path.abspath(file) for file in files}  # noqa: PTH100
    for path in list(folder.rglob("*")):
        if path.is_symlink() and str(path.readlink()) != links.get(path):
            path.unlink()
    for place, file in links.items():
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.is_symlink():
            place.symlink_to(file)
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()  # of a class that is no longer in it
    return folder


def train(output: Path, name: str, words: Sequence[object], workers: int) -> Path:
    """The finished run of that name; trained, or trained further, where it is not.

    Args:
        output: folder that holds, or will hold, `runs` and `cache`.
        name: of the run.
        words: for train_classifier.py; the folder first.
        workers: processes that decode images.

    Raises:
        UserError: there is a run of that name with other settings, or the training ends early.
    """
    run = _found(output, name)
    if run is None:
        where = ("--output", output / "runs", "--cache", output / "cache")
        call("train_classifier.py", *words, *where, "--name", name, "--workers", workers)
        run = _found(output, name)
        assert run is not None, "a training that ends well leaves a checkpoint"
        return run
    settings = CLASSES.read_info(run).settings
    if differences := changed(settings, make_plan([*map(str, words)]).settings, FREE):
        raise UserError(
            f"{run} was trained with another {', '.join(map(flag, differences))} than is measured now: move "
            "it away, or name another folder by --output"
        )
    if step_of(checkpoints(run)[-1]) < settings.steps:
        call("train_classifier.py", "--resume", run)
    return run


def last_network(run: Path) -> Recognizer:
    """The network of a finished run's last step."""
    return load_recognizer(checkpoints(run)[-1])


def minutes_of(run: Path) -> float:
    """Of training with all that is scored and saved in between, without stops."""
    settings = CLASSES.read_info(run).settings
    rates = read_metrics(run)["speed/images_per_second"][1]
    return sum(settings.log_every * settings.batch_size / rate for rate in rates) / 60


def call(script: str, *words: object, quiet: bool = False) -> None:
    """Run a script of the project. Raises `UserError` where it does not end well."""
    sys.stdout.flush()  # what is printed here stands before what the script prints
    out = subprocess.DEVNULL if quiet else None
    if run_to_end(script, *words, out=out):
        raise UserError(f"{script} was stopped, or failed; the same command goes on")


def _found(output: Path, name: str) -> Path | None:
    for run in sorted((output / "runs").glob("*")):
        if (
            (run / "config.json").exists()
            and checkpoints(run)
            and CLASSES.read_info(run).settings.name == name
        ):
            return run
    return None
