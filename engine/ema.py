"""Averaged networks: an exponential moving average of the weights, with batch-norm statistics of its own."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from engine.device import exact_float32

RAMP = 0.1
"""The half-life is never more than this share of the images seen: early averages forget the start."""


class AveragedNetwork:
    """An exponential moving average of a network's weights, kept in float32.

    Its half-life is given in images, so that it means the same for every batch size (Karras et al.
    2023, "Analyzing and Improving the Training Dynamics of Diffusion Models").

    Args:
        network: the one to follow; the average starts as a copy of it.
        half_life: images after which a weight's share of the average has halved.
    """

    def __init__(self, network: nn.Module, half_life: float) -> None:
        self.half_life = half_life
        self.network = copy.deepcopy(network).requires_grad_(False)

    def lerp_weight(self, batch_size: int, images_seen: float) -> float:
        """How far in (0, 1) of the way to the network a step takes the average.

        Args:
            batch_size: images in this step.
            images_seen: images in all steps so far, this one included; infinity for an average that began as
                one already.
        """
        half_life = min(self.half_life, RAMP * images_seen)
        return 1 - 0.5 ** (batch_size / half_life)

    @torch.no_grad()
    def update(self, network: nn.Module, share: float | Tensor) -> None:
        """Move the average towards `network` by a share of the way.

        Args:
            network: the one followed.
            share: what `share` tells; in a step that is recorded once and replayed, where a number would stay
                what it was at the recording, as a tensor, float32 [].
        """
        for average, weight in zip(self.network.parameters(), network.parameters(), strict=True):
            average.lerp_(weight, share)


@torch.no_grad()
def estimate_batch_norm_statistics(network: nn.Module, inputs: Iterable[Tensor]) -> None:
    """Give the batch norms that are in training the plain mean of these inputs' statistics, in place.

    Args:
        network: in whatever mode; it is left in that. What `train()` leaves as it is, such as frozen
            layers, keeps its statistics.
        inputs: batches as the network takes them, on its device, all of one size.
    """
    was_training = network.training
    network.train()
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d) and layer.training]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over the batches below
    with exact_float32():
        for batch in inputs:
            network(batch)
    network.train(was_training)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
