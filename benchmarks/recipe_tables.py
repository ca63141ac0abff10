"""What recipes.py tells of its runs: scores against held-out images, as Markdown tables and a picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import mean, median, stdev

import numpy as np
from numpy.typing import NDArray

from engine.checkpoint import load
from engine.runs import BEST, NEWEST, best_path
from gan.generator import LoadedGenerator, load_generator
from gan.latent.vectors import draw
from gan.metrics.compare import (
    CLOSE_TO_TRAINING,
    NEARER_TO_TRAINING,
    ImageSet,
    compare,
    extract_features,
    memorization_scores,
)
from gan.metrics.features import random_space
from gan.metrics.memorization import Proportion
from gan.metrics.report import format_mean_std
from images.dataset import ImageDataset
from images.plots import Metrics, new_figure, read_metrics, save_figure

MEASURED = ("KID", "coverage")
"""In the features of the random network that comes with the project."""
IN_PIXELS = ("checkerboard", "nearest two")
COPIED = (NEARER_TO_TRAINING, CLOSE_TO_TRAINING)
DRAWS = 3
"""Over which the spread of a score is taken: seeds of the latent vectors, and images for the floor."""
LAST_PART = 5
"""The losses are those of the last fifth of the steps."""
SMOOTHED = 3
"""Scores of a run in a row that are taken together, as where it chooses its best."""

Images = NDArray[np.uint8]
Scores = dict[str, list[float]]
"""By name, the values of all draws."""
Shares = dict[str, list[Proportion]]
Found = dict[str, tuple[Scores, Scores | None]]
"""By the name of a run, the scores of its end and of its best."""


class Judge:
    """Scores sets of images against those held out.

    Args:
        data: the faces, of which enough are held out.

    Attributes:
        count: images a side.
    """

    def __init__(self, data: ImageDataset) -> None:
        self._data = data
        self._space = random_space()
        self._held_out = extract_features([self._space], data.images[np.flatnonzero(data.held)])
        self.count = min(len(self._held_out.images), len(data.trained))

    def conditions(self) -> str:
        """One line: between how many images of which kind scores are taken, and in which feature space."""
        images = self._data.images
        return (
            f"{self.count:,} generated images against {len(self._held_out.images):,} held out of "
            f"{len(images):,} in {self._data.folder.name}; {images.shape[-1]} px, resized by Lanczos, "
            f"antialiased; {DRAWS} draws, seeds 0 to {DRAWS - 1}; k = 5; features: {self._space.name} "
            f"(digest {self._space.digest}); ±: standard deviation over the draws"
        )

    def scores(self, generator: LoadedGenerator) -> Scores:
        """Of a generator's images."""
        return self._scores(lambda seed: self._drawn(generator, seed))

    def floor(self) -> Scores:
        """Of images that were trained on."""
        images, rows = self._data.images, self._data.trained

        def chosen(seed: int) -> Images:
            return images[np.sort(np.random.default_rng(seed).choice(rows, self.count, replace=False))]

        return self._scores(chosen)

    def copying(self, generator: LoadedGenerator, trained: NDArray[np.int64]) -> Shares:
        """The shares of copies of these rows, told by all images of the folder that are not among them."""
        known, unseen = self._sides(trained)

        def found(seed: int) -> Mapping[str, Proportion]:
            fakes = extract_features([self._space], self._drawn(generator, seed), views=True)
            return self._by_score(memorization_scores(fakes, known, unseen, seed=seed))

        return _by_name(found)

    def copying_floor(self, trained: NDArray[np.int64]) -> Shares:
        """The same of those images themselves, each against the others."""
        known, unseen = self._sides(trained)
        return _by_name(
            lambda seed: self._by_score(
                memorization_scores(unseen, known, unseen, leave_one_out=True, seed=seed)
            )
        )

    def _by_score(self, scores: dict[str, dict[str, Proportion]]) -> dict[str, Proportion]:
        return scores[self._space.name] | scores[""]

    @cached_property
    def _everyone(self) -> ImageSet:
        return extract_features([self._space], self._data.images, views=True, progress="real images")

    def _sides(self, trained: NDArray[np.int64]) -> tuple[ImageSet, ImageSet]:
        """Those trained on, and of all others each once: its like would be the nearest of all to it."""
        prints = self._data.fingerprints
        others = np.flatnonzero(~np.isin(prints, prints[trained]))
        _, first = np.unique(prints[others], return_index=True)
        return self._everyone.subset(trained), self._everyone.subset(others[np.sort(first)])

    def _drawn(self, generator: LoadedGenerator, seed: int) -> Images:
        return generator.images(draw(self.count, generator.latent_size, seed))

    def _scores(self, images: Callable[[int], Images]) -> Scores:
        found = [
            compare(self._held_out, extract_features([self._space], images(seed)), seed=seed)
            for seed in range(DRAWS)
        ]
        spaces = [(self._space.name, MEASURED), ("", IN_PIXELS)]
        return {name: [scores[space][name] for scores in found] for space, names in spaces for name in names}


