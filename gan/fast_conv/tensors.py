"""The tensors of a 5x5 convolution of stride 2: input, weight and output.

The forward pass, the gradient of the input and the gradient of the weight each compute one of these from the
other two: they are the derivatives of sum(output * convolve(input, weight)). With respect to the output this
is the convolution; with respect to the input, the transposed convolution; with respect to the weight, its
gradient, if the output is the gradient of the convolution's output.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

KERNEL, STRIDE, PADDING = 5, 2, 2


class ConvTensors(NamedTuple):
    """The arguments of the form, or its derivatives: all of one dtype, None where one is missing.

    The input is [B, C, 2 S, 2 S], the weight [O, C, 5, 5], the output [B, O, S, S].
    """

    input: Tensor | None = None
    weight: Tensor | None = None
    output: Tensor | None = None

    @property
    def side(self) -> int:
        """S, the side of the output in pixels."""
        return self.input.shape[2] // 2 if self.output is None else self.output.shape[2]

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of all tensors."""
        return next(argument.dtype for argument in self if argument is not None)

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """B, C, O and S."""
        either = self.input if self.input is not None else self.output
        if self.weight is not None:
            return len(either), self.weight.shape[1], self.weight.shape[0], self.side
        return len(either), self.input.shape[1], self.output.shape[1], self.side

    def filled_from(self, other: ConvTensors) -> ConvTensors:
        """These tensors, with the missing ones taken from `other`."""
        pairs = zip(self, other, strict=True)
        return ConvTensors(*(theirs if own is None else own for own, theirs in pairs))


def phase_kernels(weight: Tensor) -> Tensor:
    """The four 3x3 kernels that turn each pixel of the output into 2x2 pixels of the input.

    Args:
        weight: [O, C, 5, 5].

    Returns:
        [O, C, 2, 2, 3, 3]: for even and odd rows and columns of the input, with the taps in the order of a
        convolution over the output.
    """
    outputs, inputs = weight.shape[:2]
    # A sixth tap of 0 makes two interleaved kernels of three taps in each direction.
    taps = F.pad(weight, (0, 1, 0, 1)).view(outputs, inputs, 3, 2, 3, 2)
    return taps.permute(0, 1, 3, 5, 2, 4).flip(4, 5)
