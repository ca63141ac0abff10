"""Random forms (`gan.fast_conv.tensors`) and their derivatives in float64, by torch."""

import torch
import torch.nn.functional as F

from gan.fast_conv.tensors import ConvTensors

NAMES = ConvTensors._fields


def form(batch: int, inputs: int, outputs: int, side: int, seed: int = 0) -> ConvTensors:
    """Random arguments in float64, channels last."""
    random = torch.Generator().manual_seed(seed)
    shapes = (batch, inputs, 2 * side, 2 * side), (outputs, inputs, 5, 5), (batch, outputs, side, side)
    values = (torch.randn(shape, generator=random, dtype=torch.float64) for shape in shapes)
    return ConvTensors(*(value.contiguous(memory_format=torch.channels_last) for value in values))


def truth(of: ConvTensors) -> ConvTensors:
    input, weight = (value.clone().requires_grad_() for value in of[:2])
    output = F.conv2d(input, weight, None, 2, 2)
    return ConvTensors(*torch.autograd.grad(output, (input, weight), of.output), output.detach())


def relative(value: torch.Tensor, true: torch.Tensor) -> float:
    return float((value - true).norm() / true.norm())
