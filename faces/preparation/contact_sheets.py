"""Contact sheets: a hundred crops in one picture, for a quick look at a prepared folder."""

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

MAX_CROPS = 100
COLUMNS = 10

SHORT_LABELS = {"too small": "small", "cut off": "cut", "turned too far": "turned", "too blurred": "blurred"}
"""Labels that fit on a crop, for verdicts that do not."""


def save_sheet(path: Path, folder: Path, rows: Sequence[Row], size: int, *, labelled: bool = False) -> None:
    """Save the crops of these rows as one picture, a hundred at most, ordered by verdict and row.

    If there are more, the selection is random and reproducible. Crops that have been deleted or changed are
    skipped. Without any crops, an existing sheet is removed.

    Args:
        path: of the picture.
        folder: base of the rows' files.
        rows: of crops.
        size: side of the crops in pixels.
        labelled: write the verdict on each crop.

    Raises:
        OSError: the sheet cannot be written.
    """
    selection = islice(_random_crops(folder, rows, size), MAX_CROPS)
    ordered = sorted(selection, key=lambda pair: (rows[pair[0]].verdict, pair[0]))
    if not ordered:
        path.unlink(missing_ok=True)
        return
    crops = np.stack([crop for _, crop in ordered])
    if labelled:
        verdicts = [rows[index].verdict for index, _ in ordered]
        crops = number_tiles(crops, [SHORT_LABELS.get(verdict, verdict) for verdict in verdicts])
    save_png(path, tile(crops, COLUMNS))


def _random_crops(folder: Path, rows: Sequence[Row], size: int) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Index and crop of rows in random order, except crops that have been deleted or changed."""
    for index in np.random.default_rng(0).permutation(len(rows)).tolist():
        try:
            crop = decode_full(folder / rows[index].file)
        except UnusableImageError:
            continue
        if crop.shape == (3, size, size):
            yield index, crop
