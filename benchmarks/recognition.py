"""Measure what docs/recognition.md tells, on a folder of photos with a sub-folder for each person.

    python benchmarks/recognition.py PEOPLE

The people and images of each part are a fixed list (see `split`). Each training is a run of its own in
--output; what is done already is not done again, and one that was stopped goes on. At the end of each part
stands a table. Its scores are of the last step, never of the best one, which would have been picked by the
very images that it is scored on.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from tyro.conf import Positional

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from faces.calibration import accepted, pair_similarities, threshold_at
from faces.gallery import unit
from faces.recognition.calibrating import look_up
from faces.recognition.folder import Labelled, load_labelled
from faces.recognition.launch import CLASSES
from faces.recognition.report import grey
from faces.recognition.scores import accuracy, balanced_accuracy, confusion_matrix
from faces.recognizer import load_recognizer
from gan.command import parse
from gan.curves import read_metrics
from gan.errors import UserError, run_script
from gan.runs import checkpoints, step_of

ROOT = Path(__file__).resolve().parent.parent
Part = Literal["scratch", "arcface", "finetune", "generated", "speed"]

MANY = ("Colin_Powell", "Donald_Rumsfeld", "George_W_Bush", "Gerhard_Schroeder", "Tony_Blair")
"""Those of more than 100 images."""
TRAINED_OF_MANY = 80
PAIR = ("Donald_Rumsfeld", "Gerhard_Schroeder")
"""On whom transfer is measured; no embedding is trained on them."""
FEW = (10, 30, 60)
"""Images of each to train on; the test begins after the last."""
ENROLLED = 4
CENTRE = ("--centre", 0.6)
"""The face sits in the middle half of each photo."""
FAR = 0.01
STRANGERS_FAR = 0.05
"""Share of newcomers' images that may be taken for another newcomer, at the threshold for strangers."""
COMPONENTS = 100
"""Of eigenfaces (Turk and Pentland 1991)."""

SCRATCH = (*CENTRE, "--method", "scratch", "--steps", 600)
EMBEDDING = (
    *(*CENTRE, "--method", "arcface", "--backbone", "small", "--weights", "none", "--image-size", 64),
    *("--mirror", "--batch-size", 64, "--steps", 2000, "--embedding", 128),
)
LOSSES = {"ArcFace": (), "softmax": ("--loss", "softmax")}
TRANSFER = {
    "from arcface": ("--method", "finetune", "--learning-rate", 0.003, "--steps", 200),
    "from nothing": (
        *("--method", "finetune", "--backbone", "small", "--weights", "none", "--image-size", 64),
        *("--learning-rate", 0.003, "--steps", 200),
    ),
}
GENDER = ("--label", r"^\d+_([01])_", "--method", "scratch", "--image-size", 48, "--steps", 1500)
"""File names of the faces begin with age and gender."""


@dataclass(frozen=True)
class Choice:
    """What is measured."""

    people: Annotated[Path, Positional]
    """Photos with a sub-folder for each person."""
    only: tuple[Part, ...] = ("scratch", "arcface", "finetune", "speed")
    """Parts; generated needs --faces and --run."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of the runs; the split is always the same."""
    faces: Path | None = None
    """Faces whose files' names begin with age and gender."""
    run: Path | None = None
    """A run of train_gan.py, of which 1,000 faces are labelled."""
    output: Path = Path("outputs/recognition")
    """Folder of splits and runs."""
    workers: int = 0
    """Processes that decode images."""


def main() -> None:
    """Train what is missing, then print the tables."""
    choice = parse(Choice, description=__doc__)
    if "generated" in choice.only and (choice.faces is None or choice.run is None):
        raise UserError("generated faces are labelled with --faces FOLDER --run RUN")
    parts: dict[Part, Callable[[Choice], None]] = {
        "scratch": scratch,
        "arcface": arcface,
        "finetune": finetune,
        "generated": generated,
        "speed": speed,
    }
    for part in choice.only:
        print(f"\n{part}\n")
        parts[part](choice)


def split(people: Path) -> tuple[list[str], list[str], list[str]]:
    """Whom embeddings are trained on, who is new, and who is a stranger.

    Of all but the pair of the transfer, by name, every sixth is set aside, by turns as newcomer and as
    stranger; of the pair, one is a stranger and one a newcomer.
    """
    names = sorted(path.name for path in people.iterdir() if path.is_dir())
    others = [name for name in names if name not in PAIR]
    aside = others[5::6][:8]
    newcomers, strangers = [*aside[0::2], PAIR[1]], [*aside[1::2], PAIR[0]]
    return [name for name in others if name not in aside], sorted(newcomers), sorted(strangers)


