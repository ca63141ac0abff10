"""An evaluation as its reader sees it: a table, the same as JSON, and two pictures."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from engine.files import atomic_write
from engine.png import save_png
from gan.generator import LoadedGenerator
from gan.latent.render import writing
from gan.metrics.compare import MAX_PIXEL_IMAGES, direction
from gan.metrics.evaluate import Evaluation, Score
from gan.metrics.features import FeatureSpace
from gan.metrics.references import Reference
from images.decode import DECODER
from images.tiles import tile

SHOWN = 64
"""Generated and real images at most in the picture that shows them side by side."""
SIGNS = {"lower": "↓", "higher": "↑", "floor": "≈"}
LEGEND = (
    "↓ lower is better, ↑ higher is better, ≈ best where it equals its floor.",
    "floor: the same score of other real images in place of the generated ones; the best that can be had.",
    "±: standard deviation over the draws. []: interval of 95%. More on each score in docs/measures.md.",
)
"""How to read the table, line by line."""


@dataclass(frozen=True)
class Space:
    """A feature space that scores were measured in."""

    name: str
    digest: str
    length: int
    """Values of a vector."""


@dataclass(frozen=True)
class Conditions:
    """What an evaluation was made of: equal conditions give equal scores."""

    run: str
    checkpoint: str
    """Name of its file."""
    step: int
    weights: str
    """`ema` or `raw`."""
    image_size: int
    """Side in pixels."""
    images: int
    """In each set that was compared."""
    k: int
    """Neighbours of precision, recall, density and coverage."""
    seeds: tuple[int, ...]
    """Of each draw's latent vectors; the first one also decides which real images each takes."""
    real: str
    """Folder of the real images."""
    real_digest: str
    """Of all their pixels."""
    real_images: int
    """To draw from."""
    only_held_out: bool
    """Whether those are held-out ones alone."""
    trained_on: int
    """Images by which copies were told ..."""
    held_out: int
    """... and images never trained on."""
    copying: str
    """Between what copies were told, or why they were not."""
    resizer: str
    """Of the real images; each feature space has another, the same for both sides, told by its digest."""
    spaces: tuple[Space, ...]


def conditions_of(
    generator: LoadedGenerator,
    reference: Reference,
    spaces: Sequence[FeatureSpace],
    *,
    count: int,
    k: int,
    seeds: Sequence[int],
    only_held_out: bool,
) -> Conditions:
    """The conditions of an evaluation of a generator against a reference, in these feature spaces."""
    return Conditions(
        run=generator.run.resolve().name,
        checkpoint=generator.checkpoint.name,
        step=generator.step,
        weights=generator.weights,
        image_size=generator.image_size,
        images=count,
        k=k,
        seeds=tuple(seeds),
        real=str(reference.folder),
        real_digest=reference.digest,
        real_images=len(reference.faces.pool),
        only_held_out=only_held_out,
        trained_on=len(reference.faces.train),
        held_out=len(reference.faces.held_out),
        copying=reference.copying,
        resizer=f"resized by Lanczos, antialiased (decoder {DECODER})",
        spaces=tuple(Space(space.name, space.digest, space.length) for space in spaces),
    )


def table(evaluation: Evaluation, conditions: Conditions) -> str:
    """The table as lines of text: conditions, then a part for each feature space, and how to read it."""
    seeds = ", ".join(map(str, conditions.seeds))
    kind = "held-out " if conditions.only_held_out else ""
    lines = [
        f"{conditions.run}, step {conditions.step:,}, {conditions.weights} weights "
        f"of {conditions.checkpoint}",
        f"{conditions.images:,} generated images against {conditions.images:,} of {conditions.real_images:,} "
        f"{kind}images in {conditions.real}",
        f"{conditions.image_size} px; {conditions.resizer}; k = {conditions.k}; "
        f"{len(conditions.seeds)} draws, seeds {seeds}",
        f"copies: {conditions.copying}",
    ]
    pixels_of = min(conditions.images, MAX_PIXEL_IMAGES)
    titles = {
        "": f"pixels, no network (of {pixels_of:,} images; MS-SSIM of pairs of all)",
        **{
            space.name: f"features: {space.name} (digest {space.digest}, {space.length:,} values)"
            for space in conditions.spaces
        },
    }
    rows = {
        titles[space]: [_row(*named) for named in scores.items()]
        for space, scores in evaluation.scores.items()
    }
    header = ("", "", "score", "floor")
    every = [header, *(row for part in rows.values() for row in part)]
    widths = [max(len(row[column]) for row in every) for column in range(len(header))]
    for title, part in rows.items():
        lines += ["", title, _aligned(header, widths), *(_aligned(row, widths) for row in part)]
    return "\n".join([*lines, "", *LEGEND])


