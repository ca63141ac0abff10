"""Run folders for the pages, without any training."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from engine.png import save_png
from engine.runs import checkpoint_path, sample_path
from images.tiles import tile

SIZE, TILES, COLUMNS = 16, 16, 8
"""Of the grids: side of a tile in pixels, tiles, and tiles in a row."""


def make_run(
    folder: Path,
    *,
    kind: str = "gan",
    steps: int | None = 1000,
    minutes: float | None = None,
    logged: int = 500,
    samples: tuple[int, ...] = (0, 100, 200, 300, 400, 500),
) -> Path:
    """A run with metrics at every 10 steps, scores at every 100, and sample grids."""
    folder.mkdir(parents=True)
    settings = {"steps": steps, "minutes": minutes, "batch_size": 32, "image_size": SIZE, "seed": 1}
    config = {"settings": settings, "data": {"images": 1000}, "environment": {"python": "3.11"}}
    if kind != "gan":
        config = {"kind": kind, **config}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "metrics.jsonl").write_text("".join(line(step, kind) for step in range(10, logged + 1, 10)))
    for step in samples:
        add_sample(folder, step, 3 * SIZE if kind == "landmarks" else SIZE)
    checkpoint_path(folder, logged).parent.mkdir()
    checkpoint_path(folder, logged).touch()
    return folder


def line(step: int, kind: str = "gan") -> str:
    """A line of metrics.jsonl."""
    values: dict[str, float] = {"speed/images_per_second": 64.0}
    scored = step % 100 == 0
    if kind == "gan":
        values |= {"loss/discriminator": 0.5 + 10 / step, "loss/generator": 2.0, "gradient/generator": 30.0}
        values |= {"score/kid": 1 + abs(step - 300) / 100, "score/coverage": step / 1000} if scored else {}
    else:
        metric = {"landmarks": "score/nme", "classifier": "score/error"}[kind]
        values |= {"loss/training": 100 / step, "gradient/norm": 3.0}
        values |= {metric: 10 / step} if scored else {}
    return json.dumps({"step": step, **values}) + "\n"


def add_sample(folder: Path, step: int, size: int = SIZE) -> None:
    """A grid whose tiles have the level of their number, and a red level of the step."""
    tiles = np.zeros((TILES, 3, size, size), np.uint8)
    tiles[:, 1] = (10 * np.arange(TILES))[:, None, None]
    tiles[:, 0] = step % 256
    sample_path(folder, step).parent.mkdir(exist_ok=True)
    save_png(sample_path(folder, step), tile(tiles, COLUMNS), durable=False)