def scratch(choice: Choice) -> None:
    """Five people from scratch."""
    folder = _linked(
        choice.output / "splits" / "five",
        {
            name: (
                _photos(choice.people, name)[:TRAINED_OF_MANY],
                _photos(choice.people, name)[TRAINED_OF_MANY:],
            )
            for name in MANY
        },
    )
    print("| seed | balanced accuracy | accuracy | balanced, in grey | minutes |\n|---|---|---|---|---|")
    for seed in choice.seeds:
        run = _trained(choice, f"five seed {seed}", (folder, *SCRATCH, "--seed", seed))
        recognizer = load_recognizer(checkpoints(run)[-1])
        data = load_labelled(
            folder,
            recognizer.side,
            cache=choice.output / "cache",
            workers=choice.workers,
            centre=recognizer.settings.centre,
        )
        images, true = data.images[data.held_rows], data.labels[data.held_rows]
        colour, without = (
            confusion_matrix(true, recognizer.probabilities(shown).argmax(1), len(data.classes))
            for shown in (images, grey(images))
        )
        values = (balanced_accuracy(colour), accuracy(colour), balanced_accuracy(without))
        print(f"| {seed} | {' | '.join(f'{value:.3f}' for value in values)} | {_minutes(run):.1f} |")


def arcface(choice: Choice) -> None:
    """Forty people; five enrolled as new, five strangers."""
    trained, newcomers, strangers = split(choice.people)
    print(f"trained on {len(trained)}; new: {', '.join(newcomers)}; strangers: {', '.join(strangers)}\n")
    new = _labelled(choice, "newcomers", newcomers)
    other = _labelled(choice, "strangers", strangers)
    rows: dict[str, list[dict[str, float]]] = {}
    for name in LOSSES:
        for seed in choice.seeds:
            recognizer = load_recognizer(checkpoints(_embedding(choice, name, seed))[-1])
            side = recognizer.side
            found = _figures(
                recognizer.vectors(_at(new, side)), new, recognizer.vectors(_at(other, side)), other
            )
            rows.setdefault(name, []).append(found)
    base = _labelled(choice, "trained", trained)
    for whiten in (False, True):
        project = eigenfaces(_at(base, 64), whiten=whiten)
        name = "PCA, whitened" if whiten else "PCA"
        rows[name] = [_figures(project(_at(new, 64)), new, project(_at(other, 64)), other)]
    names = list(rows["PCA"][0])
    print(f"| features | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    for name, found in rows.items():
        cells = [_spread([one[score] for one in found]) for score in names]
        print(f"| {name} | {' | '.join(cells)} |")


def finetune(choice: Choice) -> None:
    """Two people on few images: from the embedding's weights, and from nothing."""
    print("| images of each | " + " | ".join(TRANSFER) + " |\n|---|---|---|")
    for count in FEW:
        cells = []
        folder = _linked(
            choice.output / "splits" / f"two-{count}",
            {
                name: (_photos(choice.people, name)[:count], _photos(choice.people, name)[FEW[-1] :])
                for name in PAIR
            },
        )
        for name, flags in TRANSFER.items():
            scores = []
            for seed in choice.seeds:
                words = (folder, *CENTRE, *flags, "--seed", seed)
                if name == "from arcface":
                    words = (*words, "--from", checkpoints(_embedding(choice, "ArcFace", seed))[-1])
                run = _trained(choice, f"two {count} {name} seed {seed}", words)
                scores.append(read_metrics(run)["score/balanced_accuracy"][1][-1])
            cells.append(_spread(scores))
        print(f"| {count} | {' | '.join(cells)} |")


def generated(choice: Choice) -> None:
    """A thousand generated faces, labelled by a classifier of genders, and measured in its features."""
    assert choice.faces is not None
    assert choice.run is not None
    run = _trained(choice, "gender", (choice.faces, *GENDER))
    print(f"balanced accuracy {json.loads((run / 'report.json').read_text())['balanced_accuracy']:.3f}")
    singles = choice.output / "generated"
    if not singles.is_dir():
        _call("sample.py", choice.run, "--count", 1000, "--separate", singles)
    table = choice.output / "labels"
    _call("recognize.py", "predict", run, singles, "--whole-image", "--no-copies", "--output", table)
    features = ("--features", "random", "classifier", "--classifier", run)
    _call("evaluate.py", choice.run, "--count", 1000, *features)


def speed(choice: Choice) -> None:
    """Faces a second through the embedding, and through MobileNetV2 at 112 pixels."""
    from faces.recognition.networks import make_network
    from faces.recognition.settings import ClassifierSettings, resolved

    print("| network | threads | faces a second |\n|---|---|---|")
    import torch

    small = ClassifierSettings(method="arcface", backbone="small", weights="none", image_size=64)
    large = ClassifierSettings(method="arcface", weights="none")
    for name, settings in (("small, 64 px", small), ("mobilenet_v2, 112 px", large)):
        network = make_network(resolved(settings), 40).eval().to(memory_format=torch.channels_last)
        side = resolved(settings).image_size
        assert side is not None
        images = torch.rand(64, 3, side, side).contiguous(memory_format=torch.channels_last)
        rates = []
        with torch.inference_mode():
            for _ in range(4):
                start = time.perf_counter()
                network.features(images)
                rates.append(len(images) / (time.perf_counter() - start))
        print(f"| {name} | {torch.get_num_threads()} | {sorted(rates[1:])[1]:.0f} |")


def eigenfaces(
    images: NDArray[np.uint8], *, whiten: bool
) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    """The projection onto the first principal components of grey images (Turk and Pentland 1991).

    Args:
        images: uint8 [N, 3, S, S], to find them on.
        whiten: whether each component is divided by its standard deviation.
    """
    flat = _flat(images)
    middle = flat.mean(0)
    _, spreads, axes = np.linalg.svd(flat - middle, full_matrices=False)
    axes = axes[:COMPONENTS] / (spreads[:COMPONENTS, None] if whiten else 1)
    return lambda others: unit((_flat(others) - middle) @ axes.T)


def _figures(
    new: NDArray[np.float32], new_data: Labelled, other: NDArray[np.float32], other_data: Labelled
) -> dict[str, float]:
    """How newcomers are told from each other and from strangers, in one space of vectors."""
    gallery, found = look_up(new, new_data.names(), ENROLLED)
    threshold = threshold_at(found.other, STRANGERS_FAR)
    strangers = gallery.similarities(other).max(1)
    genuine, impostor = pair_similarities(
        np.concatenate([new, other]), [*new_data.names(), *other_data.names()]
    )
    return {
        "rank-1": found.rank_1(),
        "TAR at FAR 1 %": accepted(genuine, threshold_at(impostor, FAR)),
        "strangers refused": 1 - accepted(strangers, threshold),
        "newcomers named": found.named(threshold),
    }


def _embedding(choice: Choice, loss: str, seed: int) -> Path:
    trained, _, _ = split(choice.people)
    folder = _linked(
        choice.output / "splits" / "forty", {name: (_photos(choice.people, name), ()) for name in trained}
    )
    return _trained(choice, f"forty {loss} seed {seed}", (folder, *EMBEDDING, *LOSSES[loss], "--seed", seed))


def _labelled(choice: Choice, name: str, people: Sequence[str]) -> Labelled:
    folder = _linked(
        choice.output / "splits" / name, {person: (_photos(choice.people, person), ()) for person in people}
    )
    cache = choice.output / "cache"
    return load_labelled(folder, 112, cache=cache, workers=choice.workers, centre=float(CENTRE[1]))


def _at(data: Labelled, side: int) -> NDArray[np.uint8]:
    """The images of a set at another side, averaged as a recogniser does."""
    import torch

    from gan.features import resized

    return resized(torch.from_numpy(np.array(data.images)), side).numpy()


def _photos(people: Path, name: str) -> list[Path]:
    return sorted((people / name).iterdir())


def _linked(folder: Path, split_of: dict[str, tuple[Iterable[Path], Iterable[Path]]]) -> Path:
    """A folder of links: train/ and validate/ with the classes, or the classes alone where none validates."""
    given = any(held for _, held in split_of.values())
    for name, (trained, held) in split_of.items():
        places = {"train": trained, "validate": held} if given else {"": trained}
        for place, files in places.items():
            here = folder / place / name
            here.mkdir(parents=True, exist_ok=True)
            for file in files:
                link = here / file.name
                if not link.exists():
                    link.symlink_to(os.path.abspath(file))  # noqa: PTH100 - a link in PEOPLE stays one
    return folder


def _trained(choice: Choice, name: str, words: Sequence[object]) -> Path:
    """The finished run of that name; trained, or trained further, where it is not."""
    run = _found(choice, name)
    if run is None:
        where = ("--output", choice.output / "runs", "--cache", choice.output / "cache")
        _call("train_classifier.py", *words, *where, "--name", name, "--workers", choice.workers)
    elif step_of(checkpoints(run)[-1]) < CLASSES.read_info(run).settings.steps:
        _call("train_classifier.py", "--resume", run)
    trained = run or _found(choice, name)
    assert trained is not None, "a training that ends well leaves a checkpoint"
    return trained


def _found(choice: Choice, name: str) -> Path | None:
    for run in sorted((choice.output / "runs").glob("*")):
        if (
            (run / "config.json").exists()
            and checkpoints(run)
            and CLASSES.read_info(run).settings.name == name
        ):
            return run
    return None


def _call(script: str, *words: object) -> None:
    done = subprocess.run([sys.executable, ROOT / script, *map(str, words)], check=False)
    if done.returncode:
        raise UserError(f"{script} was stopped, or failed; the same command goes on")


def _minutes(run: Path) -> float:
    """From the first picture to the last checkpoint, stops included."""
    return (checkpoints(run)[-1].stat().st_mtime - (run / "samples/step_000000.png").stat().st_mtime) / 60


def _flat(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    return grey(images)[:, 0].reshape(len(images), -1).astype(np.float32)


def _spread(values: Sequence[float]) -> str:
    text = f"{mean(values):.3f}"
    return text if len(values) < 2 else f"{text} ({min(values):.3f} to {max(values):.3f})"


if __name__ == "__main__":
    run_script(main)