def _by_name(shares: Callable[[int], Mapping[str, Proportion]]) -> Shares:
    found = [shares(seed) for seed in range(DRAWS)]
    return {name: [named[name] for named in found] for name in COPIED}


@dataclass(frozen=True)
class Row:
    """A run that is compared."""

    name: str
    """Of its recipe, with its seed."""
    flags: str
    """What its recipe sets."""
    run: Path
    trained: NDArray[np.int64]
    """Rows of the folder's images that it was trained on."""

    @cached_property
    def last(self) -> LoadedGenerator:
        """As it is at its end."""
        return load_generator(self.run, NEWEST)

    @cached_property
    def best(self) -> LoadedGenerator | None:
        """The best that it kept; None where nothing was scored."""
        return load_generator(self.run, BEST) if best_path(self.run).is_file() else None

    @cached_property
    def metrics(self) -> Metrics:
        """Its curves."""
        return read_metrics(self.run)

    @property
    def seconds_a_step(self) -> float:
        """The median, which what else the machine did for a while does not change."""
        return self.last.settings.batch_size / median(self.metrics["speed/images_per_second"][1])

    @property
    def minutes(self) -> float:
        """Of all its steps."""
        return self.last.step * self.seconds_a_step / 60


def print_scores(judge: Judge, rows: Sequence[Row], floor: Scores) -> Found:
    """The table of scores; the last and the best ones by the rows' names."""
    header = ["recipe", "settings", "step", "s a step", "minutes", *MEASURED, *IN_PIXELS]
    _print_header([*header, "D loss", "G loss", "accuracy"])
    print(_line(["real images", "", "", "", "", *_cells(floor), "", "", ""]), flush=True)
    found = {}
    for row in rows:
        times = load(row.last.checkpoint)["course"]["recovery"]["times"]
        told = f"{row.name}, gone back {times} times" if times else row.name
        pace = [f"{row.last.step:,}", f"{row.seconds_a_step:.2f}", f"{row.minutes:.0f}"]
        last = judge.scores(row.last)
        print(_line([told, row.flags, *pace, *_cells(last), *_losses(row.metrics)]), flush=True)
        best = judge.scores(row.best) if row.best else None
        if row.best and best:
            step = f"{row.best.step:,}"
            print(_line([f"{row.name}, its best", "", step, "", "", *_cells(best), "", "", ""]))
        found[row.name] = last, best
    return found


def print_ends(rows: Sequence[Row], found: Found, floor: Scores) -> None:
    """A table of how much worse than its own best each run ended.

    See `worse_by`; below 0 the end is the better.
    """
    if not any(best for _, best in found.values()):
        return
    print("\nKID at the end against that of the run's own best:\n")
    _print_header(["recipe", "step", "best step", "best", "end", "worse by", "in standard errors"])
    for row in rows:
        last, best = found[row.name]
        if row.best is None or best is None:
            continue
        worse, errors = worse_by(best["KID"], last["KID"], mean(floor["KID"]))
        steps = [f"{row.last.step:,}", f"{row.best.step:,}"]
        told = [format_mean_std(mean(kid), stdev(kid)) for kid in (best["KID"], last["KID"])]
        print(_line([row.name, *steps, *told, f"{worse:+.1%}", f"{errors:+.1f}"]))


def worse_by(best: Sequence[float], end: Sequence[float], floor: float) -> tuple[float, float]:
    """How much more the end's mean score is than the best's: as a share of that, and in standard errors.

    Args:
        best: a score of which less is better, of each draw.
        end: the same at the end.
        floor: of that score.

    Returns:
        The share, and the difference in standard errors of a difference of two means; 0 and 0 where both
        are the same networks.
    """
    difference = mean(end) - mean(best)
    error = math.sqrt((stdev(best) ** 2 + stdev(end) ** 2) / len(best))
    share = difference / max(mean(best) - floor, 1e-9)
    return share, difference / max(error, 1e-9)


