"""The table of a generator's directions, and a sheet with a strip of faces for each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.png import save_png
from engine.runs import report_write_errors
from gan.generator import LoadedGenerator
from gan.latent.directions import Direction, Directions
from gan.latent.vectors import draw
from images.tiles import BACKGROUND, add_title, scale_image, tile

SHEET_FACES = 2
"""Faces in a strip."""
SHEET_STRENGTHS = (-3, -2, -1, 0, 1, 2, 3)
MIN_SIDE = 64
"""Smaller images are enlarged for the sheet."""
MIN_AGREEMENT = 0.5
"""Agreement of two scorers below which neither is believed."""
FEW_FACES = 10
"""Chosen faces below which their direction is mostly chance; see docs/directions.md."""
MIN_HELD_OUT = 0.7
"""Share of the chosen faces on the right side, of which 0.5 is chance."""

COLUMNS = (
    ("effect", "effect", "{:+.2f}"),
    ("leak", "leak", "{:.2f}"),
    ("random_leak", "random", "{:.2f}"),
    ("monotone", "monotone", "{:.0%}"),
    ("identity", "identity", "{:.2f}"),
    ("realism", "realism", "{:.2f}"),
    ("agreement", "agreement", "{:.2f}"),
)
"""Score, its title and its format."""


def table(directions: Mapping[str, Direction]) -> str:
    """The scores of directions that have any, a line for each."""
    names = [name for name, one in directions.items() if "effect" in one.scores]
    width = max(map(len, ["direction", *names]))
    lines = [" ".join([f"{'direction':<{width}}", *(f"{title:>9}" for _, title, _ in COLUMNS)])]
    for name in names:
        scores = directions[name].scores
        cells = [_cell(scores.get(key), form) for key, _, form in COLUMNS]
        found = f"{directions[name].source}; {scores.get('checker')}"
        lines.append(" ".join([f"{name:<{width}}", *(f"{cell:>9}" for cell in cells), f" {found}"]))
    return "\n".join([f"{lines[0]}  found by; measured by", *lines[1:]])


def doubts(directions: Mapping[str, Direction]) -> list[str]:
    """A line for directions whose two scorers disagree on what the attribute is, if there are any."""
    agreements = {name: one.scores.get("agreement") for name, one in directions.items()}
    doubtful = [name for name, value in agreements.items() if value is not None and value < MIN_AGREEMENT]
    if not doubtful:
        return []
    return [
        f"{', '.join(doubtful)}: the two scorers correlate by less than {MIN_AGREEMENT}, so at least one "
        "sees something else, and the scores mean little; train the networks longer"
    ]


def doubts_of_choice(direction: Direction) -> list[str]:
    """A warning if the chosen faces do not determine the direction; see `from_choice`."""
    faces, right = direction.scores["faces"], direction.scores["held_out"]
    if faces < FEW_FACES:
        return [
            f"warning: {faces} faces are too few for a direction, which is mostly chance; choose at least "
            f"{FEW_FACES}, better 20, half of them for --minus"
        ]
    if right is not None and right < MIN_HELD_OUT:
        return [
            f"warning: the faces hardly agree on a direction: {right:.0%} are on the right side of one that "
            "is found from the others, where chance is 50%; choose more faces, or clearer ones"
        ]
    return []


def save_sheet(generator: LoadedGenerator, directions: Directions, path: Path) -> None:
    """Write a PNG with a strip for each direction: the same faces, moved from -3 to 3.

    Raises:
        UserError: the file cannot be written.
    """
    z = draw(SHEET_FACES, generator.latent_size, generator.seed)
    scale = max(1, -(-MIN_SIDE // generator.image_size))
    strips = [] if directions.names else [add_title(tile(generator.images(z), len(z)), "no directions")]
    for name, direction in directions.by_name.items():
        moved = np.stack([directions.move(z, {name: strength}) for strength in SHEET_STRENGTHS], 1)
        images = generator.images(moved.reshape(-1, z.shape[1]))
        strip = tile(np.stack([scale_image(image, scale) for image in images]), len(images))
        strips.append(add_title(strip, caption(name, direction)))
    with report_write_errors(path):
        save_png(path, _below(strips), {"run": generator.run.resolve().name, "step": generator.step})


def caption(name: str, direction: Direction) -> str:
    """A direction's name and scores, for a picture."""
    scores = direction.scores
    parts = [
        f"{title} {form.format(scores[key])}"
        for key, title, form in (
            ("effect", "effect", "{:+.2f}"),
            ("leak", "leak", "{:.2f}"),
            ("random_leak", "random leak", "{:.2f}"),
            ("share", "share of the change", "{:.1%}"),
        )
        if scores.get(key) is not None
    ]
    return f"{name}, by {direction.source}: -3 to 3{''.join(f'; {part}' for part in parts)}"


def _cell(value: Any, form: str) -> str:
    return "" if value is None else form.format(value)


def _below(pictures: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Join pictures uint8 [3, H, W] of any widths, below one another."""
    width = max(picture.shape[2] for picture in pictures)
    padding = [(0, 0), (0, 4)]
    padded = [
        np.pad(picture, [*padding, (0, width - picture.shape[2])], constant_values=BACKGROUND)
        for picture in pictures
    ]
    return np.concatenate(padded, axis=1)
