"""The update of one network: optimizer, learning rate schedule and moving average of the weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from engine.ema import AveragedNetwork, estimate_batch_norm_statistics
from engine.finite import FiniteCheck
from faces.checkpoint import evaluation_weights
from faces.settings import OptimizerName

MOMENTUM = 0.9
"""Momentum of stochastic gradient descent."""
WARMUP = 0.05
"""Share of the steps over which the learning rate rises."""
WEIGHT_KEYS = ("network", "average")
"""The weights in an updater's state."""


class Updater:
    """Updates a network by the gradients of a loss, and maintains a moving average of its weights (EMA).

    Args:
        network: the network to train, on its device.
        optimizer: its optimizer; parameters without a gradient are not updated.
        rate: learning rate of each step, from 0.
        half_life: half-life of the moving average in images; 0 for no average.

    Attributes:
        network: the network that is trained.
        step_count: updates so far.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        rate: Callable[[int], float],
        half_life: float,
    ) -> None:
        self.network = network
        self.step_count = 0
        self._rate, self._optimizer = rate, optimizer
        self._weights = list(network.parameters())
        self._average = AveragedNetwork(network, half_life) if half_life else None
        self._sums: dict[str, Tensor] = {}
        self._summed = 0
        self._latch = FiniteCheck(self._weights[0].device)

    def update(self, loss: Tensor, images: int, **values: Tensor) -> None:
        """Update the network once.

        Args:
            loss: a scalar computed by the network.
            images: images in this step.
            values: other scalars for `statistics`, beside the loss and the gradient norm; a double underscore
                in a name stands for a slash.
        """
        for group in self._optimizer.param_groups:
            group["lr"] = self._rate(self.step_count)
        loss.backward()
        norm = get_total_norm([weight.grad for weight in self._weights if weight.grad is not None])
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self.step_count += 1
        if self._average:
            self._average.update(self.network, self._average.lerp_weight(images, self.step_count * images))
        logged = {"loss/training": loss, "gradient/norm": norm}
        logged |= {name.replace("__", "/"): value for name, value in values.items()}
        for name, value in logged.items():
            self._sums[name] = self._sums.get(name, torch.zeros_like(value)) + value.detach()
        self._summed += 1
        self._latch.watch(self.step_count, torch.stack([loss.detach(), norm]))

    def check_finite(self) -> None:
        """Raise `DivergedError`, with the step, if any loss or gradient norm was not finite."""
        self._latch.check()

    def statistics(self) -> dict[str, float]:
        """The means since the last call, and the current learning rate."""
        means = {name: float(value) / max(self._summed, 1) for name, value in self._sums.items()}
        self._sums, self._summed = {}, 0
        return means | {"rate/learning": self._rate(max(self.step_count - 1, 0))}

    def evaluation_network(self, inputs: Iterable[Tensor]) -> nn.Module:
        """The network to evaluate: the average, with batch-norm statistics of these inputs, or the raw one.

        Args:
            inputs: input batches. They should depend on the seed alone, so that evaluation does not affect
                training.

        Returns:
            The network in evaluation mode. If it is the raw one, call `network.train()` before the next step.
        """
        if self._average is None:
            return self.network.eval()
        estimate_batch_norm_statistics(self._average.network, inputs)
        return self._average.network.eval()

    def state(self, inputs: Iterable[Tensor]) -> dict[str, Any]:
        """The state for `load_state`; for `inputs`, see `evaluation_network`."""
        if self._average:
            self.evaluation_network(inputs)
        return {
            "network": self.network.state_dict(),
            "average": self._average.network.state_dict() if self._average else None,
            "optimizer": self._optimizer.state_dict(),
            "sums": self._sums,
            "summed": self._summed,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore a state from `state`, after step `state["step"]`."""
        self.load_network(state)
        # Hyperparameters such as weight decay come from the settings, which a resumed run may change.
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict(state["optimizer"] | {"param_groups": groups})
        device = self._weights[0].device
        self._sums = {name: value.to(device) for name, value in state["sums"].items()}
        self._summed = state["summed"]
        self.step_count = state["step"]

    def load_network(self, state: dict[str, Any]) -> None:
        """Load only the network of a checkpoint; without an average there, the average starts from it."""
        self.network.load_state_dict(state["network"])
        if self._average:
            self._average.network.load_state_dict(evaluation_weights(state))


def warmup_cosine_schedule(max_rate: float, steps: int) -> Callable[[int], float]:
    """Learning rate with a linear warm-up and cosine annealing to 0 (Loshchilov and Hutter 2017)."""
    warmup_steps = max(1, round(WARMUP * steps))

    def rate(step: int) -> float:
        if step < warmup_steps:
            return max_rate * (step + 1) / warmup_steps
        progress = min(1.0, (step - warmup_steps) / max(1, steps - warmup_steps))
        return max_rate * (1 + math.cos(math.pi * progress)) / 2

    return rate


def decayed_parameters(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    """The parameters that usually have weight decay: all but biases and the weights of norms."""
    return [parameter for parameter in parameters if parameter.ndim > 1]


def make_optimizer(
    name: OptimizerName,
    parameters: Iterable[nn.Parameter],
    decayed: Iterable[nn.Parameter],
    weight_decay: float,
) -> torch.optim.Optimizer:
    """Make an optimizer for an `Updater`, which sets its learning rate.

    Args:
        name: `adam` (Kingma and Ba 2015), `adamw` (Loshchilov and Hutter 2019) or `sgd` with momentum 0.9.
        parameters: all parameters to update.
        decayed: those of them with weight decay.
        weight_decay: strength of the weight decay.
    """
    decayed_ids = {id(parameter) for parameter in decayed}
    groups: list[dict[str, Any]] = [{"params": [], "weight_decay": decay} for decay in (weight_decay, 0.0)]
    for parameter in parameters:
        groups[0 if id(parameter) in decayed_ids else 1]["params"].append(parameter)
    if name == "sgd":
        return torch.optim.SGD(groups, lr=0.0, momentum=MOMENTUM, fused=True)
    if name == "adamw":
        return torch.optim.AdamW(groups, lr=0.0, fused=True)
    return torch.optim.Adam(groups, lr=0.0, fused=True)
