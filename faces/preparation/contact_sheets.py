"""Contact sheets: a hundred crops on one picture, to see at a glance what was made of a folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.png import save_png
from faces.preparation.manifest import Row
from images.decode import UnusableImageError, decode_full
from images.tiles import number_tiles, tile

CROPS = 100
COLUMNS = 10

WORDS = {"too small": "small", "cut off": "cut", "turned too far": "turned", "too blurred": "blurred"}
"""What stands on a tile, which is narrow, for some verdicts."""


def save_sheet(path: Path, folder: Path, rows: Sequence[Row], size: int, *, labelled: bool = False) -> None:
    """Write a hundred crops of these rows as one picture, or all where there are fewer.

    They are drawn at random, the same ones every time, and stand in the order of their verdicts, then of the
    rows. Crops that were deleted or changed since they were made are passed over. Where there are none, the
    sheet of an earlier time is removed.

    Args:
        path: of the picture.
        folder: that the rows' files are relative to.
        rows: of crops.
        size: side of the crops in pixels.
        labelled: write the verdict on each.

    Raises:
        OSError: the sheet cannot be written.
    """
    drawn = islice(_crops(folder, rows, size), CROPS)
    shown = sorted(drawn, key=lambda one: (rows[one[0]].verdict, one[0]))
    if not shown:
        path.unlink(missing_ok=True)
        return
    crops = np.stack([crop for _, crop in shown])
    if labelled:
        verdicts = [rows[index].verdict for index, _ in shown]
        crops = number_tiles(crops, [WORDS.get(verdict, verdict) for verdict in verdicts])
    save_png(path, tile(crops, COLUMNS))


def _crops(folder: Path, rows: Sequence[Row], size: int) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Rows in random order, by their places, and the crop of each, where it is as it was made."""
    for index in np.random.default_rng(0).permutation(len(rows)).tolist():
        try:
            crop = decode_full(folder / rows[index].file)
        except UnusableImageError:  # deleted, or spoilt
            continue
        if crop.shape == (3, size, size):
            yield index, crop
