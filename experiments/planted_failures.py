"""Spoil real images on purpose, as generators fail, and see which scores notice.

    python experiments/planted_failures.py [FOLDER] [--missing PATTERN]

Without a folder, faces are drawn. Of each draw of images N stand for the training set, which all are
compared with; N were never seen; and N others, spoiled, stand for the generated ones, unspoiled for the
floor. Prints a Markdown table: of each score the mean over the draws and,
in brackets, how many of the floor's standard deviations it is from the floor. **Bold** is worse than the
floor by 5 or more, *italic* better by as much: there the score is deceived.
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import ImageFilter
from tqdm import tqdm
from tyro.conf import Positional, arg

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from engine.cli import parse
from engine.errors import UserError, run_script
from engine.png import from_pillow, to_pillow
from engine.settings import at_least
from engine.worker_pool import worker_count
from faces.drawn import default_folder
from gan.config import Settings, check
from gan.metrics.compare import compare, direction, extract_features, memorization_scores, set_size
from gan.metrics.features import FeatureSpace, inception_space, random_space
from gan.metrics.report import format_mean_std
from images.dataset import ImageDataset, load_folder

Images = NDArray[np.uint8]
Rows = dict[tuple[str, str], dict[str, list[float]]]
"""By feature space and score, by failure: the values of all draws."""

FLOOR = "floor"
FEW = 100
"""Different images where they are few; a quarter of small sets."""
NOISE = 10
"""Standard deviation in levels of 255."""
BLUR = 1 / 96
"""Standard deviation of the blur in sides of the image: one pixel of 96."""
TINT = (12, 0, -12)
"""Levels added to red, green and blue."""
CAUGHT = 5
"""Standard deviations of the floor from which on a score has moved."""
LONG_HAIR = "hair_style=(bob|long|wavy|bun|ponytail)"
"""The attribute that is missing in drawn faces unless another is named."""


@dataclass(frozen=True)
class FailureChoice:
    """On which images, and how many."""

    folder: Annotated[Path | None, Positional, arg(metavar="[FOLDER]")] = None
    """Folder of real images; without one, faces are drawn."""
    missing: str | None = None
    """Regular expression: images whose names it matches are those that one failure leaves out. A drawn
    face's name holds all its labels, such as hair_style=long; its long hair is left out if not said."""
    image_size: int = 96
    """Side of the images in pixels."""
    count: int = 5000
    """Images in each set; fewer where the folder holds too few for four of them."""
    features: tuple[Literal["random", "inception"], ...] = ("random",)
    """Feature spaces."""
    draws: int = 8
    """Draws of sets over which mean and spread are taken; of few, the spread is off by several times."""
    k: int = 5
    """Neighbours of precision, recall, density and coverage."""
    seed: int = 0
    """Of the first draw."""
    cache: Path = Path("data/cache")
    """Folder of decoded images."""

    def __post_init__(self) -> None:
        at_least(self, 1, "count k")
        at_least(self, 2, "draws")
        check(Settings(image_size=self.image_size, seed=self.seed))
        if not self.features:
            raise UserError("--features takes one or more feature spaces")
        try:
            re.compile(self.missing or "")
        except re.error as error:
            raise UserError(f"--missing {self.missing} is no regular expression: {error}") from None


