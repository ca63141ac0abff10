"""5x5 stride-2 convolutions that choose the fastest algorithm for their size, equal to torch's to rounding.

In training on a CPU in float32, wide layers use minimal filtering (`winograd`), and transposed convolutions
to few channels use a convolution that fills the processor's vectors. In bfloat16, layers whose weight is
large compared with their image use matrix products (`im2col`). On a GPU, and wherever no gradient is
required, the layers are torch's own.
"""

from __future__ import annotations

import contextlib
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan.fast_conv import im2col, winograd
from gan.fast_conv.tensors import KERNEL, PADDING, STRIDE, ConvTensors, phase_kernels

MIN_CHANNELS = 8
"""Channels of the input below which torch's transposed convolution leaves most of each vector empty."""
MIN_GAIN = 1.1
"""Expected speed-up below which a derivative is left to torch."""

_will_execute = getattr(torch._C, "_will_engine_execute_node", lambda node: True)
"""Whether the current backward pass will reach a node. The API is private; without it all gradients are
computed."""


def convert(network: nn.Module) -> nn.Module:
    """Replace a network's 5x5 stride-2 convolutions by fast ones that share their parameters, in place.

    Works as `nn.SyncBatchNorm.convert_sync_batchnorm` does; the state dict stays the same.

    Returns:
        The network.
    """
    for parent in list(network.modules()):
        for name, layer in list(parent.named_children()):
            fast = {nn.Conv2d: FastConv2d, nn.ConvTranspose2d: FastConvTranspose2d}.get(type(layer))
            if fast is not None and _is_supported(layer):
                replacement = fast.__new__(fast)
                replacement.__dict__ = layer.__dict__  # the same parameters and hooks, not copies of them
                setattr(parent, name, replacement)
    return network


def _is_supported(layer: nn.Conv2d | nn.ConvTranspose2d) -> bool:
    geometry = (layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.groups)
    supported = ((KERNEL, KERNEL), (STRIDE, STRIDE), (PADDING, PADDING), (1, 1), 1)
    output_padding = (1, 1) if isinstance(layer, nn.ConvTranspose2d) else (0, 0)
    return geometry == supported and (layer.output_padding, layer.padding_mode) == (output_padding, "zeros")


