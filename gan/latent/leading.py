"""Directions without a scorer: those that change a generator's images most."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.device import exact_float32
from engine.progress import ProgressBar
from gan.generator import LoadedGenerator
from gan.latent.gaussian import from_gaussian, to_gaussian
from gan.latent.vectors import draw

STEP = 0.5
"""Step of the finite differences, in standard deviations: small beside an edit, large beside rounding."""
FACES = 24
"""Faces over which J'J is averaged."""
BATCH_SIZE = 25


def mean_gram(generator: LoadedGenerator, count: int = FACES, seed: int = 0) -> NDArray[np.float64]:
    """The mean of J'J over `count` draws, float64 [size, size].

    J is the Jacobian of the image with respect to u (see `gan.latent.gaussian`), by forward differences, with
    batch norm as in generation. The eigenvectors of the mean are the directions along which images change
    most in mean squared error, averaged over faces. (Ramesh et al. 2018 take those of each face; the first
    layer's, which need no faces, are those of `sefa`.)
    """
    size = generator.latent_size
    steps = np.concatenate([np.zeros((1, size)), STEP * np.eye(size)])
    total = np.zeros((size, size))
    for u in ProgressBar(to_gaussian(draw(count, size, seed)), "Jacobians", count, unit=" faces"):
        images = _float_images(generator, from_gaussian(u + steps))
        jacobian = ((images[1:] - images[0]) / STEP).numpy().astype(np.float64)
        total += jacobian @ jacobian.T
    return total / count


def sefa(generator: LoadedGenerator) -> NDArray[np.float64]:
    """A'A of the projection A from z to the first features, float64 [size, size].

    A is the generator's first layer with the scale of the batch norm after it. Its eigenvectors are the
    directions along which these features change most (SeFa; Shen and Zhou 2021, Closed-Form Factorization of
    Latent Semantics in GANs).
    """
    network = generator.network
    norm = network.layers[0]
    assert isinstance(norm, nn.BatchNorm2d), "batch norm follows the projection"
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    positions = network.first_shape[1] * network.first_shape[2]
    weights = network.project.weight * scale.repeat_interleave(positions)[:, None]
    matrix = weights.detach().cpu().double().numpy()
    return matrix.T @ matrix


@torch.no_grad()
def _float_images(generator: LoadedGenerator, z: NDArray[np.float64]) -> Tensor:
    """Images in [-1, 1], float32 [N, 3 S S] on the CPU."""
    device = next(generator.network.parameters()).device
    with exact_float32():
        parts = [
            generator.network(batch.to(device)).flatten(1).cpu()
            for batch in torch.from_numpy(z.astype(np.float32)).split(BATCH_SIZE)
        ]
    return torch.cat(parts)
