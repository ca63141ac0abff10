"""What --dry-run prints: networks, parameters, memory and data."""

from __future__ import annotations

from math import ceil

import torch
from torch import Tensor, nn

from gan.config import Settings
from gan.negatives import count_negatives
from gan.networks import make_networks
from images.dataset import ImageDataset

FLOAT = 4
"""Bytes of a weight."""


def summary(settings: Settings, device: torch.device, data: ImageDataset, processes: int = 1) -> str:
    """A few lines a network, the memory they take, and what is known of the data.

    The memory is a lower bound counted from the shapes: weights, gradients, two moments of Adam and the
    average; the layers' outputs that a step keeps for its backward pass; the decoded images. It is that of
    one of the processes.
    """
    generator, discriminator = make_networks(settings)
    z = torch.zeros(1, settings.latent_size)
    images = torch.zeros(1, 3, settings.image_size, settings.image_size)
    generator_rows, generator_values = _layers(generator.eval(), z)
    discriminator_rows, discriminator_values = _layers(discriminator.eval(), images)
    parts = processes * settings.accumulate
    at_once, negatives = ceil(settings.batch_size / parts), ceil(count_negatives(settings) / parts)
    # The discriminator sees a batch of real images, one of generated ones, and the negatives.
    kept = at_once * generator_values + (2 * at_once + negatives) * discriminator_values
    of_generator, of_discriminator = _parameters(generator), _parameters(discriminator)
    states = 4 * (of_generator + of_discriminator) + (of_generator if settings.ema_half_life else 0)
    width = 2 if settings.precision == "bfloat16" else FLOAT
    place = "mapped from disk" if data.mapped else "in memory"
    return "\n".join(
        [
            "generator (layer, output, parameters)",
            *generator_rows,
            "discriminator",
            *discriminator_rows,
            f"parameters: {of_generator:,} in the generator, {of_discriminator:,} in the discriminator",
            f"memory: {_mib(FLOAT * states)} of weights, gradients, moments and averages, "
            f"{_mib(width * kept)} of layer outputs, {_mib(data.images.nbytes)} of images {place}",
            f"data: {len(data.images):,} images in {data.folder}, {data.held.sum():,} of them held out, "
            f"{len(data.skipped):,} files left out, {data.duplicates:,} exact duplicates",
            f"device: {device}, {settings.precision}",
        ]
    )


@torch.no_grad()
def _layers(network: nn.Module, inputs: Tensor) -> tuple[list[str], int]:
    """A row for each layer, and how many values the layers put out for one image."""
    rows: list[str] = []
    values = 0

    def note(layer: nn.Module, _: object, output: Tensor) -> None:
        nonlocal values
        if not getattr(layer, "inplace", False):
            values += output.numel()
        shape = " x ".join(map(str, output.shape[1:]))
        kind = type(layer).__name__.removeprefix("Parametrized")
        rows.append(f"  {kind:16} {shape:>16} {_parameters(layer):>12,}")

    for name, layer in network.named_modules():
        if name in ("project", "head") or (name.startswith("layers.") and "parametrizations" not in name):
            layer.register_forward_hook(note)
    network(inputs)
    return rows, values


def _parameters(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


def _mib(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"
