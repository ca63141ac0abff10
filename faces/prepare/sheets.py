"""Contact sheets: a hundred crops on one picture, to see at a glance what was made of a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from faces.prepare.manifest import Row
from gan.images import load_png, number_tiles, save_png, tile

CROPS = 100
COLUMNS = 10

WORDS = {"too small": "small", "cut off": "cut", "turned too far": "turned", "too blurred": "blurred"}
"""What stands on a tile, which is narrow, for some verdicts."""


def save_sheet(path: Path, folder: Path, rows: Sequence[Row], *, labelled: bool = False) -> None:
    """Write a hundred crops of these rows as one picture, or all where there are fewer.

    They are drawn at random, the same ones every time, and stand in the order of their verdicts, then of the
    rows. Without rows the sheet of an earlier time is removed.

    Args:
        path: of the picture.
        folder: that the rows' files are relative to.
        rows: of crops.
        labelled: write the verdict on each.

    Raises:
        OSError: the sheet cannot be written, or a crop not read.
    """
    if not rows:
        path.unlink(missing_ok=True)
        return
    drawn = np.random.default_rng(0).permutation(len(rows))[:CROPS]
    shown = [rows[index] for index in sorted(drawn, key=lambda index: (rows[index].verdict, index))]
    crops = np.stack([load_png(folder / row.file) for row in shown])
    if labelled:
        crops = number_tiles(crops, [WORDS.get(row.verdict, row.verdict) for row in shown])
    save_png(path, tile(crops, COLUMNS))
