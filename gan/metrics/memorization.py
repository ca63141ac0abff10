"""Whether a generator reproduces its training images, judged against images it was never trained on.

Two proportions after Meehan, Chaudhuri and Dasgupta (2020), who compare distances to training images with
distances to held-out images. Each has a confidence interval of 95%: 1.96 standard errors of a bootstrap
(Efron 1979) over generated, training and held-out images, and at least the interval of Wilson (1927),
because the bootstrap has no spread where all images agree.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

CLOSE_RATIO = 0.5
"""An image is close to training if its nearest training image is nearer than this fraction of the distance to
its nearest held-out image."""
SUBSETS = 8
"""Random subsets of training and of held-out images that `nearer_to_training` averages over."""
BOOTSTRAP_SAMPLES = 100
NEIGHBOURS = 16
"""Neighbours stored for the bootstrap; one sample in e^16, or 9 million, omits all of them."""
CHUNK_VALUES = 1 << 23
"""Distances in memory at a time: 32 MiB of float32."""
Z_95 = 1.96


@dataclass(frozen=True)
class Proportion:
    """A proportion in [0, 1] and its confidence interval of 95%."""

    value: float
    low: float
    high: float


def nearer_to_training(
    generated: Tensor, train: Tensor, held_out: Tensor, *, leave_one_out: bool = False, seed: int = 0
) -> Proportion:
    """Proportion of images nearer to one of R training images than to any of R held-out ones.

    It is 0.5 without copies. R is the smaller of the two numbers. With few held-out images, R training
    images include only few of the originals, so most copies escape; `close_to_training` searches all.

    Args:
        generated: features, float32 [N, F], or [V, N, F] for V views of each image such as its mirror image;
            the nearest view counts.
        train: features of training images, float32 [T, F].
        held_out: features of held-out images, float32 [H, F].
        leave_one_out: `generated` are the held-out images in the same order; compare none with itself. H
            must be at least 2.
        seed: seed of the random subsets and of the bootstrap.
    """
    random = torch.Generator().manual_seed(seed)
    size = min(len(train), len(held_out) - leave_one_out)
    # A subset that includes the image itself loses it, so it needs one more.
    subsets = [_subsets(len(train), size, random), _subsets(len(held_out), size + leave_one_out, random)]
    neighbours = [
        _nearest(generated, train, subsets[0]),
        _nearest(generated, held_out, subsets[1], leave_one_out=leave_one_out),
    ]
    tie = torch.tensor(0.5, dtype=torch.float64)
    return _proportion(*neighbours, lambda near, far: torch.heaviside(far.double() - near, tie), random)


def close_to_training(
    generated: Tensor, train: Tensor, held_out: Tensor, *, leave_one_out: bool = False, seed: int = 0
) -> Proportion:
    """Proportion of images whose nearest training image is less than half as far as the nearest held-out one.

    Without copies it depends on the numbers of images, so compare it with that of the held-out images
    (`leave_one_out`). Near-duplicates among the real images raise both.

    Args:
        generated: thumbnails with views, float32 [V, N, F], of `gan.metrics.thumbnails`.
        train: thumbnails of training images, float32 [T, F].
        held_out: thumbnails of held-out images, float32 [H, F].
        leave_one_out: as for `nearer_to_training`.
        seed: seed of the bootstrap.
    """
    random = torch.Generator().manual_seed(seed)
    neighbours = [
        _nearest_in_any_view(generated, train),
        _nearest_in_any_view(generated, held_out, leave_one_out=leave_one_out),
    ]
    return _proportion(*neighbours, lambda near, far: (near < CLOSE_RATIO * far).double(), random)


def nearest_in_any_view(views: Tensor, references: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Find the nearest references to each image over all of its views, by Euclidean distance.

    All views are compared only with the 16 references nearest to the central crop or its mirror image.

    Args:
        views: thumbnails with views, float32 [V, N, F].
        references: thumbnails, float32 [M, F].
        count: K, at most 16 and at most M.

    Returns:
        Distances, float32 [N, K], ascending, and indices of the references, int64 [N, K].
    """
    found = _nearest_in_any_view(views, references)
    return found.distances[0, :, :count], found.indices[0, :, :count]


