"""Batch norm with statistics over the batches of all processes, on CPUs and GPUs.

torch's own SyncBatchNorm supports only GPUs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.distributed import World

REDUCED_DIMS = (0, 2, 3)
"""Dimensions of [B, C, H, W] to reduce for statistics per channel."""


class SyncBatchNorm2d(nn.BatchNorm2d):
    """Batch norm (Ioffe and Szegedy 2015) over a batch that is sharded over several processes.

    Outputs, running statistics and input gradients equal those of plain batch norm over the whole batch. The
    gradients of weight and bias are those of this process's shard; their sum over all processes is that of
    the batch. In a single process, or in evaluation mode, this is plain batch norm.

    Args:
        norm: the layer whose weights, statistics and settings to use; it must have weight and bias.
        world: the processes.
    """

    def __init__(self, norm: nn.BatchNorm2d, world: World) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum)
        self.weight, self.bias, self.training = norm.weight, norm.bias, norm.training
        self.running_mean, self.running_var = norm.running_mean, norm.running_var
        self.num_batches_tracked = norm.num_batches_tracked
        self.world = world

    def forward(self, input: Tensor) -> Tensor:
        """Normalise activations [B, C, H, W], this process's shard of the batch."""
        if not self.training or self.world.is_single:
            return super().forward(input)
        assert self.momentum is not None, "a plain mean over batches is supported in a single process only"
        output, mean, variance, count = _SyncBatchNormFunction.apply(
            input, self.weight, self.bias, self.eps, self.world
        )
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
        return output


def convert_sync_batchnorm(network: nn.Module, world: World) -> None:
    """Replace a network's batch norms with synchronised ones with the same weights, in place."""
    for parent in list(network.modules()):
        for name, norm in list(parent.named_children()):
            if type(norm) is nn.BatchNorm2d:
                setattr(parent, name, SyncBatchNorm2d(norm, world))


class _SyncBatchNormFunction(torch.autograd.Function):
    """Returns the outputs and, without gradients, mean, biased variance and number of values."""

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
        # Sums of gradient * normalised input, and of the gradient, over this shard.
        _, weight_gradient, bias_gradient = torch.ops.aten.native_batch_norm_backward(
            gradient, inputs, weight, None, None, mean, scale, True, 0.0, [False, True, True]
        )
        sums = [weight_gradient.clone(), bias_gradient.clone()]
        ctx.world.all_reduce_sum(sums)
        slope = -weight * scale * scale * sums[0] / count
        offset = -weight * scale * sums[1] / count - slope * mean
        per_channel = [values[:, None, None] for values in (weight * scale, slope, offset)]
        scaled_inputs = _to_float32(inputs) * per_channel[1] + per_channel[2]
        input_gradient = _to_float32(gradient) * per_channel[0] + scaled_inputs
        return input_gradient.to(inputs.dtype), weight_gradient, bias_gradient, None, None


def _statistics(inputs: Tensor, world: World) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and biased variance [C] over all processes, and the number of values, float32 [].

    Means and variances are combined (Chan et al. 1979): sums of squares would lose a small variance beside a
    large mean.
    """
    local_variance, local_mean = torch.var_mean(_to_float32(inputs), REDUCED_DIMS, correction=0)
    local_count = local_mean.new_full((1,), inputs.numel() // inputs.shape[1])
    gathered = world.all_gather(torch.cat([local_mean, local_variance, local_count]))
    means, variances, counts = gathered.split([len(local_mean), len(local_mean), 1], dim=1)
    count = counts.sum()
    mean = (means * counts).sum(0) / count
    variance = ((variances + (means - mean) ** 2) * counts).sum(0) / count
    return mean, variance, count


def _to_float32(values: Tensor) -> Tensor:
    """Convert bfloat16, in which sums would be rounded; float32 and float64 stay."""
    return values.float() if values.dtype == torch.bfloat16 else values
