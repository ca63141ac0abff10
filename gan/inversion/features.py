"""Feature maps for the comparison of images, by networks of this project only."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from engine.checkpoint import load
from gan.generator import LoadedGenerator
from gan.metrics.random_network import RandomNetwork, load_arrays
from gan.networks import Discriminator, make_discriminator

FeatureMaps = Callable[[Tensor], list[Tensor]]
"""Images [B, 3, S, S] in [-1, 1] to feature maps, each [B, C, H, W]; differentiable."""

DISCRIMINATOR_LAYERS = (1, 2)
"""The middle ones: the first has hardly more than pixels, the last decides about real and generated."""


class RandomFeatures:
    """The features in which generated images are scored (`gan.metrics.random_network`).

    Args:
        device: of the network.
    """

    def __init__(self, device: torch.device) -> None:
        self._network = RandomNetwork(load_arrays(), device)

    def __call__(self, images: Tensor) -> list[Tensor]:
        """See `FeatureMaps`; a single map of one pixel with 128 channels."""
        return [self._network((images + 1) * 127.5)[:, :, None, None]]


class DiscriminatorFeatures:
    """The middle layers of a run's discriminator.

    Args:
        discriminator: any. Each image makes a pack of its own.
    """

    def __init__(self, discriminator: Discriminator) -> None:
        self._pack = discriminator.pack
        self._blocks: list[list[nn.Module]] = [[]]
        for layer in copy.deepcopy(discriminator.layers).eval().requires_grad_(False):
            self._blocks[-1].append(layer)
            if isinstance(layer, nn.LeakyReLU):
                self._blocks.append([])

    def __call__(self, images: Tensor) -> list[Tensor]:
        """See `FeatureMaps`."""
        features = images.repeat(1, self._pack, 1, 1)
        maps = []
        for index in range(max(DISCRIMINATOR_LAYERS) + 1):
            for layer in self._blocks[index]:
                features = layer(features)
            maps.append(features)
        return [maps[index] for index in DISCRIMINATOR_LAYERS]


def load_discriminator(generator: LoadedGenerator) -> Discriminator | None:
    """The discriminator beside a generator, in evaluation mode on its device.

    Returns:
        The discriminator of the same checkpoint; None for a generator in a file of its own.
    """
    if generator.is_file:
        return None
    discriminator = make_discriminator(generator.settings)
    discriminator.load_state_dict(load(generator.checkpoint)["discriminator"])
    device = next(generator.network.parameters()).device
    return discriminator.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)
