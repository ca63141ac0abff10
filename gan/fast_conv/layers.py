"""The networks' layers, 5x5 with stride 2: torch's, or a faster way to the same numbers, to rounding.

While a network learns on a CPU in float32, layers that are wide enough are computed by `winograd`, and
images of few channels are made by a convolution that fills the processor's vectors; in bfloat16 layers whose
kernel is large for their image are computed by `im2col`. On a GPU and wherever no gradient is wanted,
they are torch's own layers. Their parameters always are.
"""

from __future__ import annotations

import contextlib
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan.fast_conv import im2col, winograd
from gan.fast_conv.tensors import KERNEL, PADDING, STRIDE, Form, interleaved

FEW = 8
"""Channels of an image below which torch's transposed convolution leaves most of each vector empty."""

LEAST_GAIN = 1.1
"""Speed-up to be expected of what is not left to torch."""

_IS_ASKED_FOR = getattr(torch._C, "_will_engine_execute_node", lambda node: True)
"""Whether the present backward pass will come to a node. It is private, and can be done without."""


class Conv2d(nn.Conv2d):
    """A convolution that halves the side of an image of even side."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool) -> None:
        super().__init__(inputs, outputs, KERNEL, STRIDE, PADDING, bias=bias)

    def forward(self, image: Tensor) -> Tensor:
        """[B, inputs, 2 S, 2 S] to [B, outputs, S, S]."""
        dtype = None if image.shape[2] % 2 else _dtype(image, self.weight, image.shape[2] // 2)
        if dtype is None:
            return super().forward(image)
        return _Convolution.apply(image.to(dtype), self.weight.to(dtype), self.bias)


class ConvTranspose2d(nn.ConvTranspose2d):
    """A transposed convolution that doubles the side of its features."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool) -> None:
        super().__init__(inputs, outputs, KERNEL, STRIDE, PADDING, output_padding=1, bias=bias)

    def forward(self, features: Tensor, output_size: list[int] | None = None) -> Tensor:
        """[B, inputs, S, S] to [B, outputs, 2 S, 2 S]; `output_size` is nn.ConvTranspose2d's."""
        dtype = _dtype(features, self.weight, features.shape[2]) if output_size is None else None
        if dtype is None:
            return super().forward(features, output_size)
        return _TransposedConvolution.apply(features.to(dtype), self.weight.to(dtype), self.bias)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, image: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(image, kernel)
        result = _derivatives(Form(image=image, kernel=kernel), ["result"]).result
        return result if bias is None else result.add_(bias.to(result.dtype)[:, None, None])

    @staticmethod
    def backward(ctx: Any, result: Tensor) -> tuple[Tensor | None, ...]:
        image, kernel = ctx.saved_tensors
        of_image, of_kernel, of_bias = _asked_for(ctx)
        made = _derivatives(Form(image, kernel, result), ["image"] * of_image + ["kernel"] * of_kernel)
        return made.image, made.kernel, result.sum((0, 2, 3)) if of_bias else None


class _TransposedConvolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, result: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(result, kernel)
        image = _derivatives(Form(kernel=kernel, result=result), ["image"]).image
        return image if bias is None else image.add_(bias.to(image.dtype)[:, None, None])

    @staticmethod
    def backward(ctx: Any, image: Tensor) -> tuple[Tensor | None, ...]:
        result, kernel = ctx.saved_tensors
        of_result, of_kernel, of_bias = _asked_for(ctx)
        made = _derivatives(Form(image, kernel, result), ["result"] * of_result + ["kernel"] * of_kernel)
        return made.result, made.kernel, image.sum((0, 2, 3)) if of_bias else None


