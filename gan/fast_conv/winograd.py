"""5x5 convolutions of stride 2 with a third of the multiplications, for processors without matrix units.

Take an image's even and odd rows and columns as four images, and such a convolution is a 3x3 one of stride
1 (the sixth tap is 0). That is computed by minimal filtering (Winograd 1980; Lavin and Gray 2016, "Fast
Algorithms for Convolutional Neural Networks"): image and kernel are taken to (m + 2)**2 points for each
tile of m x m results, multiplied point by point, which makes large matrix products over the channels, and
taken back. With m = 6 that is 7.1 multiplications for a result and channel in place of 25.

With V, U and M the input, kernel and result at the points, the three derivatives (`tensors`) are M = V U,
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
"""For each tile's side m the points, infinity aside: small numbers, as high powers cost float32 digits."""

# Costs are in units of one multiplication in a large matrix product, fitted to one core with AVX-512
# (docs/speed.md).
TORCH = {"output": 0.9, "input": 1.25, "weight": 1.25}
"""What a multiplication costs in torch's convolution, transposed convolution and gradient of the weight."""
TRANSFORM = 200
"""What it costs to take one number of an image or a result to the points or back."""
KERNEL_TRANSFORM = 100
"""The same for a weight."""
LARGEST_KERNEL = 2**26
"""Numbers of a kernel at the points, 256 MiB: a smaller tile with fewer points does nearly as well."""
ROWS = 256
"""Rows of the matrix products: enough for full speed, few enough for the cache."""


