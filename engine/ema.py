"""Exponential moving averages of a network's weights, and batch-norm statistics for them."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from engine.device import exact_float32

RAMP_UP_RATIO = 0.1
"""Maximum half-life as a fraction of the images seen, so that early averages forget the initial weights."""


class AveragedNetwork:
    """An exponential moving average (EMA) of a network's weights, in float32.

    Its half-life is in images, so that it is independent of the batch size, and ramps up with the images seen
    (as in the code of Karras et al. 2020, "Training Generative Adversarial Networks with Limited Data").

    Args:
        network: the network to average; the average starts as a copy of it.
        half_life: number of images after which a weight's contribution has halved.
    """

    def __init__(self, network: nn.Module, half_life: float) -> None:
        self.half_life = half_life
        self.network = copy.deepcopy(network).requires_grad_(False)

    def lerp_weight(self, batch_size: int, images_seen: float) -> float:
        """The network's weight in the average's next update, in (0, 1).

        Args:
            batch_size: images in this step.
            images_seen: images in all steps so far, including this one; infinity if the average started from
                another average.
        """
        half_life = min(self.half_life, RAMP_UP_RATIO * images_seen)
        return 1 - 0.5 ** (batch_size / half_life)

    @torch.no_grad()
    def update(self, network: nn.Module, lerp_weight: float | Tensor) -> None:
        """Interpolate from the average to `network`.

        Args:
            network: the network to average.
            lerp_weight: the result of `lerp_weight`; a tensor, float32 [], if the step is recorded as a CUDA
                graph, which would keep a number constant.
        """
        for average, weight in zip(self.network.parameters(), network.parameters(), strict=True):
            average.lerp_(weight, lerp_weight)


@torch.no_grad()
def estimate_batch_norm_statistics(network: nn.Module, inputs: Iterable[Tensor]) -> None:
    """Set the statistics of a network's batch norms to their mean over some batches, in place.

    Layers that `train()` leaves in evaluation mode, such as frozen ones, keep their statistics.

    Args:
        network: in either mode, which is restored.
        inputs: batches of equal size for the network, on its device.
    """
    was_training = network.training
    network.train()
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d) and layer.training]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the batches
    with exact_float32():
        for batch in inputs:
            network(batch)
    network.train(was_training)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
