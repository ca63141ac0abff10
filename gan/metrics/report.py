"""The report of an evaluation: a table, a JSON file and two pictures."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from engine.files import atomic_write
from engine.png import save_png
from engine.runs import report_write_errors
from gan.generator import LoadedGenerator
from gan.metrics.compare import MAX_PIXEL_IMAGES, Images, direction
from gan.metrics.evaluate import Evaluation, Score
from gan.metrics.features import FeatureSpace
from gan.metrics.references import Reference
from gan.metrics.verdict import LEGEND as VERDICT_LEGEND
from gan.metrics.verdict import verdict
from images.decode import DECODER
from images.tiles import add_title, beside, tile

SCORES_VERSION = 2
"""Version of the definitions of the scores. Version 1 defined MS-SSIM and `close to training` differently."""
MAX_SHOWN = 64
"""Generated and real images in the picture that shows them side by side."""
SPACES = {"random": "random, the project's small network"}
"""Feature spaces whose names need an explanation."""
ARROWS = {"lower": "↓", "higher": "↑", "floor": "≈"}
LEGEND = (
    "↓ lower is better, ↑ higher is better, ≈ best where it equals its floor.",
    "Fréchet distance: called FID in Inception's features only, as others cannot be compared with it.",
    "floor: the score of other real images in place of the generated ones, as of a perfect generator.",
    "±: standard deviation over the draws. []: 95% confidence interval. See docs/measures.md for each score.",
    VERDICT_LEGEND,
)


@dataclass(frozen=True)
class FeatureSpaceInfo:
    """A feature space that scores were measured in."""

    name: str
    digest: str
    length: int
    """Values of a feature vector."""


@dataclass(frozen=True)
class Conditions:
    """The inputs of an evaluation: equal conditions give equal scores."""

    run: str
    checkpoint: str
    """File name."""
    step: int
    weights: str
    """`ema` or `raw`."""
    generator: str
    """Digest of these weights: another file may have the same name, run and step."""
    image_size: int
    """Side in pixels."""
    images: int
    """Images in each compared set."""
    k: int
    """Neighbours of precision, recall, density and coverage."""
    seeds: tuple[int, ...]
    """Seed of each draw's latent vectors; the first one also selects the real images of all draws."""
    real: str
    """Folder of real images."""
    real_digest: str
    """Digest of all their pixels."""
    real_images: int
    """Size of the pool."""
    only_held_out: bool
    """Whether the pool contains held-out images only."""
    trained_on: int
    """Number of training images in which copies are searched."""
    held_out: int
    """Number of held-out images."""
    copying: str
    """Which images the search for copies used, or why there was none."""
    resizer: str
    """How real images were resized; each feature space resizes both sides again, as its digest says."""
    spaces: tuple[FeatureSpaceInfo, ...]
    scores_version: int = SCORES_VERSION


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
    """Collect the conditions of an evaluation."""
    return Conditions(
        run=generator.run.resolve().name,
        checkpoint=generator.checkpoint.name,
        step=generator.step,
        weights=generator.weights,
        generator=generator.digest,
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
        spaces=tuple(FeatureSpaceInfo(space.name, space.digest, space.length) for space in spaces),
    )


def table(evaluation: Evaluation, conditions: Conditions) -> str:
    """Format the conditions, the scores of each feature space and a legend as lines of text."""
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
    pixel_images = min(conditions.images, MAX_PIXEL_IMAGES)
    titles = {
        "": f"pixels, no network (first {pixel_images:,} images; MS-SSIM and close to training: all images)",
        **{
            space.name: f"features: {SPACES.get(space.name, space.name)} "
            f"(digest {space.digest}, {space.length:,} values)"
            for space in conditions.spaces
        },
    }
    rows = {
        titles[space]: [_row(name, score) for name, score in scores.items()]
        for space, scores in evaluation.scores.items()
    }
    header = ("", "", "score", "floor")
    all_rows = [header, *(row for part in rows.values() for row in part)]
    widths = [max(len(row[column]) for row in all_rows) for column in range(len(header))]
    for title, part in rows.items():
        lines += ["", title, _aligned(header, widths), *(_aligned(row, widths) for row in part)]
    return "\n".join([*lines, "", *LEGEND])


