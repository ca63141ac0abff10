"""Strided 5x5 convolutions with a third of the multiplications, for processors without matrix units.

A 5x5 convolution of stride 2 is a 3x3 convolution of stride 1 once the image's even and odd rows and
columns are looked at as four images (the sixth tap is 0). That one is computed by Winograd's minimal
filtering (Winograd 1980; Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural Networks"): of a
tile of m x m results, image and kernel are evaluated at (m + 2)**2 points, multiplied point by point,
which are large matrix products over the channels, and the results are interpolated: 7.1 multiplications
for m = 6 in place of 25.

Image, kernel and result enter one trilinear form, sum(result * convolve(image, kernel)). The convolution,
the transposed convolution and the gradient of the kernel are its three derivatives; with V, U and M the
three at the points they are M = V U, V = M U', U = V' M, and one loop computes whichever are wanted.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

POINTS = {
    2: (0, 1, -1),
    3: (0, 1, -1, -2),
    4: (0, 1, -1, 2, -0.5),
    6: (0, 1, -1, 0.5, -0.5, 2, -2),
}
"""For each tile's side m, where polynomials are evaluated, beside infinity: small numbers whose powers
stay near 1, because every larger one costs float32 some of its digits."""

ROWS = 256
"""Rows of the matrix products: enough for the library's full speed, few enough for the cache."""


@dataclass(frozen=True)
class Tiling:
    """The transforms for one size of result and one tile; float32 matrices.

    Attributes:
        side: of the result in pixels; the image's is twice that.
        tiles: in each direction, the last one perhaps hanging over the edge.
        points: in each direction, m + 2.
        kernel: [4 * points**2, 25], the 5x5 kernel to the points of its four 3x3 kernels.
        image_rows: [points * tiles, side], a row of the image to the points of all its tiles.
        result_rows: [side, points * tiles], from the points of all tiles to a row of the result.
        strips: for each row of tiles the rows of the image and the rows of the result it covers, and its
            two matrices [points, rows of the image] and [rows of the result, points].
    """

    side: int
    tiles: int
    points: int
    kernel: Tensor
    image_rows: Tensor
    result_rows: Tensor
    strips: tuple[tuple[slice, slice, Tensor, Tensor], ...]


