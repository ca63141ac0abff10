"""What --dry-run prints: networks, parameters, memory and data."""

from __future__ import annotations

from math import ceil

import torch
from torch import Tensor, nn

from engine.output import counted
from gan.config import Settings
from gan.negatives import count_negatives
from gan.networks import make_discriminator, make_generator
from images.dataset import ImageDataset

BYTES_PER_WEIGHT = 4


def summary(settings: Settings, device: torch.device, data: ImageDataset, processes: int = 1) -> str:
    """A few lines about each network, the memory of one process, and the data.

    The memory is a lower bound computed from the shapes: weights, gradients, two moments of Adam and the
    average; the layers' outputs that a step keeps for its backward pass; the decoded images.
    """
    generator, discriminator = make_generator(settings), make_discriminator(settings)
    z = torch.zeros(1, settings.latent_size)
    pack = torch.zeros(settings.pack, 3, settings.image_size, settings.image_size)
    generator_rows, generator_values = _layers(generator.eval(), z)
    discriminator_rows, discriminator_values = _layers(discriminator.eval(), pack)
    batch = ceil(settings.batch_size / processes)
    negatives = ceil(count_negatives(settings.negatives, settings.batch_size, settings.pack) / processes)
    # D sees a batch of real images, one of generated images, and the negatives.
    packs = ceil((2 * batch + negatives) / settings.pack)
    activations = batch * generator_values + packs * discriminator_values
    sizes = _parameters(generator), _parameters(discriminator)
    weights = 4 * sum(sizes) + (sizes[0] if settings.ema_half_life else 0)
    bytes_per_activation = 2 if settings.precision == "bfloat16" else 4
    place = "mapped from disk" if data.mapped else "in memory"
    return "\n".join(
        [
            "generator (layer, output, parameters)",
            *generator_rows,
            "discriminator",
            *discriminator_rows,
            f"parameters: {sizes[0]:,} in the generator, {sizes[1]:,} in the discriminator",
            f"memory: {_mib(BYTES_PER_WEIGHT * weights)} of weights, gradients, moments and averages, "
            f"{_mib(bytes_per_activation * activations)} of layer outputs, {_mib(data.images.nbytes)} of "
            f"images {place}",
            f"data: {len(data.images):,} images in {data.folder}, {data.held_out.sum():,} of them held out, "
            f"{counted(len(data.skipped), 'file')} skipped, {counted(data.duplicates, 'exact duplicate')}",
            f"device: {device}, {settings.precision}",
        ]
    )


@torch.no_grad()
def _layers(network: nn.Module, inputs: Tensor) -> tuple[list[str], int]:
    """A row for each layer, and the number of values that the layers compute for one input."""
    rows: list[str] = []
    values = 0

    def add_row(layer: nn.Module, _: object, output: Tensor) -> None:
        nonlocal values
        if not getattr(layer, "inplace", False):
            values += output.numel()
        shape = " x ".join(map(str, output.shape[1:]))
        rows.append(f"  {type(layer).__name__:16} {shape:>16} {_parameters(layer):>12,}")

    for layer in network.modules():
        if not list(layer.children()):
            layer.register_forward_hook(add_row)
    network(inputs)
    return rows, values


def _parameters(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


def _mib(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"