class FastConv2d(nn.Conv2d):
    """A convolution that halves the side of an image of even side."""

    def forward(self, input: Tensor) -> Tensor:
        """[B, C, 2 S, 2 S] to [B, O, S, S]."""
        dtype = None if input.shape[2] % 2 else _dtype(input, self.weight, input.shape[2] // 2)
        if dtype is None:
            return super().forward(input)
        return _Convolution.apply(input.to(dtype), self.weight.to(dtype), self.bias)


class FastConvTranspose2d(nn.ConvTranspose2d):
    """A transposed convolution that doubles the side of its input."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """[B, O, S, S] to [B, C, 2 S, 2 S]; `output_size` as in nn.ConvTranspose2d."""
        dtype = _dtype(input, self.weight, input.shape[2]) if output_size is None else None
        if dtype is None:
            return super().forward(input, output_size)
        return _TransposedConvolution.apply(input.to(dtype), self.weight.to(dtype), self.bias)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(input, weight)
        output = _derivatives(ConvTensors(input=input, weight=weight), ["output"]).output
        return output if bias is None else output.add_(bias.to(output.dtype)[:, None, None])

    @staticmethod
    def backward(ctx: Any, output: Tensor) -> tuple[Tensor | None, ...]:
        input, weight = ctx.saved_tensors
        needs_input, needs_weight, needs_bias = _requested(ctx)
        derivatives = _derivatives(
            ConvTensors(input, weight, output), ["input"] * needs_input + ["weight"] * needs_weight
        )
        return derivatives.input, derivatives.weight, output.sum((0, 2, 3)) if needs_bias else None


class _TransposedConvolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, output: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(output, weight)
        input = _derivatives(ConvTensors(weight=weight, output=output), ["input"]).input
        return input if bias is None else input.add_(bias.to(input.dtype)[:, None, None])

    @staticmethod
    def backward(ctx: Any, input: Tensor) -> tuple[Tensor | None, ...]:
        output, weight = ctx.saved_tensors
        needs_output, needs_weight, needs_bias = _requested(ctx)
        derivatives = _derivatives(
            ConvTensors(input, weight, output), ["output"] * needs_output + ["weight"] * needs_weight
        )
        return derivatives.output, derivatives.weight, input.sum((0, 2, 3)) if needs_bias else None


def _dtype(features: Tensor, weight: Tensor, side: int) -> torch.dtype | None:
    """The dtype of a fast computation, or None to leave the layer to torch; `side` is the output's."""
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
    """The derivatives for which `im2col` should be faster than torch."""
    return [
        name for name in ConvTensors._fields if im2col.gain(batch, inputs, outputs, side, name) >= MIN_GAIN
    ]


def _requested(ctx: Any) -> list[bool]:
    """Which inputs' gradients this backward pass requires.

    `ctx.needs_input_grad` is true for all that could be required. Going by it, the generator's loss would pay
    for gradients of the discriminator's weights.
    """
    required = list(ctx.needs_input_grad)
    for index, (node, _) in enumerate(ctx.next_functions):  # two without a bias
        # The query fails under torch.autograd.grad with respect to a weight: then all are computed.
        with contextlib.suppress(RuntimeError):
            required[index] = required[index] and _will_execute(node)
    return required


def _derivatives(tensors: ConvTensors, names: list[str]) -> ConvTensors:
    """Derivatives by the algorithm that should be fastest."""
    if not names:
        return ConvTensors()
    # Grad mode is on where the gradient's own gradient is needed, which torch's operations have.
    if torch.is_grad_enabled():
        return _by_torch(tensors, names)
    if tensors.dtype == torch.bfloat16:
        gaining = _by_im2col(*tensors.sizes)
        ours = im2col.derivatives(tensors, [name for name in names if name in gaining])
        return ours.filled_from(_by_torch(tensors, [name for name in names if name not in gaining]))
    needed = {other for name in names for other in ConvTensors._fields if other != name}
    tile, gain = winograd.best_tile(*tensors.sizes, frozenset(needed), frozenset(names))
    if gain < MIN_GAIN:
        return _by_torch(tensors, names)
    given = {name: value for name, value in tensors._asdict().items() if name in needed}
    return winograd.derivatives(winograd.tiling(tensors.side, tile), ConvTensors(**given), names)


def _by_torch(tensors: ConvTensors, names: list[str]) -> ConvTensors:
    input = weight = output = None
    few = tensors.weight.shape[1] < MIN_CHANNELS
    if "output" in names:
        output = F.conv2d(tensors.input, tensors.weight, None, STRIDE, PADDING)
    if "input" in names and few:
        input = _with_few_channels(tensors.output, tensors.weight)
    elif names == ["input"]:
        input = F.conv_transpose2d(tensors.output, tensors.weight, None, STRIDE, PADDING, 1)
    elif "input" in names:
        input, weight = _gradients(tensors, [True, True, False])
    if "weight" in names and weight is None:
        _, weight = _gradients(tensors, [False, True, False])
    return ConvTensors(input, weight, output)


def _gradients(tensors: ConvTensors, names: list[bool]) -> tuple[Tensor, Tensor]:
    """The derivatives with respect to input and weight."""
    geometry = ([STRIDE] * 2, [PADDING] * 2, [1, 1], False, [0, 0], 1)
    arguments = (tensors.output, tensors.input, tensors.weight, None, *geometry, names)
    return torch.ops.aten.convolution_backward(*arguments)[:2]


def _with_few_channels(features: Tensor, weight: Tensor) -> Tensor:
    """The transposed convolution as a 3x3 one whose channels are the 2x2 pixels that each pixel becomes."""
    inputs, outputs = weight.shape[:2]
    taps = phase_kernels(weight).permute(1, 2, 3, 0, 4, 5).reshape(4 * outputs, inputs, 3, 3)
    pixels = F.conv2d(features, taps.contiguous(memory_format=torch.channels_last), padding=1)
    return F.pixel_shuffle(pixels, 2)
