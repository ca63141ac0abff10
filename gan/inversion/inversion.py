"""Find the latent vectors whose images come nearest to given ones.

    inverter = Inverter(generator, encoder)
    found = inverter.invert(images)             # uint8 [N, 3, S, S], of any faces
    found.z                                     # float32 [N, latent_size], in [-1, 1]

The search starts from an encoder's estimate and from random draws (Zhu et al. 2016), takes steps of Adam
(Kingma and Ba 2015) from all of them, and finishes the best by L-BFGS (Liu and Nocedal 1989). It works in the
Gaussian coordinate u (`gan.inversion.coordinates`). Its objective is

    RESIDUALS / 2 * log(distance) - log p(|u|),

the negative log posterior if the image differs from the target by Gaussian noise of unknown variance and the
direction of u is uniform. p is the chi distribution, that of the length of a standard normal vector; the
density of u itself would draw it to the mean, which is unlike any vector that the generator was trained with.
The prior weighs more the worse the generator fits: it hardly moves the result on its own images. Their
vectors are then computed to the last digits (`gan.inversion.polish`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.device import exact_float32
from gan.generator import LoadedGenerator
from gan.inversion.coordinates import to_u, to_z
from gan.inversion.distance import Distance, TargetDistance
from gan.inversion.encoder import Encoder, Progress
from gan.inversion.features import RandomFeatures
from gan.inversion.lbfgs import Objective, minimize
from gan.inversion.polish import polish
from gan.latent.vectors import Latents, draw
from images.tiles import to_float, to_uint8

RESIDUALS = 1000.0
"""Pixels and features that count as independent; each image has far more, but neighbours err alike."""
SMALLEST_DISTANCE = 1e-7
"""Added to a distance: about that of two images that are rounded to the same levels."""
BATCH = 32
"""Images that are generated at a time."""
LEARNING_RATE = 0.1
LAST_LEARNING_RATE = 0.02
FEATURE_WEIGHT = 0.2
"""Weight of features, in their variances, beside pixels in [-1, 1]; a smaller weight gives blurrier faces
with a higher PSNR."""
NEARLY_EXACT = 0.02
"""Root mean square error of the pixels, in [-1, 1], below which the generator made the image itself: 40 dB,
which no photo reaches."""
EXAMPLES = 32
"""Generated images by which features are scaled."""
TOLERANCE = 0.05
"""Decrease of the objective, in nats, in ten steps of L-BFGS below which an image is finished."""


@dataclass(frozen=True)
class Effort:
    """How much work an inversion takes.

    Attributes:
        draws: random starts beside the encoder's estimate.
        adam_steps: of Adam from each start.
        evaluations: of the objective by L-BFGS, at most.
    """

    draws: int
    adam_steps: int
    evaluations: int


BEST = Effort(draws=1, adam_steps=30, evaluations=150)
FAST = Effort(draws=0, adam_steps=0, evaluations=40)


@dataclass(frozen=True)
class Inversion:
    """Latent vectors of images.

    Attributes:
        z: float32 [N, latent_size], in [-1, 1].
        images: their images, uint8 [N, 3, S, S].
    """

    z: Latents
    images: NDArray[np.uint8]


class Inverter:
    """Finds latent vectors for one generator.

    Args:
        generator: its network's weights get no gradients any more.
        encoder: gives the first start; None to start from draws alone.
    """

    def __init__(self, generator: LoadedGenerator, encoder: Encoder | None = None) -> None:
        self._network, self._encoder = generator.network.requires_grad_(False), encoder
        self._device = next(self._network.parameters()).device
        examples = torch.from_numpy(generator.images(draw(EXAMPLES, generator.latent_size, generator.seed)))
        extractor = RandomFeatures(self._device)
        self._distance = Distance([extractor], to_float(examples.to(self._device)), FEATURE_WEIGHT)

    def invert(
        self,
        images: NDArray[np.uint8],
        weights: NDArray[np.float32] | None = None,
        effort: Effort = BEST,
        *,
        seed: int = 0,
        progress: Progress = lambda _: None,
    ) -> Inversion:
        """Find the vectors of images. The result for an image does not depend on the others.

        Args:
            images: uint8 [N, 3, S, S], S the side of the generator's images.
            weights: of their pixels, float32 [N, S, S]; all alike by default.
            effort: how much work to spend.
            seed: of the draws.
            progress: see `Progress`; called after each step.

        Raises:
            ValueError: neither an encoder nor draws give a start.
        """
        weights = np.ones((len(images), *images.shape[2:]), np.float32) if weights is None else weights
        starts = range(0, len(images), BATCH)
        found = []
        for number, first in enumerate(starts):
            part = slice(first, first + BATCH)
            steps = _Steps(effort, progress, number, len(starts))
            found.append(self._invert(images[part], weights[part], effort, seed, steps))
        progress(1.0)
        return Inversion(*(np.concatenate(each) for each in zip(*found, strict=True)))

    def distance_to(self, images: NDArray[np.uint8], weights: NDArray[np.float32]) -> TargetDistance:
        """The distance of generated images to given ones; for the arguments see `invert`."""
        targets = to_float(torch.from_numpy(images).to(self._device))
        return TargetDistance(self._distance, targets, torch.from_numpy(weights)[:, None].to(self._device))

    def _invert(
        self,
        images: NDArray[np.uint8],
        weights: NDArray[np.float32],
        effort: Effort,
        seed: int,
        steps: _Steps,
    ) -> tuple[Latents, NDArray[np.uint8]]:
        distance = self.distance_to(images, weights)

        def objective(u: Tensor, rows: Tensor) -> Tensor:
            fit = distance(self._network(to_z(u)), rows)
            return RESIDUALS / 2 * (fit + SMALLEST_DISTANCE).log() + negative_log_prior(u)

        def counted(u: Tensor, rows: Tensor) -> Tensor:
            steps.advance()
            return objective(u, rows)

        with exact_float32():
            best = self._from_all_starts(objective, self._starts(images, effort, seed), effort, steps)
            exact = RESIDUALS / 2 * math.log(NEARLY_EXACT**2)
            u, _ = minimize(counted, best, effort.evaluations, TOLERANCE, exact)
            z = self._polished(images, weights, to_z(u))
            with torch.no_grad():
                made = to_uint8(self._network(z))
        return z.cpu().numpy(), made.cpu().numpy()

    def _polished(self, images: NDArray[np.uint8], weights: NDArray[np.float32], z: Tensor) -> Tensor:
        """The vectors, with the last digits of those that reproduce their images; see `polish`."""
        targets = to_float(torch.from_numpy(images).to(self._device))
        factors = torch.from_numpy(weights)[:, None].to(self._device)
        with torch.no_grad():
            errors = ((self._network(z) - targets).square() * factors).mean((1, 2, 3))
        near = errors < NEARLY_EXACT**2 * factors.mean((1, 2, 3))
        if near.any():
            z = z.clone()
            z[near] = polish(self._network, targets[near], factors[near], z[near])
        return z

    def estimate(self, images: NDArray[np.uint8]) -> Latents:
        """The encoder's estimates for images, uint8 [N, 3, S, S]: float32 [N, latent_size]."""
        assert self._encoder is not None
        return to_z(self._estimates(images)).cpu().numpy()

    def _estimates(self, images: NDArray[np.uint8]) -> Tensor:
        targets = to_float(torch.from_numpy(images).to(self._device))
        return torch.cat([self._encoder.estimate(part) for part in targets.split(BATCH)])

    def _starts(self, images: NDArray[np.uint8], effort: Effort, seed: int) -> Tensor:
        """Where to start, float32 [N, K, latent_size]: the estimate, then draws, the same for each image."""
        draws = draw(effort.draws, self._network.latent_size, seed)
        u = to_u(torch.from_numpy(draws).to(self._device))
        starts = u.expand(len(images), -1, -1)
        if self._encoder is None:
            if not effort.draws:
                raise ValueError("without an encoder, an inversion needs draws to start from")
            return starts
        return torch.cat([self._estimates(images)[:, None], starts], dim=1)

    def _from_all_starts(self, objective: Objective, starts: Tensor, effort: Effort, steps: _Steps) -> Tensor:
        """Steps of Adam from all starts [N, K, D], and the best of each image, [N, D]."""
        count, each, size = starts.shape
        if each == 1 and not effort.adam_steps:
            return starts[:, 0]
        u = starts.reshape(-1, size).clone().requires_grad_()
        rows = torch.arange(count, device=u.device).repeat_interleave(each)
        optimizer = torch.optim.Adam([u], LEARNING_RATE, betas=(0.9, 0.99))
        decay = (LAST_LEARNING_RATE / LEARNING_RATE) ** (1 / max(effort.adam_steps, 1))
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, decay)
        for _ in range(effort.adam_steps):
            steps.advance()
            optimizer.zero_grad()
            for part, part_rows in zip(u.split(BATCH), rows.split(BATCH), strict=True):
                objective(part, part_rows).sum().backward()
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            parts = zip(u.split(BATCH), rows.split(BATCH), strict=True)
            values = torch.cat([objective(part, part_rows) for part, part_rows in parts]).view(count, each)
        return u.detach().view(starts.shape)[torch.arange(count, device=u.device), values.argmin(1)]


def negative_log_prior(u: Tensor) -> Tensor:
    """-log p of the lengths of vectors [B, D], less that of the likeliest length: [B], 0 or more."""
    likeliest = u.shape[1] - 1  # its square; 0 for a single value
    squares = u.square().sum(1).clamp(min=1e-6)
    return (squares - likeliest - likeliest * (squares / max(likeliest, 1)).log()) / 2


class _Steps:
    """Reports the share of the steps that are done of one part of the images."""

    def __init__(self, effort: Effort, progress: Progress, part: int, parts: int) -> None:
        self._total = effort.adam_steps + effort.evaluations + 1
        self._done, self._progress = 0, progress
        self._part, self._parts = part, parts

    def advance(self) -> None:
        self._done += 1
        self._progress((self._part + min(self._done / self._total, 0.99)) / self._parts)
