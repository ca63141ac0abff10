"""Measure what docs/recognition.md tells, on a folder of photos with a sub-folder for each person.

    python benchmarks/recognition.py PEOPLE

The people and images of each part are a fixed list (see `split`). Each training is a run of its own in
--output; what is done already is not done again, and one that was stopped goes on. At the end of each part
stands a table. Its scores are of the last step, never of the best one, which would have been picked by the
very images that it is scored on.
"""

from __future__ import annotations

import csv
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from tyro.conf import Positional

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.recognition_runs import call, last_network, link, minutes_of, train
from engine.cli import parse
from engine.errors import UserError, run_script
from engine.runs import checkpoints
from faces.recognition.calibrate import enroll_and_identify
from faces.recognition.calibration import accept_rate, pair_similarities, threshold_at_far
from faces.recognition.folder import LabelledImages, load_labelled_images
from faces.recognition.gallery import unit_vectors
from faces.recognition.launch import CLASSES
from faces.recognition.networks import make_network
from faces.recognition.recognizer import Recognizer
from faces.recognition.report import to_grey
from faces.recognition.scores import accuracy, balanced_accuracy, confusion_matrix
from faces.recognition.settings import ClassifierSettings, resolve
from images.plots import read_metrics

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
"""Share of images that may be taken for another newcomer, of those on which a threshold is found."""
COMPONENTS = 100
"""Of eigenfaces (Turk and Pentland 1991)."""

SCRATCH = (*CENTRE, "--method", "scratch", "--steps", 600)
SIDE = 64
"""Of what embeddings and eigenfaces see, in pixels."""
SMALL = ("--backbone", "small", "--weights", "none", "--image-size", SIDE)
EMBEDDING = (
    *(*CENTRE, "--method", "arcface", *SMALL),
    *("--mirror", "--batch-size", 64, "--steps", 2000, "--embedding", 128),
)
LOSSES = {"ArcFace": (), "softmax": ("--loss", "softmax")}
TRANSFER = {
    "from arcface": ("--method", "finetune", "--learning-rate", 0.003, "--steps", 200),
    "the same network from nothing": (
        *("--method", "finetune", *SMALL, "--learning-rate", 0.003, "--steps", 200),
    ),
    "scratch": ("--method", "scratch", "--steps", 300),
}
LABEL = r"^\d+_([01])_"
"""File names of the faces begin with age and gender."""
GENDER = ("--label", LABEL, "--method", "scratch", "--image-size", 48, "--steps", 1500)
GENERATED = 1000


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
    missing = [name for name in (*MANY, *PAIR) if not (choice.people / name).is_dir()]
    if missing and {*choice.only} & {"scratch", "arcface", "finetune"}:
        raise UserError(f"{choice.people} has no folder {missing[0]}; docs/recognition.md tells of whom")
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
    folder = link(
        choice.output / "splits" / "five",
        {
            name: (
                _photos(choice.people, name)[:TRAINED_OF_MANY],
                _photos(choice.people, name)[TRAINED_OF_MANY:],
            )
            for name in MANY
        },
    )
    table = ["| seed | balanced accuracy | accuracy | balanced, in grey | minutes |", "|---|---|---|---|---|"]
    for seed in choice.seeds:
        run = train(choice.output, f"five seed {seed}", (folder, *SCRATCH, "--seed", seed), choice.workers)
        recognizer = last_network(run)
        data = _labelled(choice, folder, recognizer.side)
        images, true = data.images[data.held_rows], data.labels[data.held_rows]
        colour, without = (
            confusion_matrix(true, recognizer.probabilities(shown).argmax(1), len(data.classes))
            for shown in (images, to_grey(images))
        )
        values = (balanced_accuracy(colour), accuracy(colour), balanced_accuracy(without))
        cells = [*(f"{value:.3f}" for value in values), f"{minutes_of(run):.1f}"]
        table.append(f"| {seed} | {' | '.join(cells)} |")
    print("\n".join(table))  # after all that the trainings print


