"""Scores of the runs of `experiments.recipes` against held-out images: Markdown tables and a picture."""

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

FEATURE_SCORES = ("KID", "recall", "coverage")
"""Scores in the features of the project's random network."""
PIXEL_SCORES = ("checkerboard", "nearest two")
COPY_SCORES = (NEARER_TO_TRAINING, CLOSE_TO_TRAINING)
DRAWS = 3
"""Draws over which a score's standard deviation is taken: of latent vectors, or of images for the floor."""
LOSS_WINDOW = 5
"""Losses are means over the last fifth of the steps."""
SMOOTHING = 3
"""Consecutive scores of a run that are averaged, as in the run's choice of its best step."""

Images = NDArray[np.uint8]
Scores = dict[str, list[float]]
"""The values of all draws, by the score's name."""
Shares = dict[str, list[Proportion]]
RunScores = dict[str, tuple[Scores, Scores | None]]
"""The scores of a run's last step and of its best, by the run's name."""


class HeldOutScorer:
    """Scores images against the held-out ones.

    Args:
        data: the data set, with enough held-out images.

    Attributes:
        count: images in each set that is compared.
    """

    def __init__(self, data: ImageDataset) -> None:
        self._data = data
        self._space = random_space()
        self._held_out = extract_features([self._space], data.images[np.flatnonzero(data.held_out)])
        self.count = min(len(self._held_out.images), len(data.training_indices))

    def conditions(self) -> str:
        """One line: numbers and kinds of the images compared, and the feature space."""
        images = self._data.images
        return (
            f"{self.count:,} generated images against {len(self._held_out.images):,} held out of "
            f"{len(images):,} in {self._data.folder.name}; {images.shape[-1]} px, resized by Lanczos, "
            f"antialiased; {DRAWS} draws, seeds 0 to {DRAWS - 1}; k = 5; features: {self._space.name} "
            f"(digest {self._space.digest}); ±: standard deviation over the draws"
        )

    def scores(self, generator: LoadedGenerator) -> Scores:
        """Scores of a generator's images."""
        return self._scores(lambda seed: self._drawn(generator, seed))

    def floor(self) -> Scores:
        """Scores of training images."""
        images, rows = self._data.images, self._data.training_indices

        def choose(seed: int) -> Images:
            return images[np.sort(np.random.default_rng(seed).choice(rows, self.count, replace=False))]

        return self._scores(choose)

    def copies(self, generator: LoadedGenerator, trained: NDArray[np.int64]) -> Shares:
        """Shares of generated images that copy these rows, compared with all other images of the folder."""
        train, unseen = self._split(trained)

        def score(seed: int) -> Mapping[str, Proportion]:
            fakes = extract_features([self._space], self._drawn(generator, seed), views=True)
            return self._by_score(memorization_scores(fakes, train, unseen, seed=seed))

        return _by_name(score)

    def copies_floor(self, trained: NDArray[np.int64]) -> Shares:
        """The same for the images not trained on, each compared with the others of them."""
        train, unseen = self._split(trained)
        return _by_name(
            lambda seed: self._by_score(
                memorization_scores(unseen, train, unseen, leave_one_out=True, seed=seed)
            )
        )

    def _by_score(self, scores: dict[str, dict[str, Proportion]]) -> dict[str, Proportion]:
        return scores[self._space.name] | scores[""]

    @cached_property
    def _all(self) -> ImageSet:
        return extract_features([self._space], self._data.images, views=True, progress="real images")

    def _split(self, trained: NDArray[np.int64]) -> tuple[ImageSet, ImageSet]:
        """The images trained on, and all others without their duplicates, which would be nearest to them."""
        fingerprints = self._data.fingerprints
        others = np.flatnonzero(~np.isin(fingerprints, fingerprints[trained]))
        _, first = np.unique(fingerprints[others], return_index=True)
        return self._all.subset(trained), self._all.subset(others[np.sort(first)])

    def _drawn(self, generator: LoadedGenerator, seed: int) -> Images:
        return generator.images(draw(self.count, generator.latent_size, seed))

    def _scores(self, images: Callable[[int], Images]) -> Scores:
        draws = [
            compare(self._held_out, extract_features([self._space], images(seed)), seed=seed)
            for seed in range(DRAWS)
        ]
        spaces = [(self._space.name, FEATURE_SCORES), ("", PIXEL_SCORES)]
        return {name: [scores[space][name] for scores in draws] for space, names in spaces for name in names}


def _by_name(shares: Callable[[int], Mapping[str, Proportion]]) -> Shares:
    draws = [shares(seed) for seed in range(DRAWS)]
    return {name: [draw[name] for draw in draws] for name in COPY_SCORES}


