"""A 5x5 convolution of stride 2 as a trilinear form, of which the layers need the three derivatives.

Image, kernel and result are the arguments of one form, sum(result * convolve(image, kernel)). Its derivative
with respect to the result is the convolution of image and kernel, that with respect to the image the
transposed convolution of result and kernel, and that with respect to the kernel the gradient of the weight,
where the result is the gradient of what the convolution gave.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

KERNEL, STRIDE, PADDING = 5, 2, 2


class Form(NamedTuple):
    """The arguments of the form, or its derivatives by them: of one dtype, None where there is none.

    The image is [B, C, 2 S, 2 S], the kernel [O, C, 5, 5], the result [B, O, S, S].
    """

    image: Tensor | None = None
    kernel: Tensor | None = None
    result: Tensor | None = None

    @property
    def side(self) -> int:
        """S, that of the result in pixels."""
        return self.image.shape[2] // 2 if self.result is None else self.result.shape[2]

    @property
    def dtype(self) -> torch.dtype:
        """Of all arguments."""
        return next(argument.dtype for argument in self if argument is not None)

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """Images in the batch B, channels of the image C, channels of the result O, side of the result S."""
        shown = self.image if self.image is not None else self.result
        if self.kernel is not None:
            return len(shown), self.kernel.shape[1], self.kernel.shape[0], self.side
        return len(shown), self.image.shape[1], self.result.shape[1], self.side

    def or_else(self, other: Form) -> Form:
        """The same, filled up from another."""
        return Form(*(theirs if ours is None else ours for ours, theirs in zip(self, other, strict=True)))


def interleaved(kernel: Tensor) -> Tensor:
    """The 3x3 kernels by which each pixel of a result becomes four of an image, as a transposed convolution.

    Args:
        kernel: [O, C, 5, 5].

    Returns:
        [O, C, 2, 2, 3, 3]: for even and odd rows and columns of the image, with the taps in the order in
        which a convolution over the result meets them.
    """
    outputs, inputs = kernel.shape[:2]
    # A sixth tap of 0 makes two interleaved kernels of three taps in each direction.
    taps = F.pad(kernel, (0, 1, 0, 1)).view(outputs, inputs, 3, 2, 3, 2)
    return taps.permute(0, 1, 3, 5, 2, 4).flip(4, 5)