def save(evaluation: Evaluation, conditions: Conditions, folder: Path) -> Path:
    """Write the scores as JSON and the pictures beside it; return the path of the JSON file.

    The name ends in a digest of the conditions, so only an evaluation under equal conditions replaces an
    earlier one. For the pictures see `pictures`.

    Args:
        evaluation: result of the evaluation.
        conditions: its conditions.
        folder: destination; created if missing.

    Raises:
        UserError: the folder cannot be written to.
    """
    inputs = asdict(conditions)
    digest = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:8]
    weights = ["raw"] if conditions.weights == "raw" else []
    spaces = "+".join(space.name for space in conditions.spaces)
    parts = [f"step_{conditions.step:06d}", *weights, spaces, str(conditions.images), digest]
    path = folder / f"{'-'.join(parts)}.json"
    scores = {
        space or "pixels": {name: _as_json(name, score) for name, score in named.items()}
        for space, named in evaluation.scores.items()
    }
    text = {"run": conditions.run, "step": conditions.step, "weights": conditions.weights}
    with report_write_errors(path):
        with atomic_write(path) as temporary:
            result = {
                "conditions": inputs,
                "scores": scores,
                "verdict": verdict(evaluation, conditions.images),
            }
            content = json.dumps(result, indent=2, ensure_ascii=False)
            temporary.write_text(f"{content}\n", encoding="utf-8", errors="backslashreplace")
        save_png(_picture_path(path, "faces"), _generated_and_real(evaluation), text)
        if evaluation.likely_copies is not None:
            save_png(_picture_path(path, "nearest"), _copies_and_nearest(evaluation.likely_copies), text)
    return path


def pictures(evaluation: Evaluation, path: Path) -> list[str]:
    """A line for each picture that `save` wrote beside the JSON file: its path and its content."""
    contents = {"faces": "generated images on the left, real ones on the right"}
    if evaluation.likely_copies is not None:
        contents["nearest"] = "the most likely copies, each followed by its nearest training images"
    return [f"{_picture_path(path, name)}: {content}" for name, content in contents.items()]


def format_mean_std(value: float, std: float) -> str:
    """Format a mean and a standard deviation with two digits of the latter: `12.34 ± 0.21`."""
    digits = 3 if std == 0 else min(max(1 - math.floor(math.log10(std)), 0), 7)
    return f"{value:.{digits}f} ± {std:.{digits}f}"


def _row(name: str, score: Score) -> tuple[str, str, str, str]:
    cells = (
        format_mean_std(value, std) + (f" [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else "")
        for value, std, interval in (
            (score.value, score.std, score.interval),
            (score.floor, score.floor_std, score.floor_interval),
        )
    )
    return (name, ARROWS[direction(name)], *cells)


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
    return f"  {padded[0]} {padded[1]}  {padded[2]}  {padded[3]}".rstrip()


def _as_json(name: str, score: Score) -> dict[str, object]:
    values = {
        "better": direction(name),
        "score": score.value,
        "spread": score.std,
        "floor": score.floor,
        "floor_spread": score.floor_std,
    }
    return values | {key: value for key, value in asdict(score).items() if value is not None}


def _generated_and_real(evaluation: Evaluation) -> Images:
    """One picture of two square grids: generated images on the left, real ones on the right."""
    side = math.isqrt(min(MAX_SHOWN, len(evaluation.generated)))
    titled = {"generated": evaluation.generated, "real": evaluation.real}
    return beside([add_title(tile(images[: side**2], side), title) for title, images in titled.items()])


def _copies_and_nearest(likely_copies: Images) -> Images:
    """One picture: a row for each likely copy, which is followed by its nearest training images."""
    columns = likely_copies.shape[1] - 1
    nearest = likely_copies[:, 1:].reshape(-1, *likely_copies.shape[2:])
    generated = add_title(tile(likely_copies[:, 0], 1), "generated")
    return beside([generated, add_title(tile(nearest, columns), "nearest training images")])


def _picture_path(path: Path, name: str) -> Path:
    return path.with_name(f"{path.stem}-{name}.png")