def print_times(rows: Sequence[Row]) -> None:
    """A table of how good all were when the quickest was at its end, as each scored itself."""
    scored = [row for row in rows if "score/kid" in row.metrics]
    if not scored:
        return
    until = min(row.minutes for row in scored)
    print(
        f"\nAfter as many minutes of training ({until:.1f}), by what each run scored itself on held-out "
        f"images, means of the last {SMOOTHED} scores until then:\n"
    )
    _print_header(["recipe", "step", "KID", "coverage"])
    for row in scored:
        steps, _ = row.metrics["score/kid"]
        count = sum(step * row.seconds_a_step / 60 <= until + 1e-9 for step in steps)
        if count:
            last = slice(max(0, count - SMOOTHED), count)
            means = [mean(row.metrics[f"score/{name}"][1][last]) for name in ("kid", "coverage")]
            print(_line([row.name, f"{steps[count - 1]:,}", *(f"{value:.3f}" for value in means)]))


def print_copying(judge: Judge, rows: Sequence[Row], found: Found) -> None:
    """A table of what is copied, beside the coverage; above runs trained on the same images their floor."""
    print(
        "\nCopies at the end, told by all images of the folder that were not trained on; "
        "[]: interval of 95%:\n"
    )
    _print_header(["recipe", "trained on", "coverage", *COPIED])
    told: set[int] = set()
    for row in sorted(rows, key=lambda row: -len(row.trained)):
        count = len(row.trained)
        if count not in told:
            told.add(count)
            print(_line(["real images", f"{count:,}", "", *_share_cells(judge.copying_floor(row.trained))]))
        coverage = found[row.name][0]["coverage"]
        cells = [format_mean_std(mean(coverage), stdev(coverage))]
        cells += _share_cells(judge.copying(row.last, row.trained))
        print(_line([row.name, f"{count:,}", *cells]), flush=True)


def save_scores(path: Path, rows: Sequence[Row]) -> None:
    """Draw the scores that the runs gave themselves, over steps on the left and over minutes on the right."""
    figure = new_figure("curves", 10, 6.4)
    grid = figure.subplots(2, 2, sharex="col", sharey="row")
    for run in rows:
        for row, score in zip(grid, ("score/kid", "score/coverage"), strict=True):
            steps, values = run.metrics.get(score, ([], []))
            for axes, scale in zip(row, (1, run.seconds_a_step / 60), strict=True):
                axes.plot([step * scale for step in steps], values, label=run.name)
    for row, label in zip(grid, MEASURED, strict=True):
        row[0].set_ylabel(f"{label} against held-out images")
    grid[0][0].set_yscale("symlog", linthresh=0.1)
    for axes, label in zip(grid[1], ("step", "minutes"), strict=True):
        axes.set_xlabel(label)
    for axes in grid.flat:
        axes.grid(alpha=0.3)
    grid[0][0].legend()
    save_figure(path, figure)


def _losses(metrics: Metrics) -> list[str]:
    """Cells about the losses of the training's last part."""
    last = slice(-max(2, len(metrics["loss/generator"][0]) // LAST_PART), None)
    losses = [metrics[f"loss/{network}"][1][last] for network in ("discriminator", "generator")]
    accuracy = mean(metrics["accuracy/real"][1][last] + metrics["accuracy/fake"][1][last])
    return [*(f"{mean(values):.2f} ± {stdev(values):.2f}" for values in losses), f"{accuracy:.2f}"]


def _cells(scores: Scores) -> list[str]:
    return [format_mean_std(mean(values), stdev(values)) for values in scores.values()]


def _share_cells(shares: Shares) -> list[str]:
    cells = []
    for found in shares.values():
        ends = [mean(getattr(share, end) for share in found) for end in ("low", "high")]
        values = [share.value for share in found]
        cells.append(f"{format_mean_std(mean(values), stdev(values))} [{ends[0]:.3f}, {ends[1]:.3f}]")
    return cells


def _print_header(cells: Sequence[str]) -> None:
    print(_line(cells), _line(["---"] * len(cells)), sep="\n")


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
