"""All scores of a generator, each beside its floor: the score of real images in place of generated ones.

A score alone says little, because it depends on the number of images, their size and the feature space. So
the score and its floor are each measured over several draws.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean, stdev

import numpy as np
import torch
from numpy.typing import NDArray

from engine.progress import ProgressBar
from gan.metrics.compare import Images, ImageSet, compare, extract_features, memorization_scores
from gan.metrics.features import FeatureSpace
from gan.metrics.memorization import Proportion, nearest_in_any_view

LIKELY_COPIES = 8
"""Generated images on the sheet of likely copies."""
NEAREST_SHOWN = 5
"""Training images shown beside each."""

Measured = dict[str, dict[str, float | Proportion]]
"""Scores of one draw, by feature space (empty for none) and by name."""


@dataclass(frozen=True)
class RealImages:
    """Real images and their roles.

    Attributes:
        images: uint8 [M, 3, S, S].
        pool: int64, rows to compare generated images with, and with each other for the floor.
        train: int64, rows that the network was trained on; empty if unknown.
        held_out: int64, rows that it was not trained on.
    """

    images: Images
    pool: NDArray[np.int64]
    train: NDArray[np.int64]
    held_out: NDArray[np.int64]

    @property
    def can_detect_copies(self) -> bool:
        """Whether there are both training and held-out images."""
        return len(self.train) > 0 and len(self.held_out) > 1


@dataclass(frozen=True)
class Score:
    """One score of generated images and its floor, each over at least two draws.

    Attributes:
        draws: values of the generated images.
        floors: values of real images in their place.
        interval: confidence interval of 95%, its ends averaged over the draws; None if the score has none.
        floor_interval: that of the floor.
    """

    draws: tuple[float, ...]
    floors: tuple[float, ...]
    interval: tuple[float, float] | None = None
    floor_interval: tuple[float, float] | None = None

    @property
    def value(self) -> float:
        """Mean over the draws."""
        return mean(self.draws)

    @property
    def std(self) -> float:
        """Standard deviation over the draws."""
        return stdev(self.draws)

    @property
    def floor(self) -> float:
        """Mean of the floors."""
        return mean(self.floors)

    @property
    def floor_std(self) -> float:
        """Standard deviation of the floors."""
        return stdev(self.floors)


@dataclass(frozen=True)
class Evaluation:
    """The result of `evaluate`.

    Attributes:
        scores: by feature space, empty for none, and by name (`gan.metrics.compare.SCORES`).
        generated: images of the first draw, uint8 [N, 3, S, S].
        real: the real images they were compared with, uint8 [N, 3, S, S].
        likely_copies: the 8 images of the first draw that are most likely copies, the worst first, each
            followed by its 5 nearest training images: uint8 [8, 6, 3, S, S], or fewer if there are fewer.
            None if the training images are unknown.
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

    Each draw compares N generated images with N images of the pool, and N other images of the pool with the
    same ones for the floor. Copies are searched among all training images, whatever N is.

    Args:
        generate: maps a seed to N images, uint8 [N, 3, S, S].
        real: the real images; the pool contains at least 2 N.
        spaces: one or more feature spaces with different names.
        count: N, from `gan.metrics.compare.set_size`.
        k: neighbours of precision, recall, density and coverage, less than N.
        seed: seed of the first draw; each later draw uses the next one.
        draws: number of draws, at least 2.
    """
    real_set = extract_features(spaces, real.images, progress="real images")
    train = real_set.subset(real.train, images=False)
    held_out = extract_features(spaces, real.images[real.held_out], views=True, progress="held-out images")
    measured: list[tuple[Measured, Measured]] = []
    for draw in range(draws):
        label = f"draw {draw + 1} of {draws}"
        order = np.random.default_rng([seed, draw]).permutation(real.pool)
        reference, others = (real_set.subset(order[first : first + count]) for first in (0, count))
        fakes = extract_features(spaces, generate(seed + draw), views=True, progress=label)
        with ProgressBar(total=2, desc=f"{label}, scores", unit=" sets") as bar:
            scores: Measured = compare(reference, fakes, k=k, seed=seed + draw)
            bar.update()
            floor: Measured = compare(reference, others, k=k, seed=seed + draw)
            if real.can_detect_copies:
                for target, images in ((scores, fakes), (floor, held_out)):
                    copies = memorization_scores(
                        images, train, held_out, leave_one_out=images is held_out, seed=seed + draw
                    )
                    for space, proportions in copies.items():
                        target[space].update(proportions)
            bar.update()
        measured.append((scores, floor))
        if draw == 0:
            likely_copies = _likely_copies(fakes, real, train, held_out) if len(real.train) else None
            first = fakes.images, reference.images, likely_copies
    return Evaluation(_summarize(measured), *first)


def _summarize(measured: Sequence[tuple[Measured, Measured]]) -> dict[str, dict[str, Score]]:
    """Collect each score and its floor over the draws."""
    return {
        space: {
            name: _score(*([side[space][name] for side in sides] for sides in zip(*measured, strict=True)))
            for name in names
        }
        for space, names in measured[0][0].items()
    }


def _score(values: Sequence[float | Proportion], floors: Sequence[float | Proportion]) -> Score:
    draws, intervals = zip(*map(_values_and_interval, (values, floors)), strict=True)
    return Score(*draws, *intervals)


def _values_and_interval(
    measured: Sequence[float | Proportion],
) -> tuple[tuple[float, ...], tuple[float, float] | None]:
    proportions = [value for value in measured if isinstance(value, Proportion)]
    if not proportions:
        return tuple(measured), None
    interval = mean(part.low for part in proportions), mean(part.high for part in proportions)
    return tuple(part.value for part in proportions), interval


def _likely_copies(fakes: ImageSet, real: RealImages, train: ImageSet, held_out: ImageSet) -> Images:
    """Rank by the ratio that `close_to_training` uses, or by distance alone without held-out images."""
    known = train.thumbnails[0]
    distances, indices = nearest_in_any_view(fakes.thumbnails, known, min(NEAREST_SHOWN, len(known)))
    order = distances[:, 0]
    if len(held_out.images):
        to_held_out = nearest_in_any_view(fakes.thumbnails, held_out.thumbnails[0], 1)[0][:, 0]
        order = order / to_held_out.clamp(min=torch.finfo(torch.float32).tiny)
    worst = order.argsort()[:LIKELY_COPIES].numpy()
    return np.stack(
        [np.stack([fakes.images[row], *real.images[real.train[indices[row].numpy()]]]) for row in worst]
    )
