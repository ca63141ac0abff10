"""Generators with random weights, whose pictures differ from one another, without any training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from engine.ema import estimate_batch_norm_statistics
from gan.config import Settings
from gan.generator import LoadedGenerator
from gan.latent.directions import Direction, Directions
from gan.networks import Generator

NAMES = ("smile", "glasses", "yaw")
SCORES = {"effect": 1.5, "leak": 0.2, "random_leak": 0.9, "monotone": 0.95}


def made_generator(
    widths=(12, 10, 8, 6), side: int = 32, latent_size: int = 20, seed: int = 0
) -> LoadedGenerator:
    """A generator of these shapes; all that a batch norm can do is used."""
    torch.manual_seed(seed)
    network = Generator(widths, latent_size, side)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if "layers" in name and weight.dim() == 1:
                weight.uniform_(-0.3, 0.3) if name.endswith("bias") else weight.uniform_(0.7, 1.3)
        network.layers[-2].weight *= 8
    estimate_batch_norm_statistics(network, [torch.rand(16, latent_size) * 2 - 1])
    settings = Settings(generator_widths=widths, latent_size=latent_size, image_size=side, seed=1)
    return LoadedGenerator(network.eval(), Path("made"), Path("made/best.pt"), 5, "ema", settings)


def made_directions(generator: LoadedGenerator) -> Directions:
    """Three orthogonal directions, with scores."""
    random = np.random.default_rng(0).normal(size=(generator.latent_size, len(NAMES)))
    vectors = np.linalg.qr(random)[0].T
    found = {
        name: Direction(vector, "made", dict(SCORES)) for name, vector in zip(NAMES, vectors, strict=True)
    }
    return Directions(generator.digest, found)
