"""Pivotal tuning: a copy of a generator, trained a little further until it reproduces given faces.

A hundred numbers cannot describe a person. As in Roich et al. (2022), the latent vectors of some photos, the
pivots, stay fixed, and the weights are trained to make the photos from them, while the images of random
vectors stay as they were.
"""

from __future__ import annotations

import copy
from dataclasses import replace

import torch

from engine.device import exact_float32
from gan.generator import LoadedGenerator
from gan.inversion.distance import TargetDistance
from gan.inversion.encoder import Progress
from gan.latent.vectors import Latents

STEPS = 150
LEARNING_RATE = 3e-4
OTHERS = 8
"""Random vectors in each step, whose images must stay."""
LOCALITY = 1.0
"""Weight of their mean squared change."""
MAX_PIVOTS = 16
"""Pivots in a step."""


def tune(
    generator: LoadedGenerator,
    distance: TargetDistance,
    pivots: Latents,
    *,
    steps: int = STEPS,
    seed: int = 0,
    progress: Progress = lambda _: None,
) -> LoadedGenerator:
    """Train a copy of a generator to make the images of `distance` from the pivots.

    Batch norm keeps its statistics, so that an image still depends on its own vector alone.

    Args:
        generator: stays as it is.
        distance: to the images, in the order of the pivots.
        pivots: their vectors, float32 [N, latent_size].
        steps: of Adam.
        seed: of the random vectors.
        progress: see `Progress`; called after each step.

    Returns:
        The copy, whose images and digest differ from those of its run.
    """
    network = copy.deepcopy(generator.network).requires_grad_(True)
    original = generator.network.requires_grad_(False)
    device = next(network.parameters()).device
    z = torch.from_numpy(pivots).to(device)
    random = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE)
    with exact_float32():
        for step in range(steps):
            rows = (torch.arange(min(MAX_PIVOTS, len(z))) + step * MAX_PIVOTS) % len(z)
            others = torch.rand(OTHERS, generator.latent_size, generator=random).mul_(2).sub_(1).to(device)
            made = network(torch.cat([z[rows], others]))
            with torch.no_grad():
                before = original(others)
            fit = distance(made[: len(rows)], rows.to(device)).mean()
            loss = fit + LOCALITY * (made[len(rows) :] - before).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            progress((step + 1) / steps)
    return replace(generator, network=network.eval().requires_grad_(False))