@dataclass(frozen=True)
class _Neighbours:
    """The nearest of M references, in each of P subsets, to each of N images: ascending, [P, N, K]."""

    distances: Tensor
    indices: Tensor
    references: int

    def nearest(self) -> Tensor:
        """Distance to the nearest, [P, N]."""
        return self.distances[:, :, 0]

    def nearest_of(self, present: Tensor) -> Tensor:
        """Distance to the nearest of the references that are present, uint8 [M]."""
        first = present[self.indices].argmax(2, keepdim=True)
        return self.distances.gather(2, first)[:, :, 0]


def _proportion(
    train: _Neighbours,
    held_out: _Neighbours,
    compare: Callable[[Tensor, Tensor], Tensor],
    random: torch.Generator,
) -> Proportion:
    """Average `compare(distance to training, distance to held-out)` over the images."""
    value = float(compare(train.nearest(), held_out.nearest()).mean())
    count = train.distances.shape[1]
    samples = []
    for _ in range(BOOTSTRAP_SAMPLES):
        near, far = (side.nearest_of(_resample(side.references, random)) for side in (train, held_out))
        samples.append(compare(near, far).mean(0)[torch.randint(count, (count,), generator=random)].mean())
    half_width = Z_95 * float(torch.stack(samples).std())
    low, high = _wilson(value, count)
    return Proportion(value, max(min(value - half_width, low), 0.0), min(max(value + half_width, high), 1.0))


def _wilson(value: float, count: int) -> tuple[float, float]:
    scale = 1 + Z_95**2 / count
    centre = (value + Z_95**2 / (2 * count)) / scale
    half_width = Z_95 / scale * math.sqrt(value * (1 - value) / count + (Z_95 / (2 * count)) ** 2)
    return centre - half_width, centre + half_width


def _resample(count: int, random: torch.Generator) -> Tensor:
    """Which of `count` items a bootstrap sample contains, uint8 [count]."""
    drawn = torch.randint(count, (count,), generator=random)
    return torch.zeros(count, dtype=torch.uint8).index_fill_(0, drawn, 1)


def _subsets(count: int, size: int, random: torch.Generator) -> Tensor:
    """Random subsets without replacement, int64 [SUBSETS, size]."""
    return torch.stack([torch.randperm(count, generator=random)[:size] for _ in range(SUBSETS)])


def _nearest(
    images: Tensor, references: Tensor, subsets: Tensor, *, leave_one_out: bool = False
) -> _Neighbours:
    """The nearest references in each subset, int64 [P, size]; images are [N, F] or [V, N, F]."""
    count = min(NEIGHBOURS, subsets.shape[1])
    parts = []
    for table in _distances(images, references, leave_one_out=leave_one_out):
        found = [table[:, subset].topk(count, largest=False) for subset in subsets]
        indices = [subset[part.indices] for subset, part in zip(subsets, found, strict=True)]
        parts.append((torch.stack([part.values for part in found]), torch.stack(indices)))
    distances, indices = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
    return _Neighbours(distances, indices, len(references))


def _nearest_in_any_view(views: Tensor, references: Tensor, *, leave_one_out: bool = False) -> _Neighbours:
    """The nearest references over all views; candidates are the nearest to the first view of either half."""
    central = views[:: max(1, len(views) // 2)]
    every = torch.arange(len(references))[None]
    candidates = _nearest(central, references, every, leave_one_out=leave_one_out)
    distances = []
    for rows, indices in zip(views.split(500, dim=1), candidates.indices[0].split(500), strict=True):
        distances.append(torch.cdist(rows.transpose(0, 1), references[indices]).amin(1))
    # The image itself, left out above, is a candidate only where there are too few others.
    refined = torch.cat(distances).masked_fill(candidates.distances[0].isinf(), torch.inf).sort(dim=1)
    indices = candidates.indices[0].gather(1, refined.indices)
    return _Neighbours(refined.values[None], indices[None], len(references))


def _distances(images: Tensor, references: Tensor, *, leave_one_out: bool) -> Iterator[Tensor]:
    """Rows of the table of distances, [N, M], a chunk at a time; the smallest over the views of an image."""
    views = images if images.ndim == 3 else images[None]
    # Far from the origin, float32 would lose small distances.
    centre = references.mean(0)
    references = references - centre
    start = 0
    for chunk in views.split(max(1, CHUNK_VALUES // len(references)), dim=1):
        table = torch.stack([torch.cdist(view - centre, references) for view in chunk]).amin(0)
        if leave_one_out:
            table.diagonal(start).fill_(torch.inf)
        start += len(table)
        yield table
