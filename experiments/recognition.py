"""Measure the figures of docs/recognition.md on a folder of photos with a sub-folder for each person.

    python -m experiments.recognition PEOPLE

The people and images of each part are a fixed list (see `split_people`). Each network has a run of its own in
--output. Finished runs are reused and stopped runs are resumed. Each part ends with a table. Its scores are
of the last step, never of the best one, which is chosen on the images that it is scored on.
"""

from __future__ import annotations

import csv
import subprocess
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

from engine.cli import parse
from engine.errors import UserError, run_script
from engine.runs import checkpoints
from experiments.recognition_runs import last_network, link, train, training_minutes
from experiments.running import call_script
from faces.recognition.calibrate import enroll_and_identify
from faces.recognition.calibration import accept_rate, pair_similarities, threshold_at_far
from faces.recognition.folder import LabelledImages, load_labelled_images
from faces.recognition.gallery import unit_vectors
from faces.recognition.networks import make_network
from faces.recognition.recognizer import Recognizer
from faces.recognition.report import to_grey
from faces.recognition.scores import accuracy, balanced_accuracy, confusion_matrix
from faces.recognition.settings import ClassifierSettings, resolve
from faces.recognition.setup import CLASSIFIER
from images.plots import read_metrics

Part = Literal["scratch", "arcface", "finetune", "generated", "speed"]

FREQUENT_PEOPLE = ("Colin_Powell", "Donald_Rumsfeld", "George_W_Bush", "Gerhard_Schroeder", "Tony_Blair")
"""The people with more than 100 images."""
TRAINED_PER_PERSON = 80
TRANSFER_PEOPLE = ("Donald_Rumsfeld", "Gerhard_Schroeder")
"""Transfer is measured on these two; no embedding is trained on them."""
TRANSFER_COUNTS = (10, 30, 60)
"""Training images of each; those after the last are for validation."""
ENROLLED = 4
CENTRE = ("--centre", 0.6)
"""The face is in the middle half of each photo."""
FAR = 0.01
STRANGERS_FAR = 0.05
"""False accept rate among newcomers at which the threshold for strangers is set."""
COMPONENTS = 100
"""Number of eigenfaces (Turk and Pentland 1991)."""

SCRATCH = (*CENTRE, "--method", "scratch", "--steps", 600)
SIDE = 64
"""Pixels, for embeddings and eigenfaces."""
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
"""The faces' file names begin with age and gender."""
GENDER = ("--label", LABEL, "--method", "scratch", "--image-size", 48, "--steps", 1500)
GENERATED = 1000


@dataclass(frozen=True)
class RecognitionArguments:
    """What to measure."""

    people: Annotated[Path, Positional]
    """Photos with a sub-folder for each person."""
    only: tuple[Part, ...] = ("scratch", "arcface", "finetune", "speed")
    """Parts to measure; generated needs --faces and --run."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of the runs; the split is the same for all."""
    faces: Path | None = None
    """Faces whose file names begin with age and gender."""
    run: Path | None = None
    """Run of train_gan.py, of which 1,000 faces are labelled."""
    output: Path = Path("outputs/recognition")
    """Folder of splits and runs."""
    workers: int = 0
    """Processes that decode images."""


def main() -> None:
    """Train what is missing, then print the tables."""
    args = parse(RecognitionArguments, description=__doc__)
    if "generated" in args.only and (args.faces is None or args.run is None):
        raise UserError("the part generated needs --faces FOLDER and --run RUN")
    missing = [name for name in (*FREQUENT_PEOPLE, *TRANSFER_PEOPLE) if not (args.people / name).is_dir()]
    if missing and {*args.only} & {"scratch", "arcface", "finetune"}:
        raise UserError(f"{args.people} has no folder {missing[0]}; docs/recognition.md lists the people")
    parts: dict[Part, Callable[[RecognitionArguments], None]] = {
        "scratch": measure_scratch,
        "arcface": measure_embeddings,
        "finetune": measure_transfer,
        "generated": label_generated,
        "speed": measure_speed,
    }
    for part in args.only:
        print(f"\n{part}\n")
        parts[part](args)


def split_people(people: Path) -> tuple[list[str], list[str], list[str]]:
    """Names of the people that embeddings are trained on, of newcomers, and of strangers.

    Of all people but the two of the transfer, every sixth by name is a newcomer or a stranger in turn. Of the
    two, one is a stranger and one a newcomer.
    """
    names = sorted(path.name for path in people.iterdir() if path.is_dir())
    others = [name for name in names if name not in TRANSFER_PEOPLE]
    untrained = others[5::6][:8]
    newcomers, strangers = [*untrained[0::2], TRANSFER_PEOPLE[1]], [*untrained[1::2], TRANSFER_PEOPLE[0]]
    return [name for name in others if name not in untrained], sorted(newcomers), sorted(strangers)


