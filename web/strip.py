"""One tile of a run's sample grids through time, side by side. Nothing here imports torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engine.errors import UserError
from engine.png import from_pillow
from images.tiles import GAP, MAX_PIXELS, tile

MAX_KEPT = 128 * 2**20
"""Bytes of the tiles that are kept, those of the last strips."""


def grid_shape(height: int, width: int, size: int) -> tuple[int, int] | None:
    """Rows and columns of a grid of tiles; None if it does not consist of tiles of this size.

    Args:
        height: of the grid in pixels.
        width: of the grid in pixels.
        size: side of a tile in pixels.
    """
    rows, columns = (height + GAP) / (size + GAP), (width + GAP) / (size + GAP)
    if size < 1 or rows % 1 or columns % 1:
        return None
    return int(rows), int(columns)


def read_shape(path: Path, size: int) -> tuple[int, int] | None:
    """Rows and columns of a grid in a file; see `grid_shape`. None for a file that is not a picture."""
    try:
        with Image.open(path, formats=["PNG"]) as image:
            return grid_shape(image.height, image.width, size)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def make_strip(grids: list[tuple[Path, int]], size: int, index: int) -> NDArray[np.uint8]:
    """A tile of each grid, in one row.

    Args:
        grids: file and version of each, at least one.
        size: side of a tile in pixels.
        index: number of the tile.

    Returns:
        uint8 [3, size, N * (size + GAP) - GAP]. A grid that cannot be read, or has no such tile, is grey.

    Raises:
        UserError: the strip would exceed `images.tiles.MAX_PIXELS`.
    """
    if len(grids) * (size + GAP) * size > MAX_PIXELS:  # before any tile is read
        raise UserError(f"{len(grids)} tiles of {size} pixels are too large for one picture")
    grey = np.full((3, size, size), 128, np.uint8)
    tiles = []
    for path, version in grids:
        found = _TILES.get(path, version, size, index)
        tiles.append(grey if found is None else found)
    return tile(np.stack(tiles), len(tiles))


class _Tiles:
    """The tiles used last; of one thread."""

    def __init__(self) -> None:
        self._kept: dict[tuple[Path, int, int, int], NDArray[np.uint8]] = {}
        self._bytes = 0

    def get(self, path: Path, version: int, size: int, index: int) -> NDArray[np.uint8] | None:
        key = path, version, size, index
        found = self._kept.pop(key, None)
        if found is None:
            found = _read_tile(path, size, index)
            if found is None:
                return None
            self._bytes += found.nbytes
        self._kept[key] = found  # the last of the dictionary
        while self._bytes > MAX_KEPT:
            self._bytes -= self._kept.pop(next(iter(self._kept))).nbytes
        return found


_TILES = _Tiles()


def _read_tile(path: Path, size: int, index: int) -> NDArray[np.uint8] | None:
    try:
        with Image.open(path, formats=["PNG"]) as image:
            shape = grid_shape(image.height, image.width, size)
            if shape is None or index >= shape[0] * shape[1] or image.height * image.width > MAX_PIXELS:
                return None
            row, column = divmod(index, shape[1])
            left, top = column * (size + GAP), row * (size + GAP)
            return from_pillow(image.crop((left, top, left + size, top + size)))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