@lru_cache
def tiling(side: int, tile: int) -> Tiling:
    """The `Tiling` of a result of `side` pixels by tiles of `tile`, which `POINTS` must have."""
    to_result, of_kernel, of_image = _matrices(tile)
    points, tiles = tile + 2, -(-side // tile)
    image_rows, result_rows = np.zeros((points, tiles, side)), np.zeros((side, points, tiles))
    strips = []
    for index in range(tiles):
        first = tile * index - 1
        low, high = max(first, 0), min(first + points, side)
        end = min(tile * (index + 1), side)
        inner = of_image[:, low - first : high - first]
        outer = to_result[: end - tile * index]
        image_rows[:, index, low:high] = inner
        result_rows[tile * index : end, :, index] = outer
        strips.append((slice(low, high), slice(tile * index, end), _float(inner), _float(outer)))
    # Taps 0, 2, 4 belong to the even rows, 1 and 3 to the odd ones.
    phases = np.zeros((points, 2, 5))
    phases[:, 0, ::2] = of_kernel
    phases[:, 1, 1::2] = of_kernel[:, :2]
    kernel = np.einsum("kpi,lqj->klpqij", phases, phases).reshape(4 * points**2, 25)
    return Tiling(
        side=side,
        tiles=tiles,
        points=points,
        kernel=_float(kernel),
        image_rows=_float(image_rows.reshape(points * tiles, side)),
        result_rows=_float(result_rows.reshape(side, points * tiles)),
        strips=tuple(strips),
    )


def correlate(
    plan: Tiling, image: Tensor | None, kernel: Tensor | None, result: Tensor | None, wanted: str
) -> dict[str, Tensor]:
    """Whichever of image, kernel and result are wanted, as derivatives of the form the three make up.

    Args:
        plan: the transforms, for this size of result.
        image: float32 [B, C, 2 side, 2 side]; needed for the other two.
        kernel: float32 [O, C, 5, 5]; needed for the other two.
        result: float32 [B, O, side, side]; needed for the other two.
        wanted: of "image" (transposed convolution of `result`), "kernel" (the gradient of a convolution's
            weight) and "result" (convolution of `image`), the names with blanks between.

    Returns:
        What is wanted by its name, channels last.
    """
    given = image if image is not None else result
    assert given is not None
    batch, side = len(given), plan.side
    names = wanted.split()
    at_points = None
    if kernel is not None:
        outputs, inputs = kernel.shape[:2]
        at_points = _kernel_to_points(plan, kernel)
    else:
        assert image is not None
        assert result is not None
        inputs, outputs = image.shape[1], result.shape[1]
    made: dict[str, Tensor] = {}
    if "image" in names:
        made["image"] = _channels_last(batch, inputs, 2 * side)
    if "result" in names:
        made["result"] = _channels_last(batch, outputs, side)
    gradient: Tensor | None = None
    step = -(-ROWS // plan.tiles)
    for first in range(0, batch, step):
        part = slice(first, first + step)
        size = min(step, batch - first)
        rows = plan.tiles * size
        images = None if image is None else _to_points(plan.image_rows, _quarters(image[part]))
        results = None if result is None else _to_points(plan.result_rows.T, _pixels(result[part]))
        if "image" in names:
            back = given.new_zeros(side, plan.points * rows * 4 * inputs)
        if "result" in names:
            out = given.new_empty(side, plan.points * rows * outputs)
        for of_image, of_result, inner, outer in plan.strips:
            if images is not None:
                v = torch.mm(inner, images[of_image]).view(-1, rows, 4 * inputs)
            if results is not None:
                m = torch.mm(outer.T, results[of_result]).view(-1, rows, outputs)
            if "kernel" in names:
                if gradient is None:
                    gradient = torch.bmm(v.transpose(1, 2), m)
                else:
                    gradient.baddbmm_(v.transpose(1, 2), m)
            if "result" in names:
                torch.mm(outer, torch.bmm(v, at_points).view(plan.points, -1), out=out[of_result])
            if "image" in names:
                seen = torch.bmm(m, at_points.transpose(1, 2))
                back[of_image].addmm_(inner.T, seen.view(plan.points, -1))
        if "image" in names:
            _from_points(plan.image_rows.T, back, _quarters(made["image"][part]))
        if "result" in names:
            _from_points(plan.result_rows, out, _pixels(made["result"][part]))
    if gradient is not None:
        made["kernel"] = _kernel_from_points(plan, gradient)
    return made


def _matrices(tile: int) -> tuple[NDArray, NDArray, NDArray]:
    """Of one direction: points to results [m, n], kernel to points [n, 3], image to points [n, n]."""
    at = np.array(POINTS[tile], float)
    to_result = np.column_stack([np.vander(at, tile, increasing=True).T, np.eye(tile)[-1]])
    of_kernel = np.vstack([np.vander(at, 3, increasing=True), np.eye(3)[-1]])
    # result[i] = sum over k of kernel[k] image[i + k] for any kernel and image: linear equations.
    products = np.einsum("in,nk->ikn", to_result, of_kernel).reshape(3 * tile, -1)
    shifts = np.array([np.eye(tile + 2)[i + k] for i in range(tile) for k in range(3)])
    of_image = np.linalg.lstsq(products, shifts, rcond=None)[0]
    # Numbers of one size at every point lose the fewest digits.
    balance = np.sqrt(np.linalg.norm(of_image, axis=1) / np.linalg.norm(of_kernel, axis=1))[:, None]
    return to_result, of_kernel * balance, of_image / balance


def _float(values: NDArray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, np.float32))


def _channels_last(batch: int, channels: int, side: int) -> Tensor:
    return torch.empty(batch, channels, side, side, memory_format=torch.channels_last)


def _pixels(result: Tensor) -> Tensor:
    """A view [side, side, B, O]."""
    return result.permute(2, 3, 0, 1)


def _quarters(image: Tensor) -> Tensor:
    """A view [side, side, B, 2, 2, C]: four images, of the even and odd rows and columns."""
    return image.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).permute(2, 4, 0, 3, 5, 1)


def _to_points(matrix: Tensor, pixels: Tensor) -> Tensor:
    """Rows [side, side, ...] to their points [side, points * tiles * ...]."""
    side = len(pixels)
    rows = pixels.reshape(side, side, -1)
    return torch.bmm(matrix.expand(side, -1, -1), rows).view(side, -1)


def _from_points(matrix: Tensor, at_points: Tensor, pixels: Tensor) -> None:
    """The way back, into `pixels`."""
    side = len(pixels)
    rows = torch.bmm(matrix.expand(side, -1, -1), at_points.view(side, matrix.shape[1], -1))
    pixels.copy_(rows.view(pixels.shape))


def _kernel_to_points(plan: Tiling, kernel: Tensor) -> Tensor:
    """[O, C, 5, 5] to [points**2, 4 C, O]."""
    outputs, inputs = kernel.shape[:2]
    taps = kernel.permute(2, 3, 1, 0).reshape(25, inputs * outputs)
    return torch.mm(plan.kernel, taps).view(plan.points**2, 4 * inputs, outputs)


def _kernel_from_points(plan: Tiling, at_points: Tensor) -> Tensor:
    """The transpose of the way there: [points**2, 4 C, O] to [O, C, 5, 5]."""
    inputs, outputs = at_points.shape[1] // 4, at_points.shape[2]
    taps = torch.mm(plan.kernel.T, at_points.view(4 * plan.points**2, inputs * outputs))
    return taps.view(5, 5, inputs, outputs).permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)