def save(evaluation: Evaluation, conditions: Conditions, folder: Path) -> Path:
    """Write the scores as JSON and beside them the pictures; return the JSON's path.

    The name tells the step and ends in a digest of the conditions, so that no evaluation takes the
    place of one that was made otherwise. `...-faces.png` shows generated images on the left and real ones
    on the right; `...-nearest.png` the likely_copies of copying, each before its nearest training images.

    Args:
        evaluation: what was found.
        conditions: how.
        folder: where to write; made where it is missing.

    Raises:
        UserError: the folder cannot be written to.
    """
    facts = asdict(conditions)
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:8]
    weights = ["raw"] if conditions.weights == "raw" else []
    features = "+".join(space.name for space in conditions.spaces)
    parts = [f"step_{conditions.step:06d}", *weights, features, str(conditions.images), digest]
    place = folder / f"{'-'.join(parts)}.json"
    scores = {
        space or "pixels": {name: _as_json(name, score) for name, score in named.items()}
        for space, named in evaluation.scores.items()
    }
    text = {"run": conditions.run, "step": conditions.step, "weights": conditions.weights}
    with writing(place):
        with atomic_write(place) as path:
            written = json.dumps({"conditions": facts, "scores": scores}, indent=2, ensure_ascii=False)
            path.write_text(f"{written}\n", encoding="utf-8", errors="backslashreplace")
        save_png(_beside(place, "faces"), _side_by_side(evaluation), text)
        if evaluation.likely_copies is not None:
            rows, columns = evaluation.likely_copies.shape[:2]
            images = evaluation.likely_copies.reshape(rows * columns, *evaluation.likely_copies.shape[2:])
            save_png(_beside(place, "nearest"), tile(images, columns), text)
    return place


def format_mean_std(value: float, spread: float) -> str:
    """A number and its spread, as far as the spread's second digit: `12.34 ± 0.21`."""
    digits = 3 if spread == 0 else min(max(1 - math.floor(math.log10(spread)), 0), 7)
    return f"{value:.{digits}f} ± {spread:.{digits}f}"


def _row(name: str, score: Score) -> tuple[str, str, str, str]:
    cells = (
        format_mean_std(value, spread) + (f" [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else "")
        for value, spread, interval in (
            (score.value, score.spread, score.interval),
            (score.floor, score.floor_spread, score.floor_interval),
        )
    )
    return (name, SIGNS[direction(name)], *cells)


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
    return f"  {padded[0]} {padded[1]}  {padded[2]}  {padded[3]}".rstrip()


def _as_json(name: str, score: Score) -> dict[str, object]:
    values = {
        "better": direction(name),
        "score": score.value,
        "spread": score.spread,
        "floor": score.floor,
        "floor_spread": score.floor_spread,
    }
    return values | {key: value for key, value in asdict(score).items() if value is not None}


def _side_by_side(evaluation: Evaluation) -> np.ndarray:
    """Generated images left, real ones right, as two square grids of one picture."""
    side = math.isqrt(min(SHOWN, len(evaluation.generated)))
    grids = [tile(images[: side**2], side) for images in (evaluation.generated, evaluation.real)]
    return tile(np.stack(grids), 2)


def _beside(place: Path, what: str) -> Path:
    return place.with_name(f"{place.stem}-{what}.png")
