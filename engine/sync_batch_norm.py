"""Batch norm whose statistics are over the batches of all processes, on CPUs as on GPUs.

torch's own SyncBatchNorm has only kernels for GPUs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.distributed import World

PIXELS = (0, 2, 3)
"""Dimensions of [B, C, H, W] over which a channel's statistics are taken."""


class SyncBatchNorm2d(nn.BatchNorm2d):
    """Batch norm (Ioffe and Szegedy 2015) over what all processes are given, each a share of one batch.

    It does the same as plain batch norm does with the whole batch: outputs, running statistics and the
    gradients of its inputs. The gradients of weight and bias are of this process's share and, summed over
    all, those of the batch. Where this process works alone, or with stored statistics, it is plain.

    Args:
        norm: the one whose weights, statistics and settings it takes over; with weight and bias.
        world: the processes.
    """

    def __init__(self, norm: nn.BatchNorm2d, world: World) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum)
        self.weight, self.bias, self.training = norm.weight, norm.bias, norm.training
        self.running_mean, self.running_var = norm.running_mean, norm.running_var
        self.num_batches_tracked = norm.num_batches_tracked
        self.world = world

    def forward(self, input: Tensor) -> Tensor:
        """Activations [B, C, H, W] of this process's share of the batch to the same, normalised."""
        if not self.training or self.world.is_single:
            return super().forward(input)
        assert self.momentum is not None, "a mean over all batches is asked for in a process alone"
        output, mean, variance, count = _Normalised.apply(input, self.weight, self.bias, self.eps, self.world)
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
        return output


def convert_sync_batchnorm(network: nn.Module, world: World) -> None:
    """Replace a network's batch norms by synchronised ones with the same weights, in place."""
    for parent in list(network.modules()):
        for name, norm in list(parent.named_children()):
            if type(norm) is nn.BatchNorm2d:
                setattr(parent, name, SyncBatchNorm2d(norm, world))


class _Normalised(torch.autograd.Function):
    """The outputs and, not to be differentiated, the statistics: mean, biased variance, number of values."""

    @staticmethod
    def forward(ctx, inputs: Tensor, weight: Tensor, bias: Tensor, eps: float, world: World):
        mean, variance, count = _statistics(inputs, world)
        ctx.save_for_backward(inputs, weight, mean, (variance + eps).rsqrt(), count)
        ctx.world = world
        ctx.mark_non_differentiable(mean, variance, count)
        return F.batch_norm(inputs, mean, variance, weight, bias, False, 0.0, eps), mean, variance, count

    @staticmethod
    def backward(ctx, gradient: Tensor, *_: Tensor):
        inputs, weight, mean, scale, count = ctx.saved_tensors
        # With the statistics of all: the sums of gradient * normalised input, and of the gradient.
        _, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, inputs, weight, None, None, mean, scale, True, 0.0, [False, True, True]
        )
        sums = [of_weight.clone(), of_bias.clone()]
        ctx.world.all_reduce_sum(sums)
        slope = -weight * scale * scale * sums[0] / count
        offset = -weight * scale * sums[1] / count - slope * mean
        per_channel = [values[:, None, None] for values in (weight * scale, slope, offset)]
        of_inputs = _wide(gradient) * per_channel[0] + (_wide(inputs) * per_channel[1] + per_channel[2])
        return of_inputs.to(inputs.dtype), of_weight, of_bias, None, None


def _statistics(inputs: Tensor, world: World) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and biased variance [C] over all processes, and the number of values, float32 [].

    Means and variances are combined, not sums of squares, in which a small variance would be lost beside
    a large mean (Chan et al. 1979).
    """
    own_variance, own_mean = torch.var_mean(_wide(inputs), PIXELS, correction=0)
    own_count = own_mean.new_full((1,), inputs.numel() // inputs.shape[1])
    all_of = world.all_gather(torch.cat([own_mean, own_variance, own_count]))
    means, variances, counts = all_of.split([len(own_mean), len(own_mean), 1], dim=1)
    count = counts.sum()
    mean = (means * counts).sum(0) / count
    variance = ((variances + (means - mean) ** 2) * counts).sum(0) / count
    return mean, variance, count


def _wide(values: Tensor) -> Tensor:
    """In float32 what comes in bfloat16, whose sums would be rounded."""
    return values.float() if values.dtype == torch.bfloat16 else values
