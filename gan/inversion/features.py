"""Feature maps for the comparison of images, without third-party weights."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gan.metrics.random_network import RandomNetwork, load_arrays

FeatureMaps = Callable[[Tensor], list[Tensor]]
"""Images [B, 3, S, S] in [-1, 1] to feature maps, each [B, C, H, W]; differentiable."""


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
