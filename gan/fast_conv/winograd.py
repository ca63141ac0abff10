"""5x5 stride-2 convolutions with a third of the multiplications, for processors without matrix units.

With an image's even and odd rows and columns as four images, such a convolution is a 3x3 one of stride 1 (the
sixth tap is 0). It is computed by minimal filtering (Winograd 1980; Lavin and Gray 2016, "Fast Algorithms for
Convolutional Neural Networks"): for each tile of m x m outputs, input and weight are evaluated at (m + 2)**2
points, multiplied point by point, which takes large matrix products over the channels, and interpolated back.
With m = 6 this takes 7.1 multiplications per output and channel instead of 25.

With V, U and M the input, weight and output at the points, the three derivatives (`tensors`) are M = V U,
V = M U' and U = V' M. One loop computes any of them.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gan.fast_conv.tensors import KERNEL, ConvTensors

POINTS: dict[int, tuple[float, ...]] = {
    2: (0, 1, -1),
    3: (0, 1, -1, -2),
    4: (0, 1, -1, 2, -0.5),
    6: (0, 1, -1, 0.5, -0.5, 2, -2),
}
"""The points, apart from infinity, for each side m of a tile: small, as high powers cost float32 digits."""

# Costs are in units of one multiplication in a large matrix product, fitted to one core with AVX-512
# (docs/speed.md).
TORCH = {"output": 0.9, "input": 1.25, "weight": 1.25}
"""Cost of a multiplication in torch's convolution, transposed convolution and gradient of the weight."""
TRANSFORM = 200
"""Cost of transforming one number of an input or output to the points or back."""
WEIGHT_TRANSFORM = 100
"""Cost of transforming one number of a weight."""
MAX_WEIGHT = 2**26
"""Numbers of a weight at the points, 256 MiB; beyond, a smaller tile with fewer points does nearly as
well."""
ROWS = 256
"""Rows of the matrix products: enough for full speed, few enough for the cache."""


@dataclass(frozen=True)
class Tiling:
    """The transforms for one size of output and one tile, as float32 matrices.

    Attributes:
        side: side of the output in pixels, half of the input's.
        tiles: number of tiles in each direction; the last may extend beyond the edge.
        points: points of a tile in each direction.
        weight: [4 * points**2, 25], from a 5x5 kernel to the points of its four 3x3 kernels.
        input: [points * tiles, side], from a row of the input to the points of all its tiles.
        output: [side, points * tiles], from the points of all tiles to a row of the output.
        strips: for each row of tiles, the rows of the input and of the output that it covers, and the
            matrices [points, rows of the input] and [rows of the output, points].
    """

    side: int
    tiles: int
    points: int
    weight: Tensor
    input: Tensor
    output: Tensor
    strips: tuple[tuple[slice, slice, Tensor, Tensor], ...]


