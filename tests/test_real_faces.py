"""A run on real photographs: set FACE_LAB_FACES to a folder of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engine.png import load_png
from gan.generator import load_generator
from gan.metrics.pixels import checkerboard_energy, pairwise_distances
from tests.run_contents import newest_run, read_config

FACES = os.environ.get("FACE_LAB_FACES")
pytestmark = pytest.mark.skipif(not FACES, reason="FACE_LAB_FACES is not set")


def test_every_photo_is_used_and_the_run_has_a_generator(train: Callable[..., int]):
    assert train(FACES, "--steps", 4, "--workers", 2) == 0
    data = read_config(newest_run())["data"]
    photos = [path for path in Path(FACES).rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png")]
    assert (data["images"], data["skipped"]) == (len(photos), 0)
    images = load_generator(newest_run()).images(np.zeros((1, 100), np.float32))
    assert images.shape == (1, 3, 32, 32)


def test_pixel_metrics_recognise_copies_and_checkerboards(train: Callable[..., int]):
    assert train(FACES, "--steps", 1, "--workers", 2) == 0
    grid = load_png(newest_run() / "real.png")
    side = 32 + 2
    corners = [(y, x) for y in range(0, 8 * side, side) for x in range(0, 8 * side, side)]
    faces = np.stack([grid[:, y : y + 32, x : x + 32] for y, x in corners])
    assert pairwise_distances(faces).min() > 0.05
    rows, columns = np.indices((32, 32))
    checkerboards = (faces.astype(int) + 10 * ((rows + columns) % 2)).clip(0, 255).astype(np.uint8)
    assert checkerboard_energy(checkerboards) > 1.5 * checkerboard_energy(faces)