def measure_scratch(args: RecognitionArguments) -> None:
    """Print the accuracy on five people, trained from scratch."""
    folder = link(
        args.output / "splits" / "five",
        {
            name: (
                _photos(args.people, name)[:TRAINED_PER_PERSON],
                _photos(args.people, name)[TRAINED_PER_PERSON:],
            )
            for name in FREQUENT_PEOPLE
        },
    )
    table = ["| seed | balanced accuracy | accuracy | balanced, in grey | minutes |", "|---|---|---|---|---|"]
    for seed in args.seeds:
        run = train(args.output, f"five seed {seed}", (folder, *SCRATCH, "--seed", seed), args.workers)
        recognizer = last_network(run)
        data = _labelled(args, folder, recognizer.side)
        images, true = data.images[data.held_out_indices], data.labels[data.held_out_indices]
        in_colour, in_grey = (
            confusion_matrix(true, recognizer.probabilities(inputs).argmax(1), len(data.classes))
            for inputs in (images, to_grey(images))
        )
        values = (balanced_accuracy(in_colour), accuracy(in_colour), balanced_accuracy(in_grey))
        cells = [*(f"{value:.3f}" for value in values), f"{training_minutes(run):.1f}"]
        table.append(f"| {seed} | {' | '.join(cells)} |")
    print("\n".join(table))