@dataclass(frozen=True)
class RecipeRun:
    """A run of a recipe."""

    name: str
    """Recipe and seed."""
    flags: str
    """Flags of the recipe."""
    folder: Path
    trained: NDArray[np.int64]
    """Rows of the images that it was trained on."""

    @cached_property
    def last(self) -> LoadedGenerator:
        """The generator of the last step."""
        return load_generator(self.folder, NEWEST)

    @cached_property
    def best(self) -> LoadedGenerator | None:
        """The generator of the best step; None if no step was scored."""
        return load_generator(self.folder, BEST) if best_path(self.folder).is_file() else None

    @cached_property
    def metrics(self) -> Metrics:
        """Its logged values."""
        return read_metrics(self.folder)

    @property
    def seconds_per_step(self) -> float:
        """The median, which ignores other work on the machine."""
        return self.last.settings.batch_size / median(self.metrics["speed/images_per_second"][1])

    @property
    def minutes(self) -> float:
        """Training time of all steps."""
        return self.last.step * self.seconds_per_step / 60


def print_scores(scorer: HeldOutScorer, runs: Sequence[RecipeRun], floor: Scores) -> RunScores:
    """Print the table of scores, and return them."""
    header = ["recipe", "settings", "step", "s a step", "minutes", *FEATURE_SCORES, *PIXEL_SCORES]
    _print_header([*header, "D loss", "G loss", "accuracy"])
    print(_line(["real images", "", "", "", "", *_cells(floor), "", "", ""]), flush=True)
    scores: RunScores = {}
    for run in runs:
        rollbacks = load(run.last.checkpoint)["course"]["recovery"]["times"]
        name = f"{run.name}, rolled back {rollbacks} times" if rollbacks else run.name
        pace = [f"{run.last.step:,}", f"{run.seconds_per_step:.2f}", f"{run.minutes:.0f}"]
        last = scorer.scores(run.last)
        print(_line([name, run.flags, *pace, *_cells(last), *_losses(run.metrics)]), flush=True)
        best = scorer.scores(run.best) if run.best else None
        if run.best and best:
            step = f"{run.best.step:,}"
            print(_line([f"{run.name}, its best", "", step, "", "", *_cells(best), "", "", ""]))
        scores[run.name] = last, best
    return scores


def print_final_against_best(runs: Sequence[RecipeRun], scores: RunScores, floor: Scores) -> None:
    """Print how much worse each run's last step is than its best one; see `degradation`."""
    if not any(best for _, best in scores.values()):
        return
    print("\nKID at the end against that of the run's best step:\n")
    _print_header(["recipe", "step", "best step", "best", "end", "worse by", "in standard errors"])
    for run in runs:
        last, best = scores[run.name]
        if run.best is None or best is None:
            continue
        relative, errors = degradation(best["KID"], last["KID"], mean(floor["KID"]))
        steps = [f"{run.last.step:,}", f"{run.best.step:,}"]
        values = [format_mean_std(mean(kid), stdev(kid)) for kid in (best["KID"], last["KID"])]
        print(_line([run.name, *steps, *values, f"{relative:+.1%}", f"{errors:+.1f}"]))


def degradation(best: Sequence[float], last: Sequence[float], floor: float) -> tuple[float, float]:
    """How much higher the mean of the last scores is than that of the best ones.

    Args:
        best: a score of which lower is better, one value for each draw.
        last: the same score at the end.
        floor: value of that score for real images.

    Returns:
        The difference as a share of the best score's distance to the floor, and in standard errors of a
        difference of two means; 0 and 0 for equal scores.
    """
    difference = mean(last) - mean(best)
    error = math.sqrt((stdev(best) ** 2 + stdev(last) ** 2) / len(best))
    return difference / max(mean(best) - floor, 1e-9), difference / max(error, 1e-9)


def print_settling(runs: Sequence[RecipeRun]) -> None:
    """Print whether each run settled, from its own scores; see `settling`."""
    with_raw = [run for run in runs if "score/kid_raw" in run.metrics]
    if not with_raw:
        return
    print("\nWhether the runs settle, from their own KID in the last third of their steps:\n")
    _print_header(["recipe", "raw generator / average", "worst / best of all steps"])
    for run in with_raw:
        kid, raw = (run.metrics[f"score/{name}"][1] for name in ("kid", "kid_raw"))
        print(_line([run.name, *(f"{value:.2f}" for value in settling(kid, raw))]))


