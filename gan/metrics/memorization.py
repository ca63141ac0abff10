"""Whether a generator repeats what it was trained on, told by faces that it never saw."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

CLOSE = 0.5
"""A face is close to a training face if that is nearer than this share of the way to any held-out face."""
DRAWS = 8
"""Draws of as many training as held-out faces that a share is averaged over."""
RESAMPLES = 100
"""Of the bootstrap."""
RANKS = 16
"""Neighbours kept for the bootstrap: one resample in e^16, 9 million, leaves out all of them."""
CHUNK_VALUES = 1 << 23
"""Distances held at a time: 32 MiB of float32."""
INTERVAL = 1.96
"""Standard errors on each side of 95% of a normal distribution."""


@dataclass(frozen=True)
class Proportion:
    """A share in [0, 1] and the interval of 95% around it."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Copying:
    """How a set of faces lies between the faces trained on and those held out.

    Attributes:
        nearer: share of the faces that are nearer to one of R training faces than to any of R held-out
            ones; 0.5 where nothing is copied.
        close: share of the faces whose nearest training face, of all, is less than half (`CLOSE`) as far
            as the nearest held-out one, of all. What it is where nothing is copied depends on how many
            there are of both, so it means little without the share of real faces judged the same way.
        references: R.
    """

    nearer: Proportion
    close: Proportion
    references: int


def copying(faces: Tensor, train: Tensor, held_out: Tensor, *, seed: int = 0) -> Copying:
    """Judge generated faces.

    The idea of both shares is that of Meehan, Chaudhuri and Dasgupta (2020). The first sees copies of
    the R training faces drawn alone: where few faces are held out and many trained on, most copies escape
    it, and the second is the one to look at.

    The interval is the share and 1.96 standard errors to each side, which a bootstrap (Efron 1979)
    over the faces, the training faces and the held-out ones gives: how few are held out mostly decides it.
    Where all faces are alike that says nothing, so it is at least the interval of Wilson (1927) for as
    many faces.

    Args:
        faces: features float32 [N, F], or [V, N, F] of V views of each face, such as its mirror image;
            the view that is nearest counts.
        train: features of the faces trained on, float32 [T, F], T of at least 1.
        held_out: features of those that were not, float32 [H, F], H of at least 1. R is the smaller of
            T and H.
        seed: of all that is drawn.
    """
    return _judge(faces, train, held_out, min(len(train), len(held_out)), seed, own=False)


def copying_of_held_out(faces: Tensor, train: Tensor, held_out: Tensor, *, seed: int = 0) -> Copying:
    """Judge the held-out faces themselves, each against the others: what real faces give.

    Args:
        faces: the held-out ones, float32 [H, F], or [V, H, F] of V views of each, in the order of
            `held_out`.
        train: float32 [T, F], T of at least 1.
        held_out: float32 [H, F], H of at least 2. R is the smaller of T and H - 1.
        seed: of all that is drawn.
    """
    return _judge(faces, train, held_out, min(len(train), len(held_out) - 1), seed, own=True)


