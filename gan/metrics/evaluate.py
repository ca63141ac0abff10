"""All scores of a generator, each beside its floor: what real images get in the place of generated ones.

A score says little by itself, as it depends on the number of images, on their size and on the feature
space. So each is measured over several draws, and so is its floor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from gan.metrics.compare import (
    Images,
    ImageSet,
    compare,
    extract_features,
    memorization_floor,
    memorization_scores,
)
from gan.metrics.features import FeatureSpace
from gan.metrics.memorization import Proportion, nearest

SUSPECTS, NEIGHBOURS = 8, 5
"""Generated faces on the sheet of likely_copies, and training faces shown with each."""

Measured = dict[str, dict[str, float | Proportion]]
"""Scores by the name of the feature space, empty for none, and by their own."""


@dataclass(frozen=True)
class RealImages:
    """The real images, and what each of them is there for.

    Attributes:
        images: uint8 [M, 3, S, S].
        pool: int64, rows that generated images are compared with, and real ones with each other.
        train: int64, rows that were trained on; none where that is not known.
        held_out: int64, rows that were not.
    """

    images: Images
    pool: NDArray[np.int64]
    train: NDArray[np.int64]
    held_out: NDArray[np.int64]

    @property
    def can_detect_copies(self) -> bool:
        """Whether there are faces of both kinds, by which copies are told."""
        return len(self.train) > 0 and len(self.held_out) > 1


@dataclass(frozen=True)
class Score:
    """One score of generated images and, as its floor, of real ones; over at least two draws each.

    Attributes:
        draws: of the generated images.
        floors: of the real images in their place.
        interval: of 95%, its ends means over the draws; None where the score has none.
        floor_interval: the same of the floor.
    """

    draws: tuple[float, ...]
    floors: tuple[float, ...]
    interval: tuple[float, float] | None = None
    floor_interval: tuple[float, float] | None = None

    @property
    def value(self) -> float:
        """The mean over the draws."""
        return mean(self.draws)

    @property
    def spread(self) -> float:
        """The standard deviation over the draws."""
        return stdev(self.draws)

    @property
    def floor(self) -> float:
        """The mean of the floors."""
        return mean(self.floors)

    @property
    def floor_spread(self) -> float:
        """The standard deviation of the floors."""
        return stdev(self.floors)


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found.

    Attributes:
        scores: by the name of the feature space, empty for those without a network, and by their own
            (`gan.metrics.compare.SCORES`).
        generated: images of the first draw, uint8 [N, 3, S, S].
        real: those they were compared with, uint8 [N, 3, S, S].
        likely_copies: of the first draw's images the 8 that look most like copies, the worst first, each
            before its 5 nearest training images, uint8 [8, 6, 3, S, S], or as many as there are; None where
            it is not known what was trained on. Nearest in the first feature space, mirrored or not.
    """

    scores: dict[str, dict[str, Score]]
    generated: Images
    real: Images
    likely_copies: Images | None


def evaluate(
    generate: Callable[[int], Images],
    real: RealImages,
    spaces: Sequence[FeatureSpace],
    *,
    count: int,
    k: int = 5,
    seed: int = 0,
    draws: int = 3,
) -> Evaluation:
    """Measure a generator.

    For each draw, N generated images are compared with N of the pool, and so are N others of the pool,
    for the floor. All faces trained on and held out serve to tell copies, whatever N is.

    Args:
        generate: from a seed to N images, uint8 [N, 3, S, S].
        real: what to compare with; the pool holds at least 2 N images.
        spaces: feature spaces of different names, at least one.
        count: N, as `gan.metrics.compare.set_size` gives it.
        k: neighbours of precision, recall, density and coverage; less than N.
        seed: of the first draw's latent vectors, and with the draw's number of all else; the next draws'
            latent vectors have the next ones.
        draws: at least 2, for the spread.
    """
    everyone = extract_features(spaces, real.images, progress="real images")
    train = everyone.subset(real.train, images=False)
    held_out = extract_features(spaces, real.images[real.held_out], mirrored=True, progress="held-out images")
    measured: list[tuple[Measured, Measured]] = []
    for draw in range(draws):
        told, random = f"draw {draw + 1} of {draws}", np.random.default_rng([seed, draw])
        order = random.permutation(real.pool)
        reference, others = (everyone.subset(order[first : first + count]) for first in (0, count))
        fakes = extract_features(spaces, generate(seed + draw), mirrored=True, progress=told)
        with tqdm(total=2, desc=f"{told}, scores", unit=" sets") as bar:
            found: Measured = compare(reference, fakes, k=k, seed=seed + draw)
            bar.update()
            floor: Measured = compare(reference, others, k=k, seed=seed + draw)
            if real.can_detect_copies:
                _add(found, memorization_scores(fakes, train, held_out, seed=seed + draw))
                _add(floor, memorization_floor(train, held_out, seed=seed + draw))
            bar.update()
        measured.append((found, floor))
        if draw == 0:
            likely_copies = (
                _suspects(fakes, real, train, held_out, spaces[0].name) if len(real.train) else None
            )
            shown = fakes.images, reference.images, likely_copies
    return Evaluation(_scores(measured), *shown)


def _add(measured: Measured, shares: Mapping[str, Mapping[str, Proportion]]) -> None:
    for space, named in shares.items():
        measured[space].update(named)


def _scores(measured: Sequence[tuple[Measured, Measured]]) -> dict[str, dict[str, Score]]:
    """Of what was measured in each draw, of generated images and of real ones, the scores."""
    return {
        space: {
            name: _score(*([side[space][name] for side in sides] for sides in zip(*measured, strict=True)))
            for name in names
        }
        for space, names in measured[0][0].items()
    }


def _score(found: Sequence[float | Proportion], floors: Sequence[float | Proportion]) -> Score:
    values, intervals = zip(*map(_value_and_interval, (found, floors)), strict=True)
    return Score(*values, *intervals)


def _value_and_interval(
    measured: Sequence[float | Proportion],
) -> tuple[tuple[float, ...], tuple[float, float] | None]:
    shares = [share for share in measured if isinstance(share, Proportion)]
    if not shares:
        return tuple(measured), None
    ends = mean(share.low for share in shares), mean(share.high for share in shares)
    return tuple(share.value for share in shares), ends


def _suspects(fakes: ImageSet, real: RealImages, train: ImageSet, held_out: ImageSet, space: str) -> Images:
    """The sheet of likely copies; without held-out images, those nearest to a training image."""
    views, known = fakes.features[space], train.features[space][0]
    distances, numbers = nearest(views, known, min(NEIGHBOURS, len(known)))
    to_train = distances[:, 0]
    if len(held_out.images):
        to_held_out = nearest(views, held_out.features[space][0], 1)[0][:, 0]
        to_train = to_train / to_held_out.clamp(min=torch.finfo(torch.float32).tiny)
    worst = to_train.argsort()[:SUSPECTS].numpy()
    return np.stack(
        [np.stack([fakes.images[row], *real.images[real.train[numbers[row].numpy()]]]) for row in worst]
    )
