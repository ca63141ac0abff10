"""5x5 convolutions of stride 2 as plain matrix products, for bfloat16 where many channels meet few pixels.

The window of the image under each pixel of the result is copied into a row of a matrix (im2col; Chellapilla
et al. 2006). With channels last such a window is five runs of memory, so that the copy is cheap beside the
product. torch's own layers (oneDNN) take a time for each weight, however small the image is; where the kernel
is large and the image small, that is more than the convolution itself takes.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
import torch.nn.functional as F
from torch import Tensor

from gan.form import Form

KERNEL = 5

# The choice compares costs in units of one multiplication in a large bfloat16 matrix product. The weights
# were fitted to two cores with AMX (docs/speed.md).
TORCH = {"result": 1.2, "image": 1.1, "kernel": 1.7}
"""What a multiplication costs in torch's convolution, transposed convolution and gradient of the kernel."""
A_WEIGHT = {"result": 7_500, "image": 7_500, "kernel": 24_000}
"""What torch takes for each weight, however many images there are and however large."""
PRODUCT = {"result": 1.0, "image": 2.0, "kernel": 1.7}
"""What a multiplication of the convolution costs here. The image's kernel is filled up with zeros."""
GATHERED = 210
"""What it costs to copy one number into its windows."""


def gain(batch: int, inputs: int, outputs: int, side: int, wanted: str) -> float:
    """How many times as fast as torch's a derivative should be: B, C, O and S of `gan.form`, and its name."""
    places, kernel = batch * side**2, KERNEL**2 * inputs * outputs
    copied = places * (9 * outputs if wanted == "image" else KERNEL**2 * inputs)
    here = PRODUCT[wanted] * places * kernel + GATHERED * copied
    return (TORCH[wanted] * places * kernel + A_WEIGHT[wanted] * kernel) / here


def derivatives(form: Form, wanted: Collection[str]) -> Form:
    """Some of the form's derivatives, channels last.

    Args:
        form: the arguments; those that no wanted derivative depends on may be None.
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
    result = _empty(windows, len(windows) // side**2, len(kernel), side)
    torch.mm(windows, _rows(kernel).T, out=_rows(result).view(len(windows), -1))
    return result


def _kernel(windows: Tensor, result: Tensor) -> Tensor:
    outputs = result.shape[1]
    kernel = _empty(windows, outputs, windows.shape[1] // KERNEL**2, KERNEL)
    torch.mm(_rows(result).view(-1, outputs).T, windows, out=_rows(kernel))
    return kernel


def _image(result: Tensor, kernel: Tensor) -> Tensor:
    """Each pixel of the result becomes four of the image, each by a 3x3 kernel of its own."""
    (batch, outputs, side, _), inputs = result.shape, kernel.shape[1]
    # A sixth tap of 0 makes two interleaved kernels of three taps in each direction.
    taps = F.pad(kernel, (0, 1, 0, 1)).view(outputs, inputs, 3, 2, 3, 2).flip(2, 4)
    taps = taps.permute(2, 4, 0, 3, 5, 1).reshape(9 * outputs, 4 * inputs)
    pixels = (_windows(result, 3, stride=1) @ taps).view(batch, side, side, 2, 2, inputs)
    image = _empty(result, batch, inputs, 2 * side)
    image.permute(0, 2, 3, 1).view(batch, side, 2, side, 2, inputs).copy_(pixels.transpose(2, 3))
    return image


def _windows(image: Tensor, size: int, stride: int) -> Tensor:
    """The square around each pixel, or each other one, 0 beyond the edge: [B * S * S, size * size * C]."""
    edge = size // 2
    padded = F.pad(image.permute(0, 2, 3, 1), (0, 0, edge, edge, edge, edge))
    windows = padded.unfold(1, size, stride).unfold(2, size, stride).permute(0, 1, 2, 4, 5, 3)
    return windows.reshape(-1, size * size * image.shape[1])


def _rows(values: Tensor) -> Tensor:
    """[N, C, S, S] to [N, S * S * C], without a copy where that is channels last."""
    return values.permute(0, 2, 3, 1).reshape(len(values), -1)


def _empty(like: Tensor, count: int, channels: int, side: int) -> Tensor:
    # Not a view of what a product made: autograd has in-place operations on such forbidden.
    return torch.empty(count, channels, side, side, dtype=like.dtype, memory_format=torch.channels_last)
