"""The runs of `experiments.recognition`, and their folders of links to images."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from engine.runs import checkpoints
from experiments.running import train_once
from faces.recognition.recognizer import Recognizer, load_recognizer
from faces.recognition.setup import CLASSIFIER, make_plan
from faces.settings import RESUMABLE
from images.plots import read_metrics


def link(folder: Path, split: dict[str, tuple[Iterable[Path], Iterable[Path]]]) -> Path:
    """Make a folder of links to images.

    Args:
        folder: to make or update. Links of an earlier split are removed: one of them could be to an image
            that is tested on now.
        split: training and validation images of each class.

    Returns:
        The folder, with train/ and validate/ that contain the classes, or with the classes alone if there are
        no validation images.
    """
    validated = any(validation for _, validation in split.values())
    links: dict[Path, str] = {}
    for name, (training, validation) in split.items():
        parts = {"train": training, "validate": validation} if validated else {"": training}
        for part, files in parts.items():
            # abspath and not resolve: a link to an image stays one.
            links |= {folder / part / name / file.name: os.path.abspath(file) for file in files}  # noqa: PTH100
    for path in list(folder.rglob("*")):
        if path.is_symlink() and str(path.readlink()) != links.get(path):
            path.unlink()
    for path, file in links.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_symlink():
            path.symlink_to(file)
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
    return folder


def train(output: Path, name: str, arguments: Sequence[object], workers: int) -> Path:
    """The finished run of that name; see `experiments.running.train_once`.

    Args:
        output: folder for `runs` and `cache`.
        name: of the run.
        arguments: for train_classifier.py, the folder first.
        workers: processes that decode images.
    """
    flags = [*arguments, "--output", output / "runs", "--cache", output / "cache"]
    flags += ["--name", name, "--workers", workers]
    settings = make_plan([*map(str, flags)]).settings
    run = train_once("train_classifier.py", flags, settings, CLASSIFIER.read_info, RESUMABLE)
    assert run is not None, "a run that succeeds leaves a checkpoint"
    return run


def last_network(run: Path) -> Recognizer:
    """The network of a finished run's last step."""
    return load_recognizer(checkpoints(run)[-1])


def training_minutes(run: Path) -> float:
    """Minutes of training, scores and checkpoints included, interruptions not."""
    settings = CLASSIFIER.read_info(run).settings
    rates = read_metrics(run)["speed/images_per_second"][1]
    return sum(settings.log_every * settings.batch_size / rate for rate in rates) / 60
