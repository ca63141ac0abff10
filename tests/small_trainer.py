"""Trainers with networks so small that a step takes milliseconds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from engine.distributed import World
from gan.config import base
from gan.trainer import Trainer
from gan.training_step import Batch

IMAGES = np.random.default_rng(0).integers(0, 256, (30, 3, 32, 32), np.uint8)
SMALL = {
    "image_size": 32,
    "batch_size": 8,
    "generator_widths": (12, 10, 8, 6),
    "discriminator_widths": (6, 8, 10, 12),
    "precision": "float32",
}


CPU = torch.device("cpu")


def trainer(
    *, plain: bool = False, world: World | None = None, device: torch.device = CPU, **changes
) -> Trainer:
    """One on `IMAGES`, with changes to its settings."""
    settings = replace(base("light", plain), **SMALL | changes)
    return Trainer(settings, IMAGES, device, world=world)


def batches_of(made: Trainer) -> list[Batch]:
    """To which each step will add what it works on."""
    batches, make = [], made._updates.make
    made._updates.make = lambda batch: batches.append(batch) or make(batch)
    return batches


def weights(of: Trainer) -> list[torch.Tensor]:
    """Copies of all weights that are trained."""
    return [weight.detach().clone() for network in of.networks().values() for weight in network.parameters()]
