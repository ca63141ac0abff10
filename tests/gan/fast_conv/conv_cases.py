"""Random `ConvTensors`, and their derivatives by torch, in float64."""

import torch
import torch.nn.functional as F

from gan.fast_conv.tensors import ConvTensors

NAMES = ConvTensors._fields


def random_tensors(batch: int, inputs: int, outputs: int, side: int, seed: int = 0) -> ConvTensors:
    """Random tensors, channels last."""
    random = torch.Generator().manual_seed(seed)
    shapes = (batch, inputs, 2 * side, 2 * side), (outputs, inputs, 5, 5), (batch, outputs, side, side)
    values = (torch.randn(shape, generator=random, dtype=torch.float64) for shape in shapes)
    return ConvTensors(*(value.contiguous(memory_format=torch.channels_last) for value in values))


def needed_for(tensors: ConvTensors, names: tuple[str, ...]) -> ConvTensors:
    """Only the tensors that these derivatives depend on."""
    needed = {other for name in names for other in NAMES if other != name}
    return ConvTensors(**{name: value for name, value in tensors._asdict().items() if name in needed})


def true_derivatives(tensors: ConvTensors) -> ConvTensors:
    input, weight = (value.clone().requires_grad_() for value in tensors[:2])
    output = F.conv2d(input, weight, None, 2, 2)
    return ConvTensors(*torch.autograd.grad(output, (input, weight), tensors.output), output.detach())


def relative_error(value: torch.Tensor, true: torch.Tensor) -> float:
    return float((value - true).norm() / true.norm())


def max_error(values: ConvTensors, true: ConvTensors) -> float:
    return max(map(relative_error, values, true))