def measure_embeddings(args: RecognitionArguments) -> None:
    """Print open-set scores of embeddings of forty people, for five newcomers and five strangers."""
    trained, newcomers, strangers = split_people(args.people)
    print(f"trained on {len(trained)}; new: {', '.join(newcomers)}; strangers: {', '.join(strangers)}\n")
    base, new, other = (
        _labelled(args, _people(args, name, people), SIDE)
        for name, people in (("forty", trained), ("newcomers", newcomers), ("strangers", strangers))
    )
    rows: dict[str, list[dict[str, float]]] = {}
    for name in LOSSES:
        for seed in args.seeds:
            recognizer = last_network(_embedding(args, name, seed))
            assert recognizer.side == SIDE, "it is scored on images as it was trained on"
            scores = open_set(
                recognizer.embeddings(new.images), new, recognizer.embeddings(other.images), other
            )
            rows.setdefault(name, []).append(scores)
    for whiten in (False, True):
        project = eigenfaces(base.images, whiten=whiten)
        name = "PCA, whitened" if whiten else "PCA"
        rows[name] = [open_set(project(new.images), new, project(other.images), other)]
    names = list(rows["PCA"][0])
    print(f"| features | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    for name, runs in rows.items():
        cells = [_spread([run[score] for run in runs]) for score in names]
        print(f"| {name} | {' | '.join(cells)} |")


def measure_transfer(args: RecognitionArguments) -> None:
    """Print the accuracy on two people with few images, with and without the embedding's weights."""
    table = [f"| images of each | {' | '.join(TRANSFER)} |", f"|---|{'---|' * len(TRANSFER)}"]
    for count in TRANSFER_COUNTS:
        cells = []
        folder = link(
            args.output / "splits" / f"two-{count}",
            {
                name: (
                    _photos(args.people, name)[:count],
                    _photos(args.people, name)[TRANSFER_COUNTS[-1] :],
                )
                for name in TRANSFER_PEOPLE
            },
        )
        for name, flags in TRANSFER.items():
            scores = []
            for seed in args.seeds:
                run_flags = (folder, *CENTRE, *flags, "--seed", seed)
                if name == "from arcface":
                    run_flags = (
                        *run_flags,
                        "--from",
                        checkpoints(_embedding(args, "ArcFace", seed))[-1],
                    )
                run = train(args.output, f"two {count} {name} seed {seed}", run_flags, args.workers)
                scores.append(read_metrics(run)["score/balanced_accuracy"][1][-1])
            cells.append(_spread(scores))
        table.append(f"| {count} | {' | '.join(cells)} |")
    print("\n".join(table))


def label_generated(args: RecognitionArguments) -> None:
    """Label a thousand generated faces with a gender classifier, and evaluate them in its features."""
    assert args.faces is not None
    assert args.run is not None
    run = train(args.output, "gender", (args.faces, *GENDER), args.workers)
    recognizer, file = last_network(run), checkpoints(run)[-1]
    held_out = CLASSIFIER.read_info(run).settings.held_out
    data = _labelled(args, args.faces, recognizer.side, label=LABEL, held_out=held_out)
    images, true = data.images[data.held_out_indices], data.labels[data.held_out_indices]
    real = recognizer.probabilities(images).argmax(1)
    score = balanced_accuracy(confusion_matrix(true, real, len(data.classes)))
    print(f"balanced accuracy {score:.3f} on {len(true):,} faces held out\n")
    table = args.output / "labels"
    with tempfile.TemporaryDirectory() as folder:
        singles = Path(folder) / "faces"
        call_script("sample.py", args.run, "--count", GENERATED, "--separate", singles)
        flags = ("--whole-image", "--no-copies", "--output", table)
        call_script("recognize.py", "predict", file, singles, *flags, out=subprocess.DEVNULL)
    with (table / "recognized.csv").open(encoding="utf-8", newline="") as rows:
        labels = [row["name"] for row in csv.DictReader(rows)]
    print(f"| class | real | real, as labelled | {len(labels):,} generated, as labelled |")
    print("|---|---|---|---|")
    for number, name in enumerate(data.classes):
        shares = ((true == number).mean(), (real == number).mean(), labels.count(name) / len(labels))
        print(f"| {name} | {' | '.join(f'{share:.1%}' for share in shares)} |")
    features = ("--features", "random", "classifier", "--classifier", file)
    call_script("evaluate.py", args.run, "--count", GENERATED, *features)


def measure_speed(args: RecognitionArguments) -> None:
    """Print faces per second from uint8 to vectors, for the small backbone and MobileNetV2 at 112 pixels."""
    print("| network | threads | faces a second |\n|---|---|---|")
    small = ClassifierSettings(method="arcface", backbone="small", weights="none", image_size=SIDE)
    large = ClassifierSettings(method="arcface", weights="none")
    for name, base in ((f"small, {SIDE} px", small), ("mobilenet_v2, 112 px", large)):
        settings = resolve(base)
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
    """A projection onto the first principal components of grey images (Turk and Pentland 1991).

    Args:
        images: uint8 [N, 3, S, S], from which the components are computed.
        whiten: divide each component by its standard deviation.

    Returns:
        A function from images uint8 [M, 3, S, S] to unit vectors float32 [M, COMPONENTS].
    """
    flat = _flat(images)
    centre = flat.mean(0)
    _, deviations, components = np.linalg.svd(flat - centre, full_matrices=False)
    components = components[:COMPONENTS] / (deviations[:COMPONENTS, None] if whiten else 1)
    return lambda others: unit_vectors((_flat(others) - centre) @ components.T)


def open_set(
    new: NDArray[np.float32], new_data: LabelledImages, other: NDArray[np.float32], other_data: LabelledImages
) -> dict[str, float]:
    """How well newcomers are distinguished from each other and from strangers, in one vector space.

    Thresholds are never set on the images of the person that they are applied to: strangers get that of all
    newcomers, each newcomer that of the other newcomers. All scores but `rank-1` and the TAR are means over
    people.

    Args:
        new: vectors of newcomers, float32 [N, D].
        new_data: names of the newcomers.
        other: vectors of strangers, float32 [M, D].
        other_data: names of the strangers.
    """
    gallery, lookup = enroll_and_identify(new, new_data.class_names(), ENROLLED)
    people, correct = np.array(lookup.people, object), lookup.genuine > lookup.impostor
    named = []
    for name in sorted({*lookup.people}):
        rows = people == name
        threshold = threshold_at_far(lookup.impostor[~rows], STRANGERS_FAR)
        named.append((correct & (lookup.genuine >= threshold))[rows].mean())
    threshold = threshold_at_far(lookup.impostor, STRANGERS_FAR)
    best, names = gallery.similarities(other).max(1), np.array(other_data.class_names(), object)
    rejected = [(best < threshold)[names == name].mean() for name in other_data.classes]
    genuine, impostor = pair_similarities(
        np.concatenate([new, other]), [*new_data.class_names(), *other_data.class_names()]
    )
    return {
        "rank-1": lookup.rank_1(),
        "rank-1, balanced": lookup.balanced_rank_1(),
        "TAR at FAR 1 %": accept_rate(genuine, threshold_at_far(impostor, FAR)),
        "strangers refused": float(np.mean(rejected)),
        "newcomers named": float(np.mean(named)),
    }


def _embedding(args: RecognitionArguments, loss: str, seed: int) -> Path:
    folder = _people(args, "forty", split_people(args.people)[0])
    flags = (folder, *EMBEDDING, *LOSSES[loss], "--seed", seed)
    return train(args.output, f"forty {loss} seed {seed}", flags, args.workers)


def _people(args: RecognitionArguments, name: str, people: Sequence[str]) -> Path:
    """A folder of links to all photos of these people."""
    return link(
        args.output / "splits" / name,
        {person: (_photos(args.people, person), ()) for person in people},
    )


def _labelled(
    args: RecognitionArguments,
    folder: Path,
    side: int,
    *,
    label: str | None = None,
    held_out: float = 0.0,
) -> LabelledImages:
    """Read a folder as a run does; labelled faces are cropped already, the centre of others is taken."""
    return load_labelled_images(
        folder,
        side,
        cache=args.output / "cache",
        workers=args.workers,
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