@lru_cache
def tiling(side: int, tile: int) -> Tiling:
    """The transforms for an output of `side` pixels, by tiles whose side is one of `POINTS`."""
    to_output, of_weight, of_input = _matrices(tile)
    points, tiles = tile + 2, -(-side // tile)
    input, output = np.zeros((points, tiles, side)), np.zeros((side, points, tiles))
    strips = []
    for index in range(tiles):
        start = tile * index
        seen = slice(max(start - 1, 0), min(start - 1 + points, side))
        covered = slice(start, min(start + tile, side))
        inner = of_input[:, seen.start - start + 1 : seen.stop - start + 1]
        outer = to_output[: covered.stop - start]
        input[:, index, seen], output[covered, :, index] = inner, outer
        strips.append((seen, covered, _float32(inner), _float32(outer)))
    # Taps 0, 2 and 4 apply to the even rows of the input, 1 and 3 to the odd ones.
    phases = np.zeros((points, 2, 5))
    phases[:, 0, ::2], phases[:, 1, 1::2] = of_weight, of_weight[:, :2]
    return Tiling(
        side=side,
        tiles=tiles,
        points=points,
        weight=_float32(np.einsum("kpi,lqj->klpqij", phases, phases).reshape(-1, 25)),
        input=_float32(input.reshape(-1, side)),
        output=_float32(output.reshape(side, -1)),
        strips=tuple(strips),
    )


@lru_cache
def best_tile(
    batch: int, inputs: int, outputs: int, side: int, needed: frozenset[str], names: frozenset[str]
) -> tuple[int, float]:
    """The tile that should be fastest, and its speed-up over torch.

    Args:
        batch: B of `ConvTensors`.
        inputs: C.
        outputs: O.
        side: S.
        needed: tensors that the derivatives depend on.
        names: tensors with respect to which derivatives are taken.
    """

    def cost(tile: int) -> float:
        tiles = batch * (-(-side // tile)) ** 2
        pairs = 4 * inputs * outputs
        transforms = {
            "input": TRANSFORM * tiles * 4 * inputs,
            "weight": WEIGHT_TRANSFORM * pairs,
            "output": TRANSFORM * tiles * outputs,
        }
        transformed = sum(transforms[name] for name in (*needed, *names))
        return (tile + 2) ** 2 * (len(names) * tiles * pairs + transformed)

    fitting = [tile for tile in POINTS if (tile + 2) ** 2 * 4 * inputs * outputs <= MAX_WEIGHT]
    if not fitting:
        return 0, 0.0
    tile = min(fitting, key=cost)
    torch_cost = sum(TORCH[name] for name in names) * KERNEL**2 * side**2 * batch * inputs * outputs
    return tile, torch_cost / cost(tile)


def derivatives(tiling: Tiling, tensors: ConvTensors, names: Collection[str]) -> ConvTensors:
    """Derivatives, channels last.

    Args:
        tiling: the transforms for this size of output.
        tensors: float32; those that no requested derivative depends on may be None.
        names: tensors with respect to which derivatives are taken.
    """
    batch, inputs, outputs, _ = tensors.sizes
    input = _empty(batch, inputs, 2 * tiling.side) if "input" in names else None
    output = _empty(batch, outputs, tiling.side) if "output" in names else None
    weight = None
    u = None if tensors.weight is None else _weight_to_points(tiling, tensors.weight)
    count = -(-ROWS // tiling.tiles)
    for part in (slice(first, min(first + count, batch)) for first in range(0, batch, count)):
        rows = tiling.tiles * (part.stop - part.start)
        images = None if tensors.input is None else _to_points(tiling.input, _quarters(tensors.input[part]))
        results = (
            None if tensors.output is None else _to_points(tiling.output.T, _pixels(tensors.output[part]))
        )
        of_input = None if input is None else torch.zeros(tiling.side, tiling.points * rows * 4 * inputs)
        of_output = None if output is None else torch.empty(tiling.side, tiling.points * rows * outputs)
        for seen, covered, inner, outer in tiling.strips:
            v = None if images is None else (inner @ images[seen]).view(-1, rows, 4 * inputs)
            m = None if results is None else (outer.T @ results[covered]).view(-1, rows, outputs)
            if of_input is not None:
                of_input[seen].addmm_(inner.T, torch.bmm(m, u.mT).view(tiling.points, -1))
            if of_output is not None:
                torch.mm(outer, torch.bmm(v, u).view(tiling.points, -1), out=of_output[covered])
            if "weight" in names:
                weight = torch.bmm(v.mT, m) if weight is None else weight.baddbmm_(v.mT, m)
        if of_input is not None:
            _from_points(tiling.input.T, of_input, _quarters(input[part]))
        if of_output is not None:
            _from_points(tiling.output, of_output, _pixels(output[part]))
    return ConvTensors(input, None if weight is None else _weight_from_points(tiling, weight), output)


def _matrices(tile: int) -> tuple[NDArray, NDArray, NDArray]:
    """Matrices of a direction: points to outputs [m, n], weight to points [n, 3], input to points [n, n]."""
    points = np.array(POINTS[tile], float)
    to_output = np.column_stack([np.vander(points, tile, increasing=True).T, np.eye(tile)[-1]])
    of_weight = np.vstack([np.vander(points, 3, increasing=True), np.eye(3)[-1]])
    # For all weights and inputs, output[i] = sum(weight[k] * input[i + k]): a set of linear equations.
    products = np.einsum("in,nk->ikn", to_output, of_weight).reshape(3 * tile, -1)
    shifts = np.stack([np.eye(tile + 2)[i + k] for i in range(tile) for k in range(3)])
    of_input = np.linalg.lstsq(products, shifts, rcond=None)[0]
    # Each point may be scaled freely; float32 loses the fewest digits if both have the same size.
    scale = np.sqrt(np.linalg.norm(of_input, axis=1) / np.linalg.norm(of_weight, axis=1))[:, None]
    return to_output, of_weight * scale, of_input / scale


def _float32(values: NDArray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, np.float32))


def _empty(batch: int, channels: int, side: int) -> Tensor:
    return torch.empty(batch, channels, side, side, memory_format=torch.channels_last)


def _pixels(output: Tensor) -> Tensor:
    """A view [S, S, B, O]."""
    return output.permute(2, 3, 0, 1)


def _quarters(input: Tensor) -> Tensor:
    """A view [S, S, B, 2, 2, C]: at each position the 2x2 pixels of even and odd rows and columns."""
    return input.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).permute(2, 4, 0, 3, 5, 1)


def _to_points(matrix: Tensor, pixels: Tensor) -> Tensor:
    """Transform each of the S rows to its points: [S, S, ...] to [S, points * tiles * ...]."""
    side = len(pixels)
    return torch.bmm(matrix.expand(side, -1, -1), pixels.reshape(side, side, -1)).view(side, -1)


def _from_points(matrix: Tensor, points: Tensor, pixels: Tensor) -> None:
    """Transform each row back from its points, into `pixels`."""
    side = len(pixels)
    rows = torch.bmm(matrix.expand(side, -1, -1), points.view(side, matrix.shape[1], -1))
    pixels.copy_(rows.view(pixels.shape))


def _weight_to_points(tiling: Tiling, weight: Tensor) -> Tensor:
    """[O, C, 5, 5] to [points**2, 4 C, O]."""
    outputs, inputs = weight.shape[:2]
    taps = weight.permute(2, 3, 1, 0).reshape(25, -1)
    return torch.mm(tiling.weight, taps).view(-1, 4 * inputs, outputs)


def _weight_from_points(tiling: Tiling, points: Tensor) -> Tensor:
    """The transpose: [points**2, 4 C, O] to [O, C, 5, 5]."""
    _, inputs, outputs = points.shape
    taps = torch.mm(tiling.weight.T, points.view(len(tiling.weight), -1)).view(5, 5, inputs // 4, outputs)
    return taps.permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)