def arcface(choice: Choice) -> None:
    """Forty people; five enrolled as new, five strangers."""
    trained, newcomers, strangers = split(choice.people)
    print(f"trained on {len(trained)}; new: {', '.join(newcomers)}; strangers: {', '.join(strangers)}\n")
    base, new, other = (
        _labelled(choice, _people(choice, name, people), SIDE)
        for name, people in (("forty", trained), ("newcomers", newcomers), ("strangers", strangers))
    )
    rows: dict[str, list[dict[str, float]]] = {}
    for name in LOSSES:
        for seed in choice.seeds:
            recognizer = last_network(_embedding(choice, name, seed))
            assert recognizer.side == SIDE, "it is scored on images as it was trained on"
            found = open_set(
                recognizer.embeddings(new.images), new, recognizer.embeddings(other.images), other
            )
            rows.setdefault(name, []).append(found)
    for whiten in (False, True):
        project = eigenfaces(base.images, whiten=whiten)
        name = "PCA, whitened" if whiten else "PCA"
        rows[name] = [open_set(project(new.images), new, project(other.images), other)]
    names = list(rows["PCA"][0])
    print(f"| features | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    for name, found in rows.items():
        cells = [_spread([one[score] for one in found]) for score in names]
        print(f"| {name} | {' | '.join(cells)} |")


def finetune(choice: Choice) -> None:
    """Two people on few images: from the embedding's weights, and without them."""
    table = [f"| images of each | {' | '.join(TRANSFER)} |", f"|---|{'---|' * len(TRANSFER)}"]
    for count in FEW:
        cells = []
        folder = link(
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
                run = train(choice.output, f"two {count} {name} seed {seed}", words, choice.workers)
                scores.append(read_metrics(run)["score/balanced_accuracy"][1][-1])
            cells.append(_spread(scores))
        table.append(f"| {count} | {' | '.join(cells)} |")
    print("\n".join(table))


def generated(choice: Choice) -> None:
    """A thousand generated faces, labelled by a classifier of genders, and measured in its features."""
    assert choice.faces is not None
    assert choice.run is not None
    run = train(choice.output, "gender", (choice.faces, *GENDER), choice.workers)
    recognizer, file = last_network(run), checkpoints(run)[-1]
    held_out = CLASSES.read_info(run).settings.held_out
    data = _labelled(choice, choice.faces, recognizer.side, label=LABEL, held_out=held_out)
    images, true = data.images[data.held_rows], data.labels[data.held_rows]
    real = recognizer.probabilities(images).argmax(1)
    score = balanced_accuracy(confusion_matrix(true, real, len(data.classes)))
    print(f"balanced accuracy {score:.3f} on {len(true):,} faces held out\n")
    table = choice.output / "labels"
    with tempfile.TemporaryDirectory() as folder:
        singles = Path(folder) / "faces"
        call("sample.py", choice.run, "--count", GENERATED, "--separate", singles)
        flags = ("--whole-image", "--no-copies", "--output", table)
        call("recognize.py", "predict", file, singles, *flags, quiet=True)
    with (table / "recognized.csv").open(encoding="utf-8", newline="") as rows:
        labels = [row["name"] for row in csv.DictReader(rows)]
    print(f"| class | real | real, as labelled | {len(labels):,} generated, as labelled |")
    print("|---|---|---|---|")
    for number, name in enumerate(data.classes):
        shares = ((true == number).mean(), (real == number).mean(), labels.count(name) / len(labels))
        print(f"| {name} | {' | '.join(f'{share:.1%}' for share in shares)} |")
    features = ("--features", "random", "classifier", "--classifier", file)
    call("evaluate.py", choice.run, "--count", GENERATED, *features)


def speed(choice: Choice) -> None:
    """Faces a second from uint8 to vectors, by the small backbone and by MobileNetV2 at 112 pixels."""
    print("| network | threads | faces a second |\n|---|---|---|")
    small = ClassifierSettings(method="arcface", backbone="small", weights="none", image_size=SIDE)
    large = ClassifierSettings(method="arcface", weights="none")
    for name, asked in ((f"small, {SIDE} px", small), ("mobilenet_v2, 112 px", large)):
        settings = resolve(asked)
        network = make_network(settings, 40).eval().to(memory_format=torch.channels_last)
        recognizer = Recognizer(network, (), settings, torch.device("cpu"), Path(), 0, "")
        shape = (256, 3, recognizer.side, recognizer.side)
        images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        recognizer.embeddings(images)  # the first time is slower
        rates = []
        for _ in range(5):
            start = time.perf_counter()
            recognizer.embeddings(images)
            rates.append(len(images) / (time.perf_counter() - start))
        spread = f"{median(rates):.0f} ({min(rates):.0f} to {max(rates):.0f})"
        print(f"| {name} | {torch.get_num_threads()} | {spread} |")


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
    return lambda others: unit_vectors((_flat(others) - middle) @ axes.T)


def open_set(
    new: NDArray[np.float32], new_data: LabelledImages, other: NDArray[np.float32], other_data: LabelledImages
) -> dict[str, float]:
    """How newcomers are told from each other and from strangers, in one space of vectors.

    Nobody is judged by a threshold that was found on images of their own: strangers by that of all newcomers,
    and each newcomer by that of the others. All but `rank-1` and the TAR are means over the people.
    """
    gallery, found = enroll_and_identify(new, new_data.class_names(), ENROLLED)
    people, right = np.array(found.people, object), found.genuine > found.impostor
    named = []
    for name in sorted({*found.people}):
        mine = people == name
        threshold = threshold_at_far(found.impostor[~mine], STRANGERS_FAR)
        named.append((right & (found.genuine >= threshold))[mine].mean())
    threshold = threshold_at_far(found.impostor, STRANGERS_FAR)
    best, theirs = gallery.similarities(other).max(1), np.array(other_data.class_names(), object)
    refused = [(best < threshold)[theirs == name].mean() for name in other_data.classes]
    genuine, impostor = pair_similarities(
        np.concatenate([new, other]), [*new_data.class_names(), *other_data.class_names()]
    )
    return {
        "rank-1": found.rank_1(),
        "rank-1, balanced": found.balanced_rank_1(),
        "TAR at FAR 1 %": accept_rate(genuine, threshold_at_far(impostor, FAR)),
        "strangers refused": float(np.mean(refused)),
        "newcomers named": float(np.mean(named)),
    }


def _embedding(choice: Choice, loss: str, seed: int) -> Path:
    folder = _people(choice, "forty", split(choice.people)[0])
    words = (folder, *EMBEDDING, *LOSSES[loss], "--seed", seed)
    return train(choice.output, f"forty {loss} seed {seed}", words, choice.workers)


def _people(choice: Choice, name: str, people: Sequence[str]) -> Path:
    """A folder with all photos of these people."""
    return link(
        choice.output / "splits" / name, {person: (_photos(choice.people, person), ()) for person in people}
    )


def _labelled(
    choice: Choice, folder: Path, side: int, *, label: str | None = None, held_out: float = 0.0
) -> LabelledImages:
    """As a training reads them; faces that a label tells are cropped already, others are cut out."""
    return load_labelled_images(
        folder,
        side,
        cache=choice.output / "cache",
        workers=choice.workers,
        label=label,
        centre=1.0 if label else float(CENTRE[1]),
        held_out=held_out,
    )


def _photos(people: Path, name: str) -> list[Path]:
    return sorted((people / name).iterdir())


def _flat(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    return to_grey(images)[:, 0].reshape(len(images), -1).astype(np.float32)


def _spread(values: Sequence[float]) -> str:
    text = f"{mean(values):.3f}"
    return text if len(values) < 2 else f"{text} ({min(values):.3f} to {max(values):.3f})"


if __name__ == "__main__":
    run_script(main)
