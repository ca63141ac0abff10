"""How near the generator comes to faces it has never seen, and whether it finds its own again.

    python -m experiments.inversion RUN --recognizer CLASSIFIER

Held-out faces of the run's folder are compared with what each method makes of them: PSNR of the pixels,
distance of the features of the project's random network, and cosine similarity of a classifier's embeddings.
Then images of the generator itself are inverted. Results are kept in --results in small parts, so that the
same command continues after an interruption.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from tyro.conf import Positional, arg

from engine.cli import parse
from engine.errors import UserError, run_script
from engine.files import atomic_write
from engine.png import save_png
from engine.progress import ProgressBar
from engine.settings import at_least
from engine.worker_pool import worker_count
from faces.recognition.commands import find_recognizer
from gan.config import groups_near_duplicates, read_info
from gan.generator import LoadedGenerator, load_generator
from gan.inversion.inversion import BEST, FAST, Inverter
from gan.latent.vectors import draw
from gan.metrics.features import FeatureSpace, extract, random_space
from images.dataset import ImageDataset, load_folder
from images.tiles import tile
from lab.fitting import prepared_encoder

PART = 10
"""Faces that are computed, and kept, at a time."""
OWN_SEED = 12345
RECOVERED = 0.05
"""Largest error of a value of z with which an image counts as recovered."""
SHOWN = 8
"""Faces in the picture."""

Images = NDArray[np.uint8]
Method = Callable[[Images], NDArray]


@dataclass(frozen=True)
class InversionArguments:
    """Which generator, and how much to compute."""

    run: Annotated[str, Positional, arg(metavar="RUN")]
    """Run of train_gan.py whose folder still exists, as folder, name or number."""
    recognizer: str
    """Run of train_classifier.py whose embeddings measure similarity; the inversion does not see it."""
    faces: int = 200
    """Held-out faces, 2 or more."""
    own: int = 100
    """Images of the generator itself."""
    results: Path = Path("outputs/inversion")
    """Where the parts of the results are kept."""

    def __post_init__(self) -> None:
        at_least(self, 2, "faces")
        at_least(self, 1, "own")


def main() -> None:
    """Invert the faces, print the tables and save a picture."""
    arguments = parse(InversionArguments, description=__doc__)
    generator = load_generator(arguments.run)
    folder = arguments.results / f"{generator.run.name}-{generator.digest}"
    inverter = Inverter(generator, prepared_encoder(generator))
    faces, train = real_faces(generator, arguments.faces)
    space = random_space()
    recognizer = find_recognizer(arguments.recognizer, Path("outputs/classifiers"), "cpu")
    target_features, target_embeddings = extract(space, faces), recognizer.embeddings(faces)
    if len(faces) < 2:
        raise UserError("the run has fewer than 2 held-out faces")
    print(f"{len(faces)} held-out faces: mean and standard error; seconds of one core for each")
    print(f"{'':24} PSNR           feature distance  similarity       seconds")
    made: dict[str, Images] = {}
    for name, method in methods(generator, inverter, train, space).items():
        images, seconds = in_parts(folder / f"{name}.npz", method, faces, name)
        errors = np.square(images.astype(float) - faces).mean((1, 2, 3))
        columns = (
            10 * np.log10(255**2 / errors.clip(1e-3)),
            (extract(space, images) - target_features).norm(dim=1).numpy(),
            (recognizer.embeddings(images) * target_embeddings).sum(1),
        )
        print(f"{name:24} " + "   ".join(map(mean_and_error, columns)) + f"   {seconds:.2f}", flush=True)
        made[name] = images
    rows = [faces[:SHOWN], *(images[:SHOWN] for images in made.values())]
    save_png(folder / "faces.png", tile(np.concatenate(rows), SHOWN))
    print(folder / "faces.png")
    report_own(generator, inverter, arguments.own, folder)


def methods(
    generator: LoadedGenerator, inverter: Inverter, train: Images, space: FeatureSpace
) -> dict[str, Method]:
    """What makes an image of each face, by name."""
    mean = train.mean(0, dtype=np.float64).round().astype(np.uint8)
    features = extract(space, train)

    def nearest(faces: Images) -> Images:
        return train[torch.cdist(extract(space, faces), features).argmin(1).numpy()]

    alone = Inverter(generator)
    only_draws = replace(BEST, draws=BEST.draws + 1)
    return {
        "mean face": lambda faces: np.broadcast_to(mean, faces.shape),
        "nearest training face": nearest,
        "encoder alone": lambda faces: generator.images(inverter.estimate(faces)),
        "optimisation alone": lambda faces: alone.invert(faces, effort=only_draws).images,
        "fast": lambda faces: inverter.invert(faces, effort=FAST).images,
        "best": lambda faces: inverter.invert(faces, effort=BEST).images,
    }


def in_parts(path: Path, method: Method, faces: Images, name: str) -> tuple[Images, float]:
    """Apply a method to `PART` faces at a time, each once: the results, and seconds of one core a face."""
    parts: list[Images] = []
    seconds: list[float] = []
    if path.exists():
        with np.load(path) as kept:
            parts, seconds = [kept["results"]], [*kept["seconds"]]
    starts = range(len(seconds), len(faces), PART)
    for start in ProgressBar(starts, name, disable=not starts):
        part = faces[start : start + PART]
        begin = time.process_time()
        parts.append(method(part))
        seconds += [(time.process_time() - begin) / len(part)] * len(part)
        with atomic_write(path) as temporary:
            np.savez_compressed(temporary, results=np.concatenate(parts), seconds=seconds)
    return np.concatenate(parts)[: len(faces)], float(np.mean(seconds[: len(faces)]))


def report_own(generator: LoadedGenerator, inverter: Inverter, count: int, folder: Path) -> None:
    """Invert images of the generator, and print how many vectors are found again."""
    z = draw(count, generator.latent_size, OWN_SEED)

    path = folder / "own images.npz"
    vectors, seconds = in_parts(
        path, lambda images: inverter.invert(images).z, generator.images(z), path.stem
    )
    errors = np.abs(vectors - z).max(1)
    print(
        f"of {count} of its own images {int((errors < RECOVERED).sum())} are recovered; the largest error "
        f"of a value is {np.median(errors):.4f} in the median image, {errors.max():.4f} in the worst; "
        f"{seconds:.2f} seconds of one core for each"
    )


def real_faces(generator: LoadedGenerator, count: int) -> tuple[Images, Images]:
    """Held-out images, at most `count`, and the training images, uint8 [N, 3, S, S] each."""
    data = _load(generator)
    held_out = np.random.default_rng(0).permutation(np.flatnonzero(data.held_out))[:count]
    if not len(held_out):
        raise UserError(f"{generator.run} held out no images")
    return np.array(data.images[held_out]), data.images[data.training_indices]


def _load(generator: LoadedGenerator) -> ImageDataset:
    settings = generator.settings
    assert settings.folder is not None, "settings of a run are resolved"
    return load_folder(
        settings.folder,
        generator.image_size,
        cache=settings.cache,
        workers=worker_count(settings.workers),
        held_out=settings.held_out,
        group_near_duplicates=groups_near_duplicates(read_info(generator.run)),
        exclude=settings.exclude,
    )


def mean_and_error(values: NDArray[np.floating]) -> str:
    """Mean and standard error, as text."""
    return f"{values.mean():6.3f} ± {values.std(ddof=1) / len(values) ** 0.5:.3f}"


if __name__ == "__main__":
    run_script(main)
