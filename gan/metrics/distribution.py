"""How far one set of features is from another, and whether it is fidelity or diversity that is missing.

Every measure takes the features of real images first. All of them compute in float64 on the device of
the features, as differences of large sums and of nearly equal vectors need it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.errors import UserError

KID_SUBSETS = 100
KID_SUBSET_SIZE = 1000

ROWS = 1000
"""Rows of a table of distances that are held at once: 80 MB of them for 10,000 columns."""


@dataclass(frozen=True)
class KID:
    """A kernel inception distance.

    Attributes:
        mean: over the subsets. Unbiased: about 0, and as often below it as above, for sets from one source.
        spread: standard deviation over the subsets.
    """

    mean: float
    spread: float


@dataclass(frozen=True)
class PRDC:
    """Fidelity and diversity apart, each from 0; two halves of one real set show what can be had.

    Attributes:
        precision: share of fakes within a real image's neighbourhood, to 1: fidelity.
        recall: share of real images within a fake's neighbourhood, to 1: diversity.
        density: real neighbourhoods around a fake over k; about 1 for sets from one source, and more where
            fakes crowd where real images are dense. Fidelity, which one outlier among the real images does
            not raise.
        coverage: share of real images with a fake in their neighbourhood, to 1. Diversity, which outliers
            among the fakes do not raise.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def fid(real: Tensor, fake: Tensor) -> float:
    """The Fréchet distance of two sets of features (Heusel et al. 2017), squared, as torchmetrics has it.

    Of the two Gaussians with the sets' means and covariances. It falls as N grows, so that only
    distances of equal N compare, and N should be well above F.

    Args:
        real: float32 [N, F].
        fake: float32 [M, F].

    Raises:
        UserError: N or M is below 2.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance

    _at_least(2, "a Fréchet distance", real, fake)
    metric = FrechetInceptionDistance(_Features(real.shape[1])).to(real.device)
    metric.update(real.double(), real=True)
    metric.update(fake.double(), real=False)
    # Rounding leaves a little less than nothing of equal sets.
    return max(0.0, float(metric.compute()))


def kid(real: Tensor, fake: Tensor, *, seed: int = 0) -> KID:
    """The kernel distance of two sets of features (Bińkowski et al. 2018), as torchmetrics has it.

    The squared maximum mean discrepancy under the kernel (x·y / F + 1)^3, without bias, over 100 pairs of
    subsets: of 1,000 features, or of half of the smaller set where that is less. So sets of different N
    compare; the spread alone grows as N falls.

    Args:
        real: float32 [N, F].
        fake: float32 [M, F].
        seed: of the subsets.

    Raises:
        UserError: N or M is below 4.
    """
    from torchmetrics.image.kid import KernelInceptionDistance

    _at_least(4, "a kernel distance", real, fake)
    size = min(KID_SUBSET_SIZE, len(real) // 2, len(fake) // 2)
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings(action="ignore"):
        torch.manual_seed(seed)
        metric = KernelInceptionDistance(_Features(real.shape[1]), KID_SUBSETS, size)
        metric.update(real.double(), real=True)
        metric.update(fake.double(), real=False)
        mean, spread = metric.compute()
    return KID(float(mean), float(spread))


def precision_recall_density_coverage(real: Tensor, fake: Tensor, k: int = 5) -> PRDC:
    """Four shares of neighbourhoods: balls around each image that reach to its k-th nearest of the same set.

    Precision and recall by Kynkäänniemi et al. (2019), density and coverage by Naeem et al. (2020). Only
    those of equal N and k compare. Never more than `ROWS` rows of a table of distances are in memory.

    Args:
        real: float32 [N, F].
        fake: float32 [M, F].
        k: neighbours, at least 1.

    Raises:
        UserError: N or M is below k + 1.
    """
    _at_least(k + 1, f"neighbourhoods of k = {k}", real, fake)
    centre = real.double().mean(0)
    real, fake = real.double() - centre, fake.double() - centre
    real_radii, fake_radii = _radii(real, k), _radii(fake, k)
    within_real, recalled, covered = [], [], []
    # Of a few real images to all fakes; the other way round would be the same table.
    for rows, squared in _squared_distances(real, fake):
        inside = squared <= real_radii[rows, None]
        within_real.append(inside.sum(0))
        covered.append(inside.any(1))
        recalled.append((squared <= fake_radii).any(1))
    neighbourhoods = torch.stack(within_real).sum(0)
    return PRDC(
        precision=_share(neighbourhoods > 0),
        recall=_share(torch.cat(recalled)),
        density=float(neighbourhoods.double().mean()) / k,
        coverage=_share(torch.cat(covered)),
    )


class _Features(torch.nn.Module):
    """Takes the place of torchmetrics' own network where the features are known."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.num_features = length

    def forward(self, features: Tensor) -> Tensor:
        return features


def _radii(features: Tensor, k: int) -> Tensor:
    """The squared distance of each to its k-th nearest, not counting itself, the nearest of all."""
    tables = _squared_distances(features, features)
    return torch.cat([squared.kthvalue(k + 1, dim=1).values for _, squared in tables])


def _squared_distances(left: Tensor, right: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Rows of the table of squared distances, [N, M], a few at a time: which rows, and those."""
    squares = right.square().sum(1)
    for start in range(0, len(left), ROWS):
        rows = slice(start, start + ROWS)
        some = left[rows]
        yield rows, (some.square().sum(1, keepdim=True) + squares - 2 * some @ right.T).clamp_(min=0)


def _share(which: Tensor) -> float:
    return float(which.double().mean())


def _at_least(fewest: int, what: str, real: Tensor, fake: Tensor) -> None:
    for name, features in (("real", real), ("generated", fake)):
        if len(features) < fewest:
            raise UserError(f"{what} needs at least {fewest} {name} images, not {len(features)}: give more")