@dataclass(frozen=True)
class Tiling:
    """The transforms for one size of result and one tile, as float32 matrices.

    Attributes:
        side: of the result in pixels, half of the image's.
        tiles: in each direction; the last may hang over the edge.
        points: of a tile in each direction.
        weight: [4 * points**2, 25], from a 5x5 kernel to the points of its four 3x3 kernels.
        input: [points * tiles, side], from a row of an image to the points of all its tiles.
        output: [side, points * tiles], from the points of all tiles to a row of the output.
        strips: for each row of tiles the rows of the image and of the result that it covers, the matrix
            [points, rows of the input] and the matrix [rows of the output, points].
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
    """The transforms for a result of `side` pixels, by tiles whose side is one of `POINTS`."""
    to_output, of_kernel, of_image = _matrices(tile)
    points, tiles = tile + 2, -(-side // tile)
    input, output = np.zeros((points, tiles, side)), np.zeros((side, points, tiles))
    strips = []
    for index in range(tiles):
        start = tile * index
        seen = slice(max(start - 1, 0), min(start - 1 + points, side))
        covered = slice(start, min(start + tile, side))
        inner = of_image[:, seen.start - start + 1 : seen.stop - start + 1]
        outer = to_output[: covered.stop - start]
        input[:, index, seen], output[covered, :, index] = inner, outer
        strips.append((seen, covered, _float32(inner), _float32(outer)))
    # Taps 0, 2 and 4 meet the even rows of the input, 1 and 3 the odd ones.
    phases = np.zeros((points, 2, 5))
    phases[:, 0, ::2], phases[:, 1, 1::2] = of_kernel, of_kernel[:, :2]
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
    batch: int, inputs: int, outputs: int, side: int, needed: frozenset[str], wanted: frozenset[str]
) -> tuple[int, float]:
    """The tile that should be fastest, and how much faster than torch."""

    def cost(tile: int) -> float:
        tiles = batch * (-(-side // tile)) ** 2
        pairs = 4 * inputs * outputs
        transforms = {
            "input": TRANSFORM * tiles * 4 * inputs,
            "weight": KERNEL_TRANSFORM * pairs,
            "output": TRANSFORM * tiles * outputs,
        }
        there_and_back = sum(transforms[name] for name in (*needed, *wanted))
        return (tile + 2) ** 2 * (len(wanted) * tiles * pairs + there_and_back)

    fitting = [tile for tile in POINTS if (tile + 2) ** 2 * 4 * inputs * outputs <= LARGEST_KERNEL]
    if not fitting:
        return 0, 0.0
    tile = min(fitting, key=cost)
    by_torch = sum(TORCH[name] for name in wanted) * KERNEL**2 * side**2 * batch * inputs * outputs
    return tile, by_torch / cost(tile)


def derivatives(by: Tiling, form: ConvTensors, wanted: Collection[str]) -> ConvTensors:
    """Some of the form's derivatives, channels last.

    Args:
        by: the transforms for this size of output.
        form: the arguments, float32; those that no wanted derivative depends on may be None.
        wanted: names of arguments.
    """
    batch, inputs, outputs, _ = form.sizes
    input = _empty(batch, inputs, 2 * by.side) if "input" in wanted else None
    output = _empty(batch, outputs, by.side) if "output" in wanted else None
    weight = None
    u = None if form.weight is None else _kernel_to_points(by, form.weight)
    count = -(-ROWS // by.tiles)
    for part in (slice(first, min(first + count, batch)) for first in range(0, batch, count)):
        rows = by.tiles * (part.stop - part.start)
        images = None if form.input is None else _to_points(by.input, _quarters(form.input[part]))
        results = None if form.output is None else _to_points(by.output.T, _pixels(form.output[part]))
        of_image = None if input is None else torch.zeros(by.side, by.points * rows * 4 * inputs)
        of_output = None if output is None else torch.empty(by.side, by.points * rows * outputs)
        for seen, covered, inner, outer in by.strips:
            v = None if images is None else (inner @ images[seen]).view(-1, rows, 4 * inputs)
            m = None if results is None else (outer.T @ results[covered]).view(-1, rows, outputs)
            if of_image is not None:
                of_image[seen].addmm_(inner.T, torch.bmm(m, u.mT).view(by.points, -1))
            if of_output is not None:
                torch.mm(outer, torch.bmm(v, u).view(by.points, -1), out=of_output[covered])
            if "weight" in wanted:
                weight = torch.bmm(v.mT, m) if weight is None else weight.baddbmm_(v.mT, m)
        if of_image is not None:
            _from_points(by.input.T, of_image, _quarters(input[part]))
        if of_output is not None:
            _from_points(by.output, of_output, _pixels(output[part]))
    return ConvTensors(input, None if weight is None else _kernel_from_points(by, weight), output)


def _matrices(tile: int) -> tuple[NDArray, NDArray, NDArray]:
    """In one direction: from points to results [m, n], from kernel [n, 3] and from image [n, n] to points."""
    points = np.array(POINTS[tile], float)
    to_output = np.column_stack([np.vander(points, tile, increasing=True).T, np.eye(tile)[-1]])
    of_kernel = np.vstack([np.vander(points, 3, increasing=True), np.eye(3)[-1]])
    # That output[i] is the sum of weight[k] * input[i + k], whatever they are, is a set of linear equations.
    products = np.einsum("in,nk->ikn", to_output, of_kernel).reshape(3 * tile, -1)
    shifts = np.stack([np.eye(tile + 2)[i + k] for i in range(tile) for k in range(3)])
    of_image = np.linalg.lstsq(products, shifts, rcond=None)[0]
    # Each point may be scaled at will; with both at the same size float32 loses the fewest digits.
    scale = np.sqrt(np.linalg.norm(of_image, axis=1) / np.linalg.norm(of_kernel, axis=1))[:, None]
    return to_output, of_kernel * scale, of_image / scale


def _float32(values: NDArray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, np.float32))


def _empty(batch: int, channels: int, side: int) -> Tensor:
    return torch.empty(batch, channels, side, side, memory_format=torch.channels_last)


def _pixels(output: Tensor) -> Tensor:
    """A view [S, S, B, O]."""
    return output.permute(2, 3, 0, 1)


def _quarters(input: Tensor) -> Tensor:
    """A view [S, S, B, 2, 2, C]: at each place the four pixels of even and odd rows and columns."""
    return input.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).permute(2, 4, 0, 3, 5, 1)


def _to_points(matrix: Tensor, pixels: Tensor) -> Tensor:
    """Each of the S rows to its points: [S, S, ...] to [S, points * tiles * ...]."""
    side = len(pixels)
    return torch.bmm(matrix.expand(side, -1, -1), pixels.reshape(side, side, -1)).view(side, -1)


def _from_points(matrix: Tensor, points: Tensor, pixels: Tensor) -> None:
    """Each row back from its points, into `pixels`."""
    side = len(pixels)
    rows = torch.bmm(matrix.expand(side, -1, -1), points.view(side, matrix.shape[1], -1))
    pixels.copy_(rows.view(pixels.shape))


def _kernel_to_points(by: Tiling, weight: Tensor) -> Tensor:
    """[O, C, 5, 5] to [points**2, 4 C, O]."""
    outputs, inputs = weight.shape[:2]
    taps = weight.permute(2, 3, 1, 0).reshape(25, -1)
    return torch.mm(by.weight, taps).view(-1, 4 * inputs, outputs)


def _kernel_from_points(by: Tiling, points: Tensor) -> Tensor:
    """The transpose: [points**2, 4 C, O] to [O, C, 5, 5]."""
    _, inputs, outputs = points.shape
    taps = torch.mm(by.weight.T, points.view(len(by.weight), -1)).view(5, 5, inputs // 4, outputs)
    return taps.permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)
