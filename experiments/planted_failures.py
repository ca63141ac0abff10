"""Damage real images the way generators fail, and measure which scores notice.

    python -m experiments.planted_failures [FOLDER] [--missing PATTERN]

Without a folder, faces are drawn. Each draw splits the images: N training images that all sets are compared
with, N held-out images, and N others, which are damaged in place of generated ones, or left as they are for
the floor. Prints two Markdown tables. The first has the mean of each score over the draws and, in
parentheses, its distance from the floor in standard deviations of the floor. **Bold** is worse than the floor
by 5 or more; *italic* is better by 5 or more, so the score is misled. The second has the proportion of copies
that `close to training` detects after each change, with 5% of the images held out.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from tqdm import tqdm
from tyro.conf import Positional, arg

from engine.cli import parse
from engine.errors import UserError, run_script
from engine.png import from_pillow, to_pillow
from engine.settings import at_least
from engine.worker_pool import worker_count
from faces.drawn import default_folder
from gan.config import Settings, check
from gan.metrics.compare import compare, direction, extract_features, memorization_scores, set_size
from gan.metrics.features import FeatureSpace, inception_space, random_space
from gan.metrics.memorization import close_to_training
from gan.metrics.report import format_mean_std
from gan.metrics.thumbnails import thumbnails
from images.dataset import ImageDataset, load_folder

Images = NDArray[np.uint8]
Change = Callable[[Images, np.random.Generator], Images]
Rows = dict[tuple[str, str], dict[str, list[float]]]
"""The values of all draws, by feature space and score, then by failure."""

FLOOR = "floor"
FEW = 100
"""Different images of the failure `few`; a quarter of small sets."""
NOISE = 10
"""Standard deviation in levels of 255."""
BLUR = 1 / 96
"""Standard deviation of the blur as a fraction of the image side: one pixel of 96."""
TINT = (12, 0, -12)
"""Levels added to red, green and blue."""
THRESHOLD = 5
"""Distance from the floor, in its standard deviations, from which a score counts as moved."""
HELD_OUT = 0.05
"""Fraction of images held out in the table of copies: the default of train_gan.py."""
LONG_HAIR = "hair_style=(bob|long|wavy|bun|ponytail)"
"""The attribute missing from drawn faces by default."""


@dataclass(frozen=True)
class FailureArguments:
    """Which images, and how many."""

    folder: Annotated[Path | None, Positional, arg(metavar="[FOLDER]")] = None
    """Folder of real images; default: drawn faces."""
    missing: str | None = None
    """Regular expression for the names of the images that the failure `missing` leaves out. The name of a
    drawn face contains all its labels, such as hair_style=long; default there: long hair."""
    image_size: int = 96
    """Side of the images in pixels."""
    count: int = 5000
    """Images in each set, at most a quarter of all."""
    features: tuple[Literal["random", "inception"], ...] = ("random",)
    """Feature spaces."""
    draws: int = 8
    """Number of draws; with few of them the standard deviation is off by several times."""
    k: int = 5
    """Neighbours of precision, recall, density and coverage."""
    seed: int = 0
    """Seed of the first draw."""
    cache: Path = Path("data/cache")
    """Folder of decoded images."""

    def __post_init__(self) -> None:
        at_least(self, 1, "count k")
        at_least(self, 2, "draws")
        check(Settings(image_size=self.image_size, seed=self.seed))
        if not self.features:
            raise UserError("--features needs one or more feature spaces")
        try:
            re.compile(self.missing or "")
        except re.error as error:
            raise UserError(f"--missing {self.missing} is not a regular expression: {error}") from None


def main() -> None:
    """Load the images, measure, and print both tables."""
    arguments = parse(FailureArguments, description=__doc__)
    faces, names = _load(arguments)
    missing = (
        re.compile(arguments.missing or LONG_HAIR) if arguments.missing or not arguments.folder else None
    )
    load = {"random": random_space, "inception": inception_space}
    spaces = [load[name]() for name in arguments.features]
    matched = np.array([bool(missing and missing.search(name)) for name in names])
    if missing and not matched.any():
        raise UserError(f"--missing {missing.pattern} matches none of {len(names):,} names")
    rows, count = measure_failures(
        faces.images,
        matched,
        spaces,
        count=arguments.count,
        draws=arguments.draws,
        k=arguments.k,
        seed=arguments.seed,
    )
    digests = ", ".join(f"{space.name} (digest {space.digest})" for space in spaces)
    print(
        f"{count:,} images in each set, of {len(names):,} of {arguments.image_size} px in {faces.folder}; "
        f"{arguments.draws} draws from seed {arguments.seed} on, k = {arguments.k}; features: {digests}\n"
    )
    print(table(rows), end="\n\n")
    print(copies_table(measure_copies(faces.images, count=count, draws=arguments.draws, seed=arguments.seed)))


def measure_failures(
    images: Images,
    matched: NDArray[np.bool_],
    spaces: Sequence[FeatureSpace],
    *,
    count: int,
    draws: int,
    k: int,
    seed: int,
) -> tuple[Rows, int]:
    """Measure the floor and every planted failure.

    Args:
        images: uint8 [M, 3, S, S].
        matched: bool [M], images that the failure `missing` leaves out; without any, it is not planted.
        spaces: feature spaces.
        count: maximum number of images in each set.
        draws: number of draws, at least 2.
        k: neighbours of precision, recall, density and coverage.
        seed: seed of the first draw.

    Returns:
        The values of each score and failure over the draws, and the number of images in each set.

    Raises:
        UserError: too few images.
    """
    quarter = len(images) // 4
    splits = [np.random.default_rng([seed, draw]).permutation(len(images)) for draw in range(draws)]
    others = min(int((~matched[order[2 * quarter :]]).sum()) for order in splits)
    count = set_size(2 * min(quarter, others), count, k)
    rows: Rows = {}
    for draw, order in enumerate(tqdm(splits, "draws")):
        random = np.random.default_rng([seed, draw, 1])
        train_rows, held_out_rows, rest = np.split(order, [quarter, 2 * quarter])
        train = extract_features(spaces, images[train_rows[:count]], views=True)
        held_out = extract_features(spaces, images[held_out_rows[:count]])
        real = extract_features(spaces, images[rest[:count]], views=True)
        damaged = {
            FLOOR: real,
            "few": real.subset(np.resize(np.arange(min(FEW, count // 4)), count)),
            **{
                name: extract_features(spaces, damage(real.images, random), views=True)
                for name, damage in DAMAGES.items()
            },
            "copies": train.subset(random.permutation(count)),
        }
        if matched.any():
            damaged["missing"] = extract_features(spaces, images[rest[~matched[rest]][:count]], views=True)
        for failure, image_set in damaged.items():
            scores = compare(train, image_set, k=k, seed=seed + draw)
            for space, copies in memorization_scores(image_set, train, held_out, seed=seed + draw).items():
                scores[space] |= {name: proportion.value for name, proportion in copies.items()}
            for space, named in scores.items():
                for name, value in named.items():
                    rows.setdefault((space, name), {}).setdefault(failure, []).append(value)
    return rows, count


def measure_copies(images: Images, *, count: int, draws: int, seed: int) -> dict[str, list[float]]:
    """Measure `close to training` for copies of training images after each change, and without copies.

    Args:
        images: uint8 [M, 3, S, S]; equal images count once.
        count: copies, and images that are none.
        draws: number of draws.
        seed: seed of the first draw.

    Returns:
        For each change the proportion of each draw.
    """
    images = np.unique(images, axis=0)
    rows: dict[str, list[float]] = {}
    for draw in tqdm(range(draws), "draws of copies"):
        random = np.random.default_rng([seed, draw, 2])
        sizes = [count, count + max(2, round(HELD_OUT * len(images)))]
        others, held_out, train = (images[part] for part in np.split(random.permutation(len(images)), sizes))
        references = thumbnails(train)[0], thumbnails(held_out)[0]
        sets = {"none: other real images": others}
        sets |= {name: change(train[:count], random) for name, change in CHANGES.items()}
        for name, image_set in sets.items():
            close = close_to_training(thumbnails(image_set, views=True), *references, seed=seed + draw)
            rows.setdefault(name, []).append(close.value)
    return rows


def deviations(name: str, values: Sequence[float], floor: Sequence[float]) -> float:
    """How many standard deviations of the floor a score is worse than its floor; negative if better."""
    difference = mean(values) - mean(floor)
    worse = {"lower": difference, "higher": -difference, "floor": abs(difference)}[direction(name)]
    # A floor that never varies, such as a proportion of 0, makes any difference a large one.
    return worse / max(stdev(floor), 1e-9)


def table(rows: Rows) -> str:
    """Format the result of `measure_failures` as a Markdown table."""
    failures = list(next(iter(rows.values())))
    lines = [f"| score | {' | '.join(failures)} |", "|---" * (len(failures) + 1) + "|"]
    for (space, name), by_failure in rows.items():
        floor = by_failure[FLOOR]
        cells = [format_mean_std(mean(floor), stdev(floor))]
        for failure in failures[1:]:
            distance = deviations(name, by_failure[failure], floor)
            mark = "**" if distance >= THRESHOLD else "*" if distance <= -THRESHOLD else ""
            cells.append(f"{mark}{mean(by_failure[failure]):.3g} ({_short(distance)}){mark}")
        lines.append(f"| {' | '.join([f'{name}, {space}' if space else name, *cells])} |")
    return "\n".join(lines)


def copies_table(rows: Mapping[str, Sequence[float]]) -> str:
    """Format the result of `measure_copies` as a Markdown table."""
    cells = [f"| {name} | {format_mean_std(mean(values), stdev(values))} |" for name, values in rows.items()]
    return "\n".join(["| copies | close to training |", "|---|---|", *cells])


def _load(arguments: FailureArguments) -> tuple[ImageDataset, Sequence[str]]:
    """The images, and for each a name that describes it."""
    folder = arguments.folder or default_folder()
    faces = load_folder(folder, arguments.image_size, cache=arguments.cache, workers=worker_count(None))
    if arguments.folder:
        return faces, faces.files
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
        labels = {row["file"]: row for row in csv.DictReader(file)}
    return faces, [" ".join(f"{key}={value}" for key, value in labels[name].items()) for name in faces.files]


def _each(change: Callable[[Image.Image], Image.Image], images: Images) -> Images:
    return np.stack([from_pillow(change(to_pillow(image))) for image in images])


def _blurred(images: Images, random: np.random.Generator) -> Images:
    return _each(lambda image: image.filter(ImageFilter.GaussianBlur(BLUR * image.width)), images)


def _noisy(images: Images, random: np.random.Generator) -> Images:
    noise = random.normal(0, NOISE, images.shape).astype(np.float32)
    return (images + noise).round().clip(0, 255).astype(np.uint8)


def _tinted(images: Images, random: np.random.Generator) -> Images:
    tint = np.array(TINT, np.int16)[:, None, None]
    return (images + tint).clip(0, 255).astype(np.uint8)


def _shifted(pixels: int) -> Change:
    """Shift images along both axes in random directions, repeating the pixels of the edge."""

    def change(images: Images, random: np.random.Generator) -> Images:
        padded = np.pad(images, ((0, 0), (0, 0), (pixels, pixels), (pixels, pixels)), "edge")
        corners = 2 * pixels * random.integers(0, 2, (len(images), 2))
        side = images.shape[-1]
        return np.stack(
            [image[:, y : y + side, x : x + side] for image, (y, x) in zip(padded, corners, strict=True)]
        )

    return change


def _zoomed(factor: float) -> Change:
    def zoom(image: Image.Image) -> Image.Image:
        edge = image.width * (1 - 1 / factor) / 2
        box = (edge, edge, image.width - edge, image.width - edge)
        return image.resize(image.size, Image.Resampling.BICUBIC, box=box)

    return lambda images, random: _each(zoom, images)


def _turned(degrees: float) -> Change:
    return lambda images, random: _each(lambda image: image.rotate(degrees, Image.Resampling.BICUBIC), images)


def _recompressed(quality: int) -> Change:
    def recompress(image: Image.Image) -> Image.Image:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        return Image.open(file)

    return lambda images, random: _each(recompress, images)


DAMAGES: dict[str, Change] = {"blur": _blurred, "noise": _noisy, "tint": _tinted}
CHANGES: dict[str, Change] = {
    "unchanged": lambda images, random: images,
    "mirrored": lambda images, random: images[..., ::-1],
    "shifted by 1 px": _shifted(1),
    "shifted by 2 px": _shifted(2),
    "shifted by 4 px": _shifted(4),
    "zoomed by 3%": _zoomed(1.03),
    "zoomed by 5%": _zoomed(1.05),
    "zoomed by 10%": _zoomed(1.1),
    "rotated by 5°": _turned(5),
    "JPEG, quality 50": _recompressed(50),
    **DAMAGES,
    "shifted by 1 px, zoomed by 3%, blurred, JPEG": lambda images, random: _recompressed(50)(
        _blurred(_zoomed(1.03)(_shifted(1)(images, random), random), random), random
    ),
}


def _short(distance: float) -> str:
    return f"{distance:+.0f}" if abs(distance) < 1000 else ("> " if distance > 0 else "< -") + "999"


if __name__ == "__main__":
    run_script(main)
