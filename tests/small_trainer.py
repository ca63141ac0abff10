"""GAN trainers whose networks are so small that a step takes milliseconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from engine.budget import TrainingResult
from engine.distributed import World
from engine.run_logger import RunLogger
from gan.config import BETA1, preset_settings
from gan.loop import GanLoop
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
    textbook: bool = False,
    world: World | None = None,
    device: torch.device = CPU,
    cuda_graph: bool = True,
    **changes,
) -> Trainer:
    """A trainer on `IMAGES`, with changes to its settings."""
    settings = replace(preset_settings("textbook" if textbook else "evening"), **SMALL | changes)
    return Trainer(settings, IMAGES, device, world=world, cuda_graph=cuda_graph)


def trainer_with_large_weights(**changes) -> Trainer:
    """A trainer as after some steps: with the small initial weights, all logits are nearly equal."""
    scaled = trainer(**changes)
    with torch.no_grad():
        for network in scaled.networks().values():
            for weight in network.parameters():
                weight *= 5 if weight.dim() > 1 else 1
    return scaled


def run_loop(trainer: Trainer, run: Path, *, first_step: int = 0) -> tuple[TrainingResult, GanLoop]:
    """Train in a folder to the end; rank 0 logs."""
    run.mkdir(exist_ok=True)
    logger = RunLogger(run, first_step) if trainer.world.is_rank_zero else None
    loop = GanLoop(trainer, logger, trainer._images)
    try:
        return loop.train(), loop
    finally:
        if logger:
            logger.close()


def after_each_step(trainer: Trainer, action: Callable[[Trainer], object]) -> Trainer:
    """Have the trainer call `action` after each step."""
    step = trainer.step

    def step_and_act() -> None:
        step()
        action(trainer)

    trainer.step = step_and_act
    return trainer


def set_weight(weight: torch.Tensor, value: float) -> None:
    """Set the first value of a weight."""
    with torch.no_grad():
        weight.view(-1)[0] = value


def record_batches(trainer: Trainer) -> list[Batch]:
    """A list to which each step appends its batch."""
    batches, make_batch = [], trainer._batch

    def record() -> Batch:
        batches.append(make_batch())
        return batches[-1]

    trainer._batch = record
    return batches


def weights(trainer: Trainer) -> list[torch.Tensor]:
    """Copies of all trained weights."""
    networks = trainer.networks().values()
    return [weight.detach().clone() for network in networks for weight in network.parameters()]


def first_gradients(trainer: Trainer) -> list[torch.Tensor]:
    """The gradients of the first step, from Adam's first moments."""
    state = trainer.state()
    return [
        moments["exp_avg"] / (1 - BETA1)
        for name in ("generator_optimizer", "discriminator_optimizer")
        for moments in state[name]["state"].values()
    ]


def relative_error(value: torch.Tensor, truth: torch.Tensor) -> float:
    """The relative error of a tensor; 0 where both are 0, as the gradient of a bias that cancels out."""
    return float((value - truth).norm() / (truth.norm() + 1e-12))