def main() -> None:
    """Load, spoil, compare, print."""
    choice = parse(FailureChoice, description=__doc__)
    faces, names = _load(choice)
    missing = re.compile(choice.missing or LONG_HAIR) if choice.missing or not choice.folder else None
    makers = {"random": random_space, "inception": inception_space}
    spaces = [makers[name]() for name in choice.features]
    matched = np.array([bool(missing and missing.search(name)) for name in names])
    if missing and not matched.any():
        raise UserError(f"--missing {missing.pattern} matches none of the {len(names):,} names")
    rows, count = measure_failures(
        faces.images, matched, spaces, count=choice.count, draws=choice.draws, k=choice.k, seed=choice.seed
    )
    told = ", ".join(f"{space.name} (digest {space.digest})" for space in spaces)
    print(
        f"{count:,} images in each set, of {len(names):,} of {choice.image_size} px in {faces.folder}; "
        f"{choice.draws} draws from seed {choice.seed} on, k = {choice.k}; features: {told}\n"
    )
    print(table(rows))


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
        matched: bool [M], those that the failure of a missing kind leaves out; if none, that is not planted.
        spaces: feature spaces.
        count: images in each set at most.
        draws: at least 2, to take the floor's spread over.
        k: neighbours of precision, recall, density and coverage.
        seed: of the first draw.

    Returns:
        For each score, named with its feature space, the values of each failure over the draws; and the
        number of images there were in each set.

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
        known, unknown, rest = np.split(order, [quarter, 2 * quarter])
        train, unseen, real = (
            extract_features(spaces, images[part[:count]]) for part in (known, unknown, rest)
        )
        judged = {
            FLOOR: real,
            "few": real.subset(np.resize(np.arange(min(FEW, count // 4)), count)),
            **{name: extract_features(spaces, spoil(real.images, random)) for name, spoil in SPOILED.items()},
            "copies": train.subset(random.permutation(count)),
        }
        if matched.any():
            judged["missing"] = extract_features(spaces, images[rest[~matched[rest]][:count]])
        for failure, what in judged.items():
            scores = compare(train, what, k=k, seed=seed + draw)
            for space, shares in memorization_scores(what, train, unseen, seed=seed + draw).items():
                scores[space] |= {name: share.value for name, share in shares.items()}
            for space, named in scores.items():
                for name, value in named.items():
                    rows.setdefault((space, name), {}).setdefault(failure, []).append(value)
    return rows, count


def moved(name: str, values: Sequence[float], floor: Sequence[float]) -> float:
    """How many of the floor's standard deviations a score is worse than its floor; below 0, better."""
    distance = mean(values) - mean(floor)
    way = direction(name)
    worse = {"lower": distance, "higher": -distance, "floor": abs(distance)}[way]
    # Where the floor never varies, as a share of none, any difference is a great one.
    return worse / max(stdev(floor), 1e-9)


def table(rows: Rows) -> str:
    """The Markdown table of what `measure_failures` gave."""
    failures = list(next(iter(rows.values())))
    lines = [f"| score | {' | '.join(failures)} |", "|---" * (len(failures) + 1) + "|"]
    for (space, name), by_failure in rows.items():
        floor = by_failure[FLOOR]
        cells = [format_mean_std(mean(floor), stdev(floor))]
        for failure in failures[1:]:
            distance = moved(name, by_failure[failure], floor)
            mark = "**" if distance >= CAUGHT else "*" if distance <= -CAUGHT else ""
            cells.append(f"{mark}{mean(by_failure[failure]):.3g} ({_short(distance)}){mark}")
        lines.append(f"| {' | '.join([f'{name}, {space}' if space else name, *cells])} |")
    return "\n".join(lines)


def _load(choice: FailureChoice) -> tuple[ImageDataset, Sequence[str]]:
    """The images, and for each a name that tells what it shows."""
    folder = choice.folder
    if folder is None:
        folder = default_folder()
    faces = load_folder(folder, choice.image_size, cache=choice.cache, workers=worker_count(None))
    if choice.folder:
        return faces, faces.files
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    return faces, [" ".join(f"{key}={value}" for key, value in rows[name].items()) for name in faces.files]


def _blurred(images: Images, random: np.random.Generator) -> Images:
    blur = ImageFilter.GaussianBlur(BLUR * images.shape[-1])
    return np.stack([from_pillow(to_pillow(image).filter(blur)) for image in images])


def _noisy(images: Images, random: np.random.Generator) -> Images:
    noise = random.normal(0, NOISE, images.shape).astype(np.float32)
    return (images + noise).round().clip(0, 255).astype(np.uint8)


def _tinted(images: Images, random: np.random.Generator) -> Images:
    tint = np.array(TINT, np.int16)[:, None, None]
    return (images + tint).clip(0, 255).astype(np.uint8)


SPOILED: dict[str, Callable[[Images, np.random.Generator], Images]] = {
    "blur": _blurred,
    "noise": _noisy,
    "tint": _tinted,
}


def _short(distance: float) -> str:
    return f"{distance:+.0f}" if abs(distance) < 1000 else ("> " if distance > 0 else "< -") + "999"


if __name__ == "__main__":
    run_script(main)