def nearest(faces: Tensor, others: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The nearest of the others to each face, by Euclidean distance.

    Args:
        faces: float32 [N, F], or [V, N, F] as for `copying`.
        others: float32 [M, F].
        count: K, at most M.

    Returns:
        Distances, float32 [N, K], ascending, and their numbers among the others, int64 [N, K].
    """
    parts = [rows.topk(count, largest=False) for rows in _distances(faces, others)]
    return torch.cat([part.values for part in parts]), torch.cat([part.indices for part in parts])


@dataclass(frozen=True)
class _Ranking:
    """The nearest of P pools of others to each of N faces: distances, ascending, and numbers, [P, N, K]."""

    distances: Tensor
    numbers: Tensor

    def nearest(self) -> Tensor:
        """Distances [P, N]."""
        return self.distances[:, :, 0]

    def nearest_present(self, present: Tensor) -> Tensor:
        """The same where only some of the others are there, uint8 [M]."""
        first = present[self.numbers].argmax(2, keepdim=True)
        return self.distances.gather(2, first)[:, :, 0]


def _judge(
    faces: Tensor, train: Tensor, held_out: Tensor, references: int, seed: int, *, own: bool
) -> Copying:
    random = torch.Generator().manual_seed(seed)
    # Of draws that may hold the face itself one more is taken, as it is left out.
    to_train = _rank(faces, train, references, random)
    to_held_out = _rank(faces, held_out, references + own, random, own=own)
    found = _shares(*(rank.nearest() for rank in (*to_train, *to_held_out))).mean(0)
    resampled = []
    for _ in range(RESAMPLES):
        sides = (to_train, _present(len(train), random)), (to_held_out, _present(len(held_out), random))
        shares = _shares(*(rank.nearest_present(present) for ranks, present in sides for rank in ranks))
        resampled.append(shares[torch.randint(len(shares), (len(shares),), generator=random)].mean(0))
    errors = torch.stack(resampled).std(0)
    close, nearer = (
        _with_interval(value, error, to_train[0].numbers.shape[1])
        for value, error in zip(found.tolist(), errors.tolist(), strict=True)
    )
    return Copying(nearer, close, references)


def _with_interval(value: float, error: float, count: int) -> Proportion:
    """A share of `count` faces, and the wider of the two intervals on each side."""
    shrunk = 1 + INTERVAL**2 / count
    middle = (value + INTERVAL**2 / (2 * count)) / shrunk
    half = INTERVAL / shrunk * math.sqrt(value * (1 - value) / count + (INTERVAL / (2 * count)) ** 2)
    low, high = min(value - INTERVAL * error, middle - half), max(value + INTERVAL * error, middle + half)
    return Proportion(value, max(low, 0.0), min(high, 1.0))


def _present(count: int, random: torch.Generator) -> Tensor:
    """Which of `count` come up in as many draws with replacement, uint8 [count]."""
    drawn = torch.randint(count, (count,), generator=random)
    return torch.zeros(count, dtype=torch.uint8).index_fill_(0, drawn, 1)


def _shares(all_train: Tensor, some_train: Tensor, all_held_out: Tensor, some_held_out: Tensor) -> Tensor:
    """For each face whether it is close, and in how many of the draws it is nearer: float64 [N, 2].

    Args: distances to the nearest of all [1, N] or of each draw [`DRAWS`, N].
    """
    close = (all_train < CLOSE * all_held_out).double()
    nearer = torch.heaviside(some_held_out.double() - some_train, torch.tensor(0.5, dtype=torch.float64))
    return torch.stack([close.mean(0), nearer.mean(0)], dim=1)


def _rank(
    faces: Tensor, others: Tensor, size: int, random: torch.Generator, *, own: bool = False
) -> tuple[_Ranking, _Ranking]:
    """The rankings of all others, and of `DRAWS` draws of so many of them without replacement.

    If `own`, the others are the faces, and a face is not compared with itself.
    """
    everyone = torch.arange(len(others))[None]
    draws = torch.stack([torch.randperm(len(others), generator=random)[:size] for _ in range(DRAWS)])
    rankings: tuple[list[tuple[Tensor, Tensor]], ...] = ([], [])
    first = 0
    for rows in _distances(faces, others):
        if own:
            rows.diagonal(first).fill_(torch.inf)
        first += len(rows)
        for pools, ranking in zip((everyone, draws), rankings, strict=True):
            ranking.append(_nearest_in(rows, pools))
    of_all, of_draws = (
        _Ranking(*(torch.cat(part, dim=1) for part in zip(*ranking, strict=True))) for ranking in rankings
    )
    return of_all, of_draws


def _nearest_in(rows: Tensor, pools: Tensor) -> tuple[Tensor, Tensor]:
    """Distances to the nearest in each pool and their numbers, [P, rows, K]."""
    ranked = [rows[:, pool].topk(min(RANKS, len(pool)), largest=False) for pool in pools]
    numbers = [pool[part.indices] for pool, part in zip(pools, ranked, strict=True)]
    return torch.stack([part.values for part in ranked]), torch.stack(numbers)


def _distances(faces: Tensor, others: Tensor) -> Iterator[Tensor]:
    """Some rows after the other of the distances [N, M], the smallest over the faces' views."""
    views = faces if faces.ndim == 3 else faces[None]
    # Distances stay as they are, but far from the origin float32 would lose the small ones.
    middle = others.mean(0)
    others = others - middle
    for chunk in views.split(max(1, CHUNK_VALUES // len(others)), dim=1):
        yield torch.stack([torch.cdist(view - middle, others) for view in chunk]).amin(0)
