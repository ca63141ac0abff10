"""One network, its optimizer, its learning rate over the steps and its averaged weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from engine.ema import AveragedNetwork, estimate_batch_norm_statistics
from engine.finite import FiniteCheck
from faces.checkpoint import weights_in_use
from faces.settings import OptimizerName

MOMENTUM = 0.9
"""Of stochastic gradient descent."""
WARM_UP = 0.05
"""Share of the steps over which the learning rate rises."""
WEIGHTS = ("network", "average")
"""What in a state are weights."""


class Updater:
    """Updates a network by the gradients of a loss, and follows it by a moving average.

    Args:
        network: on its device.
        optimizer: of its weights; those that need no gradient in a step are left alone.
        rate: learning rate of a step, from 0.
        half_life: images after which a weight counts half in the average; 0 for no average.

    Attributes:
        network: the one that is trained.
        step_count: updates made so far.
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
        """Make one update.

        Args:
            loss: a scalar, from this network.
            images: in this step.
            values: scalars to take means of beside those of the loss and of the gradient's norm; their
                names are curves', a double underscore for the slash.
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
        named = {name.replace("__", "/"): value for name, value in values.items()}
        for name, value in {"loss/training": loss, "gradient/norm": norm, **named}.items():
            self._sums[name] = self._sums.get(name, torch.zeros_like(value)) + value.detach()
        self._summed += 1
        self._latch.watch(self.step_count, torch.stack([loss.detach(), norm]))

    def check_finite(self) -> None:
        """Raise `DivergedError`, naming the step, if a loss or gradient norm of any step was not finite."""
        self._latch.check()

    def statistics(self) -> dict[str, float]:
        """The means since this was last asked for, and the learning rate now."""
        means = {name: float(value) / max(self._summed, 1) for name, value in self._sums.items()}
        self._sums, self._summed = {}, 0
        return means | {"rate/learning": self._rate(max(self.step_count - 1, 0))}

    def judged(self, inputs: Iterable[Tensor]) -> nn.Module:
        """The network to use: the average, with batch-norm statistics of these inputs, or the raw one.

        Args:
            inputs: batches as the network takes them. They should depend on the seed alone, so that a look
                leaves no trace.

        Returns:
            In evaluation mode; call `network.train()` before training on where it is the raw one.
        """
        if self._average is None:
            return self.network.eval()
        estimate_batch_norm_statistics(self._average.network, inputs)
        return self._average.network.eval()

    def state(self, inputs: Iterable[Tensor]) -> dict[str, Any]:
        """All that a checkpoint must hold to go on from here; for `inputs` see `judged`."""
        if self._average:
            self.judged(inputs)
        return {
            "network": self.network.state_dict(),
            "average": self._average.network.state_dict() if self._average else None,
            "optimizer": self._optimizer.state_dict(),
            "sums": self._sums,
            "summed": self._summed,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave, after the step that `state["step"]` tells."""
        self.load_network(state)
        # Its strengths, such as weight decay, are those of the settings: a run may be forced to change them.
        own = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict(state["optimizer"] | {"param_groups": own})
        device = self._weights[0].device
        self._sums = {name: value.to(device) for name, value in state["sums"].items()}
        self._summed = state["summed"]
        self.step_count = state["step"]

    def load_network(self, state: dict[str, Any]) -> None:
        """Take over the network of a checkpoint and nothing else; an average it lacks starts anew."""
        self.network.load_state_dict(state["network"])
        if self._average:
            self._average.network.load_state_dict(weights_in_use(state))


def falling_rate(highest: float, steps: int) -> Callable[[int], float]:
    """A learning rate that rises over the first `WARM_UP` of the steps and falls to 0 as half a cosine.

    (Loshchilov and Hutter 2017, without restarts.)
    """
    rising = max(1, round(WARM_UP * steps))

    def rate(step: int) -> float:
        if step < rising:
            return highest * (step + 1) / rising
        done = min(1.0, (step - rising) / max(1, steps - rising))
        return highest * (1 + math.cos(math.pi * done)) / 2

    return rate


def decaying(weights: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    """Those on which weight decay usually acts: all but biases and the weights of norms."""
    return [weight for weight in weights if weight.ndim > 1]


def optimizer_of(
    kind: OptimizerName, weights: Iterable[nn.Parameter], decayed: Iterable[nn.Parameter], weight_decay: float
) -> torch.optim.Optimizer:
    """An optimizer for an `Updater`, which sets its learning rate.

    Args:
        kind: `adam` (Kingma and Ba 2015), `adamw` (Loshchilov and Hutter 2019) or `sgd` with momentum 0.9.
        weights: all that it updates.
        decayed: those of them on which weight decay acts.
        weight_decay: its strength.
    """
    chosen = {id(weight) for weight in decayed}
    groups: list[dict[str, Any]] = [{"params": [], "weight_decay": decay} for decay in (weight_decay, 0.0)]
    for weight in weights:
        groups[0 if id(weight) in chosen else 1]["params"].append(weight)
    if kind == "sgd":
        return torch.optim.SGD(groups, lr=0.0, momentum=MOMENTUM, fused=True)
    if kind == "adamw":
        return torch.optim.AdamW(groups, lr=0.0, fused=True)
    return torch.optim.Adam(groups, lr=0.0, fused=True)
