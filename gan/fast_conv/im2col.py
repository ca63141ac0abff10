"""5x5 stride-2 convolutions as plain matrix products, for bfloat16 where the weight is large for its input.

The window of the input under each pixel of the output is copied into a row of a matrix (im2col; Chellapilla
et al. 2006). With channels last a window is five runs of memory, so the copy is cheap compared with the
product. torch's own layers (oneDNN) take some time for each weight, however few the pixels; for a large
weight on a small image this exceeds the time of the convolution itself.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
import torch.nn.functional as F
from torch import Tensor

from gan.fast_conv.tensors import KERNEL, ConvTensors, phase_kernels

# Costs are in units of one multiplication in a large bfloat16 matrix product, fitted to two cores with AMX
# (docs/speed.md) and used on any processor.
TORCH = {"output": 1.2, "input": 1.1, "weight": 1.7}
"""Cost of a multiplication in torch's convolution, transposed convolution and gradient of the weight."""
PER_WEIGHT = {"output": 7_500, "input": 7_500, "weight": 24_000}
"""Additional cost of each weight in torch."""
PRODUCT = {"output": 1.0, "input": 2.0, "weight": 1.7}
"""Cost of a multiplication here. For the input, the weight is padded with zeros."""
COPY = 210
"""Cost of copying one number into its windows."""
MIN_CHANNELS = 16
"""Channels of input and output below which the runs of memory are short, and nothing was measured."""
MAX_WINDOWS = 2**27
"""Numbers in all windows, 256 MiB."""


def gain(batch: int, inputs: int, outputs: int, side: int, name: str) -> float:
    """Expected speed-up of a derivative over torch; 0 where it should be left to torch.

    Args:
        batch: B of `ConvTensors`.
        inputs: C.
        outputs: O.
        side: S.
        name: tensor with respect to which the derivative is taken.
    """
    pixels, weights = batch * side**2, KERNEL**2 * inputs * outputs
    copied = pixels * (9 * outputs if name == "input" else KERNEL**2 * inputs)
    if min(inputs, outputs) < MIN_CHANNELS or not 0 < copied <= MAX_WINDOWS:
        return 0.0
    ours = PRODUCT[name] * pixels * weights + COPY * copied
    return (TORCH[name] * pixels * weights + PER_WEIGHT[name] * weights) / ours


def derivatives(tensors: ConvTensors, names: Collection[str]) -> ConvTensors:
    """Derivatives, channels last. They have no gradients themselves.

    Args:
        tensors: of one floating dtype; those that no requested derivative depends on may be None.
        names: tensors with respect to which derivatives are taken.
    """
    windows = None
    if "output" in names or "weight" in names:
        windows = _windows(tensors.input, KERNEL, stride=2)
    return ConvTensors(
        input=_input(tensors.output, tensors.weight) if "input" in names else None,
        weight=_weight(windows, tensors.output) if "weight" in names else None,
        output=_output(windows, tensors.weight, tensors.side) if "output" in names else None,
    )


def _output(windows: Tensor, weight: Tensor, side: int) -> Tensor:
    output = _empty(len(windows) // side**2, len(weight), side, windows.dtype)
    torch.mm(windows, _pixels(weight).reshape(len(weight), -1).T, out=_pixels(output).view(len(windows), -1))
    return output


def _weight(windows: Tensor, output: Tensor) -> Tensor:
    outputs = output.shape[1]
    weight = _empty(outputs, windows.shape[1] // KERNEL**2, KERNEL, windows.dtype)
    torch.mm(_pixels(output).reshape(-1, outputs).T, windows, out=_pixels(weight).view(outputs, -1))
    return weight


def _input(output: Tensor, weight: Tensor) -> Tensor:
    """Each pixel of the output becomes 2x2 pixels of the input, each by its own 3x3 kernel."""
    (batch, outputs, side, _), inputs = output.shape, weight.shape[1]
    taps = phase_kernels(weight).permute(4, 5, 0, 2, 3, 1).reshape(9 * outputs, 4 * inputs)
    four = (_windows(output, 3, stride=1) @ taps).view(batch, side, side, 2, 2, inputs)
    input = _empty(batch, inputs, 2 * side, output.dtype)
    _pixels(input).view(batch, side, 2, side, 2, inputs).copy_(four.transpose(2, 3))
    return input


def _windows(input: Tensor, size: int, stride: int) -> Tensor:
    """The square around every pixel, or every other one, 0 beyond the edge: [B * S * S, size * size * C]."""
    edge = size // 2
    padded = F.pad(_pixels(input), (0, 0, edge, edge, edge, edge))
    windows = padded.unfold(1, size, stride).unfold(2, size, stride).permute(0, 1, 2, 4, 5, 3)
    return windows.reshape(-1, size * size * input.shape[1])


def _pixels(input: Tensor) -> Tensor:
    """A view [N, S, S, C]."""
    return input.permute(0, 2, 3, 1)


def _empty(count: int, channels: int, side: int, dtype: torch.dtype) -> Tensor:
    # Products are written into an input: where they were seen as one, autograd would forbid the activations,
    # which are in-place operations, on such a view.
    return torch.empty(count, channels, side, side, dtype=dtype, memory_format=torch.channels_last)
