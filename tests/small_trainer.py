"""Trainers with networks so small that a step takes milliseconds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from engine.distributed import World
from gan.config import BETA1, preset_settings
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
    *,
    plain: bool = False,
    world: World | None = None,
    device: torch.device = CPU,
    cuda_graph: bool = True,
    **changes,
) -> Trainer:
    """A trainer on `IMAGES`, with changes to its settings."""
    settings = replace(preset_settings("plain" if plain else "light"), **SMALL | changes)
    return Trainer(settings, IMAGES, device, world=world, cuda_graph=cuda_graph)


def trainer_with_large_weights(**changes) -> Trainer:
    """A trainer past its first steps: with the tiny initial weights all logits are alike."""
    made = trainer(**changes)
    with torch.no_grad():
        for network in made.networks().values():
            for weight in network.parameters():
                weight *= 5 if weight.dim() > 1 else 1
    return made


def record_batches(made: Trainer) -> list[Batch]:
    """A list to which each step adds its batch."""
    batches, make = [], made._batch

    def record() -> Batch:
        batches.append(make())
        return batches[-1]

    made._batch = record
    return batches


def weights(of: Trainer) -> list[torch.Tensor]:
    """Copies of all trained weights."""
    return [weight.detach().clone() for network in of.networks().values() for weight in network.parameters()]


def first_gradients(of: Trainer) -> list[torch.Tensor]:
    """The gradients of the first step, from Adam's first moments."""
    state = of.state()
    return [
        moments["exp_avg"] / (1 - BETA1)
        for name in ("generator_optimizer", "discriminator_optimizer")
        for moments in state[name]["state"].values()
    ]


def relative_error(value: torch.Tensor, truth: torch.Tensor) -> float:
    """The relative error of a tensor; 0 where both are 0, as the gradient of a bias that cancels out."""
    return float((value - truth).norm() / (truth.norm() + 1e-12))