def settling(kid: Sequence[float], raw: Sequence[float]) -> tuple[float, float]:
    """How far a run is from settling, by its scores at equal intervals.

    Args:
        kid: of the averaged generator; at least one.
        raw: of the generator with the weights of each of these steps.

    Returns:
        Over the last third of the scores, the median ratio of the two; and the worst KID of the average
        there, relative to its best of the whole run. Both are 1 for a run that has settled.
    """
    last = slice(-max(1, len(kid) // 3), None)
    ratios = [of_raw / of_average for of_raw, of_average in zip(raw[last], kid[last], strict=True)]
    return median(ratios), max(kid[last]) / min(kid)


def print_equal_time(runs: Sequence[RecipeRun]) -> None:
    """Print the runs' own scores at the time at which the shortest one ended."""
    scored = [run for run in runs if "score/kid" in run.metrics]
    if not scored:
        return
    limit = min(run.minutes for run in scored)
    print(
        f"\nAfter equal training time ({limit:.1f} minutes), the runs' own scores on held-out images, means "
        f"of the last {SMOOTHING}:\n"
    )
    _print_header(["recipe", "step", "KID", "coverage"])
    for run in scored:
        steps, _ = run.metrics["score/kid"]
        count = sum(step * run.seconds_per_step / 60 <= limit + 1e-9 for step in steps)
        if count:
            last = slice(max(0, count - SMOOTHING), count)
            means = [mean(run.metrics[f"score/{name}"][1][last]) for name in ("kid", "coverage")]
            print(_line([run.name, f"{steps[count - 1]:,}", *(f"{value:.3f}" for value in means)]))


def print_copies(scorer: HeldOutScorer, runs: Sequence[RecipeRun], scores: RunScores) -> None:
    """Print the shares of copies beside the coverage; the floor stands above runs on the same images."""
    print(
        "\nCopies at the end, in comparison with all images that were not trained on; []: interval of 95%:\n"
    )
    _print_header(["recipe", "trained on", "coverage", *COPY_SCORES])
    printed: set[int] = set()
    for run in sorted(runs, key=lambda run: -len(run.trained)):
        count = len(run.trained)
        if count not in printed:
            printed.add(count)
            print(_line(["real images", f"{count:,}", "", *_share_cells(scorer.copies_floor(run.trained))]))
        coverage = scores[run.name][0]["coverage"]
        cells = [format_mean_std(mean(coverage), stdev(coverage))]
        cells += _share_cells(scorer.copies(run.last, run.trained))
        print(_line([run.name, f"{count:,}", *cells]), flush=True)


def save_scores(path: Path, runs: Sequence[RecipeRun]) -> None:
    """Plot the runs' own scores, over steps on the left and over minutes on the right."""
    figure = new_figure("curves", 10, 6.4)
    grid = figure.subplots(2, 2, sharex="col", sharey="row")
    for run in runs:
        for row, score in zip(grid, ("score/kid", "score/coverage"), strict=True):
            steps, values = run.metrics.get(score, ([], []))
            for axes, scale in zip(row, (1, run.seconds_per_step / 60), strict=True):
                axes.plot([step * scale for step in steps], values, label=run.name)
    for row, label in zip(grid, ("KID", "coverage"), strict=True):
        row[0].set_ylabel(f"{label} against held-out images")
    grid[0][0].set_yscale("symlog", linthresh=0.1)
    for axes, label in zip(grid[1], ("step", "minutes"), strict=True):
        axes.set_xlabel(label)
    for axes in grid.flat:
        axes.grid(alpha=0.3)
    grid[0][0].legend()
    save_figure(path, figure)


def _losses(metrics: Metrics) -> list[str]:
    """Cells of the losses and D's accuracy over the last steps."""
    last = slice(-max(2, len(metrics["loss/generator"][0]) // LOSS_WINDOW), None)
    losses = [metrics[f"loss/{network}"][1][last] for network in ("discriminator", "generator")]
    accuracy = mean(metrics["accuracy/real"][1][last] + metrics["accuracy/fake"][1][last])
    return [*(f"{mean(values):.2f} ± {stdev(values):.2f}" for values in losses), f"{accuracy:.2f}"]


def _cells(scores: Scores) -> list[str]:
    return [format_mean_std(mean(values), stdev(values)) for values in scores.values()]


def _share_cells(shares: Shares) -> list[str]:
    cells = []
    for draws in shares.values():
        low, high = (mean(getattr(share, end) for share in draws) for end in ("low", "high"))
        values = [share.value for share in draws]
        cells.append(f"{format_mean_std(mean(values), stdev(values))} [{low:.3f}, {high:.3f}]")
    return cells


def _print_header(cells: Sequence[str]) -> None:
    print(_line(cells), _line(["---"] * len(cells)), sep="\n")


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
