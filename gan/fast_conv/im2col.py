"""5x5 convolutions of stride 2 as plain matrix products, for bfloat16 where a kernel is large for its image.

The window of the image under each pixel of the result is copied into a row of a matrix (im2col; Chellapilla
et al. 2006). With channels last a window is five runs of memory, so that the copy is cheap beside the
product. torch's own layers (oneDNN) take a time for each weight, however few pixels there are; for a large
kernel on a small image that is more than the convolution itself takes.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
import torch.nn.functional as F
from torch import Tensor

from gan.fast_conv.tensors import KERNEL, Form, interleaved

# Costs are in units of one multiplication in a large bfloat16 matrix product. They were fitted to two cores
# with AMX (docs/speed.md), and are used on any processor.
TORCH = {"result": 1.2, "image": 1.1, "kernel": 1.7}
"""What a multiplication costs in torch's convolution, transposed convolution and gradient of the kernel."""
PER_WEIGHT = {"result": 7_500, "image": 7_500, "kernel": 24_000}
"""What torch takes for each weight beside that."""
PRODUCT = {"result": 1.0, "image": 2.0, "kernel": 1.7}
"""What a multiplication of the convolution costs here. For the image the kernel is filled up with zeros."""
COPY = 210
"""What it costs to copy one number into its windows."""
LEAST_CHANNELS = 16
"""Of image and result: with fewer the runs of memory are short, and nothing was measured."""
LARGEST_WINDOWS = 2**27
"""Numbers in all windows, 256 MiB."""


def gain(batch: int, inputs: int, outputs: int, side: int, name: str) -> float:
    """How many times as fast as torch's a derivative should be; 0 where it should not be taken here.

    Args:
        batch: sizes of the form's arguments (`gan.fast_conv.tensors`), B,
        inputs: C,
        outputs: O,
        side: and S.
        name: of the argument that the derivative is with respect to.
    """
    pixels, weights = batch * side**2, KERNEL**2 * inputs * outputs
    copied = pixels * (9 * outputs if name == "image" else KERNEL**2 * inputs)
    if min(inputs, outputs) < LEAST_CHANNELS or not 0 < copied <= LARGEST_WINDOWS:
        return 0.0
    ours = PRODUCT[name] * pixels * weights + COPY * copied
    return (TORCH[name] * pixels * weights + PER_WEIGHT[name] * weights) / ours


def derivatives(form: Form, wanted: Collection[str]) -> Form:
    """Some of the form's derivatives, channels last. They have no gradients of their own.

    Args:
        form: the arguments, of one floating dtype; those that no wanted derivative depends on may be None.
        wanted: names of arguments.
    """
    windows = None
    if "result" in wanted or "kernel" in wanted:
        windows = _windows(form.image, KERNEL, stride=2)
    return Form(
        image=_image(form.result, form.kernel) if "image" in wanted else None,
        kernel=_kernel(windows, form.result) if "kernel" in wanted else None,
        result=_result(windows, form.kernel, form.side) if "result" in wanted else None,
    )


def _result(windows: Tensor, kernel: Tensor, side: int) -> Tensor:
    result = _empty(len(windows) // side**2, len(kernel), side, windows.dtype)
    torch.mm(windows, _pixels(kernel).reshape(len(kernel), -1).T, out=_pixels(result).view(len(windows), -1))
    return result


def _kernel(windows: Tensor, result: Tensor) -> Tensor:
    outputs = result.shape[1]
    kernel = _empty(outputs, windows.shape[1] // KERNEL**2, KERNEL, windows.dtype)
    torch.mm(_pixels(result).reshape(-1, outputs).T, windows, out=_pixels(kernel).view(outputs, -1))
    return kernel


def _image(result: Tensor, kernel: Tensor) -> Tensor:
    """Each pixel of the result becomes four of the image, each by a 3x3 kernel of its own."""
    (batch, outputs, side, _), inputs = result.shape, kernel.shape[1]
    taps = interleaved(kernel).permute(4, 5, 0, 2, 3, 1).reshape(9 * outputs, 4 * inputs)
    four = (_windows(result, 3, stride=1) @ taps).view(batch, side, side, 2, 2, inputs)
    image = _empty(batch, inputs, 2 * side, result.dtype)
    _pixels(image).view(batch, side, 2, side, 2, inputs).copy_(four.transpose(2, 3))
    return image


def _windows(image: Tensor, size: int, stride: int) -> Tensor:
    """The square around every pixel, or every other one, 0 beyond the edge: [B * S * S, size * size * C]."""
    edge = size // 2
    padded = F.pad(_pixels(image), (0, 0, edge, edge, edge, edge))
    windows = padded.unfold(1, size, stride).unfold(2, size, stride).permute(0, 1, 2, 4, 5, 3)
    return windows.reshape(-1, size * size * image.shape[1])


def _pixels(image: Tensor) -> Tensor:
    """A view [N, S, S, C]."""
    return image.permute(0, 2, 3, 1)


def _empty(count: int, channels: int, side: int, dtype: torch.dtype) -> Tensor:
    # Products are written into an image: where they were seen as one, autograd would forbid the activations,
    # which are in-place operations, on such a view.
    return torch.empty(count, channels, side, side, dtype=dtype, memory_format=torch.channels_last)
