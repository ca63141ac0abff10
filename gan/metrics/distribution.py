"""Distances between two sets of features: Fréchet, KID, precision, recall, density and coverage.

Every measure takes the features of real images first. All compute in float64 on the device of the features,
because they subtract large sums and nearly equal vectors.
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
"""Rows of a table of distances in memory at a time: 80 MB for 10,000 columns."""


@dataclass(frozen=True)
class KID:
    """A kernel inception distance.

    Attributes:
        mean: mean over the subsets. An unbiased estimate: for sets from one source its expected value is 0.
            Its distribution is skewed, so single values are more often below 0 than above (55% of 150 splits
            of real faces).
        std: standard deviation over the subsets.
    """

    mean: float
    std: float


@dataclass(frozen=True)
class PRDC:
    """Precision, recall, density and coverage.

    Attributes:
        precision: fidelity: proportion of fakes within the neighbourhood of a real image.
        recall: diversity: proportion of real images within the neighbourhood of a fake.
        density: fidelity: mean number of real neighbourhoods around a fake, over k. About 1 for sets from one
            source, higher if fakes concentrate where real images are dense. Robust to real outliers.
        coverage: diversity: proportion of real images with a fake in their neighbourhood. Robust to outliers
            among the fakes.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def frechet_distance(real: Tensor, fake: Tensor) -> float:
    """Squared Fréchet distance between Gaussians fitted to two sets of features (Heusel et al. 2017).

    In the features of Inception it is the FID. It falls as N grows: compare only distances of equal N. N
    should be well above F.

    Args:
        real: float32 [N, F].
        fake: float32 [M, F].

    Raises:
        UserError: N or M is below 2.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance

    _require(2, "the Fréchet distance", real, fake)
    metric = FrechetInceptionDistance(_Features(real.shape[1])).to(real.device)
    metric.update(real.double(), real=True)
    metric.update(fake.double(), real=False)
    # Rounding makes the distance of equal sets slightly negative.
    return max(0.0, float(metric.compute()))


def kid(real: Tensor, fake: Tensor, *, seed: int = 0) -> KID:
    """Kernel inception distance of two sets of features (Bińkowski et al. 2018).

    The unbiased squared maximum mean discrepancy under the kernel (x·y / F + 1)^3, over 100 pairs of subsets
    of 1,000 features, or half of the smaller set if that is less. Its mean does not depend on N.

    Args:
        real: float32 [N, F].
        fake: float32 [M, F].
        seed: seed of the subsets.

    Raises:
        UserError: N or M is below 4.
    """
    from torchmetrics.image.kid import KernelInceptionDistance

    _require(4, "KID", real, fake)
    size = min(KID_SUBSET_SIZE, len(real) // 2, len(fake) // 2)
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings(action="ignore"):
        torch.manual_seed(seed)
        metric = KernelInceptionDistance(_Features(real.shape[1]), KID_SUBSETS, size)
        metric.update(real.double(), real=True)
        metric.update(fake.double(), real=False)
        mean, std = metric.compute()
    return KID(float(mean), float(std))


def precision_recall_density_coverage(real: Tensor, fake: Tensor, k: int = 5) -> PRDC:
    """Precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020).

    The neighbourhood of an image is the ball that reaches to its k-th nearest neighbour of the same set. A
    point exactly on its surface is inside (`<=`); the reference implementation of Naeem et al. uses `<`,
    which differs only for equal distances. Compare only values of equal N and k.

    Args:
        real: float32 [N, F].
        fake: float32 [M, F].
        k: number of neighbours, at least 1.

    Raises:
        UserError: N or M is below k + 1.
    """
    _require(k + 1, f"k = {k}", real, fake)
    # Far from the origin, even float64 would lose small distances.
    centre = real.double().mean(0)
    real, fake = real.double() - centre, fake.double() - centre
    real_radii, fake_radii = _radii(real, k), _radii(fake, k)
    counts, recalled, covered = [], [], []
    for rows, squared in _squared_distances(real, fake):
        inside = squared <= real_radii[rows, None]
        counts.append(inside.sum(0))
        covered.append(inside.any(1))
        recalled.append((squared <= fake_radii).any(1))
    neighbourhoods = torch.stack(counts).sum(0)
    return PRDC(
        precision=_mean(neighbourhoods > 0),
        recall=_mean(torch.cat(recalled)),
        density=_mean(neighbourhoods) / k,
        coverage=_mean(torch.cat(covered)),
    )


class _Features(torch.nn.Module):
    """Replace the network of torchmetrics, because the features are already computed."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.num_features = length

    def forward(self, features: Tensor) -> Tensor:
        return features


def _radii(features: Tensor, k: int) -> Tensor:
    """Squared distance of each feature vector to its k-th nearest neighbour other than itself."""
    tables = _squared_distances(features, features)
    return torch.cat([squared.kthvalue(k + 1, dim=1).values for _, squared in tables])


def _squared_distances(left: Tensor, right: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield slices of rows of the table of squared distances, [N, M], with their values."""
    squares = right.square().sum(1)
    for start in range(0, len(left), ROWS):
        rows = slice(start, start + ROWS)
        chunk = left[rows]
        yield rows, (chunk.square().sum(1, keepdim=True) + squares - 2 * chunk @ right.T).clamp_(min=0)


def _mean(values: Tensor) -> float:
    return float(values.double().mean())


def _require(count: int, measure: str, real: Tensor, fake: Tensor) -> None:
    for name, features in (("real", real), ("generated", fake)):
        if len(features) < count:
            raise UserError(f"{measure} needs at least {count} {name} images, not {len(features)}: give more")