def _dtype(features: Tensor, weight: Tensor, side: int) -> torch.dtype | None:
    """What to compute a layer in, None where all of it is torch's; `side` is that of the form's result."""
    if not torch.is_grad_enabled() or features.device.type != "cpu" or features.shape[2] != features.shape[3]:
        return None
    kinds = {features.dtype, weight.dtype}
    if not torch.is_autocast_enabled("cpu"):
        return torch.float32 if kinds == {torch.float32} else None
    if torch.get_autocast_dtype("cpu") != torch.bfloat16 or not kinds <= {torch.float32, torch.bfloat16}:
        return None
    outputs, inputs = weight.shape[:2]
    return torch.bfloat16 if _by_im2col(len(features), inputs, outputs, side) else None


def _by_im2col(batch: int, inputs: int, outputs: int, side: int) -> list[str]:
    """The names of the derivatives that `gan.fast_conv.im2col` should be faster at."""
    return [name for name in Form._fields if im2col.gain(batch, inputs, outputs, side, name) >= LEAST_GAIN]


def _asked_for(ctx: Any) -> list[bool]:
    """Which inputs' gradients this backward pass is run for.

    `ctx.needs_input_grad` tells which could be: by that, the generator's loss would pay for gradients of
    the discriminator's weights, which nobody asks for.
    """
    asked = list(ctx.needs_input_grad)
    for index, (node, _) in enumerate(ctx.next_functions):  # without a bias there are but two
        # Not answered where torch.autograd.grad asks for a weight: then all are computed.
        with contextlib.suppress(RuntimeError):
            asked[index] = asked[index] and _IS_ASKED_FOR(node)
    return asked


def _derivatives(form: Form, wanted: list[str]) -> Form:
    """Some of the form's derivatives, by the way that should be fastest."""
    if not wanted:
        return Form()
    # Grad mode is on where the gradient's own gradient may be asked for: torch's operations have one.
    if torch.is_grad_enabled():
        return _by_torch(form, wanted)
    if form.dtype == torch.bfloat16:
        gaining = _by_im2col(*form.sizes)
        ours = im2col.derivatives(form, [name for name in wanted if name in gaining])
        return ours.or_else(_by_torch(form, [name for name in wanted if name not in gaining]))
    needed = {other for name in wanted for other in Form._fields if other != name}
    tile, gain = winograd.best_tile(*form.sizes, frozenset(needed), frozenset(wanted))
    if gain < LEAST_GAIN:
        return _by_torch(form, wanted)
    given = {name: value for name, value in form._asdict().items() if name in needed}
    return winograd.derivatives(winograd.tiling(form.side, tile), Form(**given), wanted)


def _by_torch(form: Form, wanted: list[str]) -> Form:
    image = kernel = result = None
    few = form.kernel.shape[1] < FEW
    if "result" in wanted:
        result = F.conv2d(form.image, form.kernel, None, STRIDE, PADDING)
    if "image" in wanted and few:
        image = _with_few_channels(form.result, form.kernel)
    elif wanted == ["image"]:
        image = F.conv_transpose2d(form.result, form.kernel, None, STRIDE, PADDING, 1)
    elif "image" in wanted:
        image, kernel = _gradients(form, [True, True, False])
    if "kernel" in wanted and kernel is None:
        _, kernel = _gradients(form, [False, True, False])
    return Form(image, kernel, result)


def _gradients(form: Form, wanted: list[bool]) -> tuple[Tensor, Tensor]:
    """Of the image and of the kernel."""
    geometry = ([STRIDE] * 2, [PADDING] * 2, [1, 1], False, [0, 0], 1)
    arguments = (form.result, form.image, form.kernel, None, *geometry, wanted)
    return torch.ops.aten.convolution_backward(*arguments)[:2]


def _with_few_channels(features: Tensor, kernel: Tensor) -> Tensor:
    """The transposed convolution: the four pixels that each becomes are channels of a 3x3 convolution."""
    inputs, outputs = kernel.shape[:2]
    taps = interleaved(kernel).permute(1, 2, 3, 0, 4, 5).reshape(4 * outputs, inputs, 3, 3)
    pixels = F.conv2d(features, taps.contiguous(memory_format=torch.channels_last), padding=1)
    return F.pixel_shuffle(pixels, 2)
