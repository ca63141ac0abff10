"""Contact sheets: the crops of a prepared folder in pages of a hundred, each with its number below it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from engine.files import atomic_write
from engine.png import from_pillow, to_pillow
from faces.preparation.manifest import REJECTED, Row
from faces.preparation.quality import REASONS
from images.decode import UnusableImageError, decode_full
from images.tiles import BACKGROUND, default_font, tile

COLUMNS, ROWS = 10, 10
MAX_PAGES = 20
"""Maximum pages of a sheet: 2,000 crops, as many as anyone looks at."""

ORDER = (REJECTED, *REASONS)
"""Order of the verdicts on a sheet of crops that were left out."""

MIN_WIDTH, MAX_SIDE = 48, 128
"""Pixels. A number needs the one; crops larger than the other are reduced to it."""


def save_sheets(folder: Path, name: str, rows: Sequence[Row], size: int, *, verdicts: bool = False) -> None:
    """Save crops as pages of a hundred: NAME.png, NAME-2.png ..., ordered by number.

    If there are more crops than `MAX_PAGES` pages hold, the selection is random and reproducible. Crops that
    have been deleted or changed are skipped. Pages of an earlier time that are not needed any more are
    removed.

    Args:
        folder: of the pages, and base of the rows' files.
        name: of the pages.
        rows: of crops.
        size: side of the crops in pixels.
        verdicts: write the verdict below the number, and order the crops by it first.

    Raises:
        OSError: a page cannot be written.
    """
    selection = [rows[index] for index in np.random.default_rng(0).permutation(len(rows)).tolist()]
    cells = {
        row: _with_caption(crop, [row.number, row.verdict] if verdicts else [row.number])
        for row, crop in islice(_crops(folder, selection, size), MAX_PAGES * COLUMNS * ROWS)
    }
    ordered = sorted(cells, key=lambda row: (ORDER.index(row.verdict) if verdicts else 0, int(row.number)))
    pages = range(0, len(ordered), COLUMNS * ROWS)
    for page, start in enumerate(pages, 1):
        grid = tile(np.stack([cells[row] for row in ordered[start : start + COLUMNS * ROWS]]), COLUMNS)
        with atomic_write(_page(folder, name, page), durable=False) as temporary:
            to_pillow(grid).save(temporary, compress_level=1)  # a fourth of the time
    for page in count(len(pages) + 1):
        try:
            _page(folder, name, page).unlink()
        except FileNotFoundError:
            break


def _page(folder: Path, name: str, page: int) -> Path:
    return folder / (f"{name}.png" if page == 1 else f"{name}-{page}.png")


def _crops(folder: Path, rows: Sequence[Row], size: int) -> Iterator[tuple[Row, NDArray[np.uint8]]]:
    """Rows and their crops, except those that have been deleted or changed."""
    for row in rows:
        try:
            crop = decode_full(folder / row.file)
        except UnusableImageError:
            continue
        if crop.shape == (3, size, size):
            yield row, crop


def _with_caption(crop: NDArray[np.uint8], lines: Sequence[str]) -> NDArray[np.uint8]:
    """A crop with lines of text below it, uint8 [3, H, W]; the number, in the first, is the larger one."""
    picture = to_pillow(crop)
    picture.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    width, heights = max(picture.width, MIN_WIDTH), [16, 11][: len(lines)]
    cell = Image.new("RGB", (width, picture.height + sum(heights) + 6), (BACKGROUND,) * 3)
    cell.paste(picture, ((width - picture.width) // 2, 0))
    pen, top = ImageDraw.Draw(cell), picture.height + 2
    for line, height in zip(lines, heights, strict=True):
        font = default_font(height)
        pen.text((width / 2, top + height), line, fill="black", font=font, anchor="ms")
        top += height
    return from_pillow(cell)
