"""A generator that draws: every attribute of its faces is known."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image

from faces.drawn import Face, draw_face, sample_person, sample_scene
from gan.latent.gaussian import to_gaussian
from tests.in_process import succeed

SIDE = 40
GLASSES, SMILE, TURN, BACKGROUND, SKIN, FREE = range(6)
"""Values of the latent vector, and what they draw."""


def drawn(u: np.ndarray) -> Face:
    """The face of a vector u: glasses where the first value is above 0.5, and so on."""
    squashed = np.tanh(u / 2)
    scene = replace(
        sample_scene(0, 3),
        glasses="square" if u[GLASSES] > 0.5 else "none",
        glasses_colour=0,
        hat="none",
        smile=round(float(squashed[SMILE]), 4),
        turn=round(float(squashed[TURN]), 4),
        background_lightness=round(float(squashed[BACKGROUND] + 1) / 2, 4),
    )
    person = replace(sample_person(0, 4), skin_tone=round(float(squashed[SKIN] + 1) / 2, 4), beard="none")
    return Face(person, scene)


@dataclass(frozen=True)
class DrawingGenerator:
    """Stands in for a `LoadedGenerator`."""

    run: Path = Path("0001-drawing-40px")
    step: int = 0
    seed: int = 1
    latent_size: int = 6
    image_size: int = SIDE
    network: torch.nn.Module = field(default_factory=lambda: torch.nn.Linear(1, 1))

    def images(self, z: np.ndarray) -> np.ndarray:
        faces = [draw_face(drawn(u), SIDE)[0] for u in to_gaussian(z)]
        return np.stack(faces).transpose(0, 3, 1, 2)


@pytest.fixture(scope="session")
def drawing() -> DrawingGenerator:
    return DrawingGenerator()


@pytest.fixture(scope="session")
def glasses_runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two classifiers of glasses, trained on other drawings with other seeds."""
    folder = tmp_path_factory.mktemp("glasses")
    for index, u in enumerate(np.random.default_rng(9).normal(size=(160, 6))):
        place = folder / "faces" / ("glasses" if u[GLASSES] > 0.5 else "none")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw_face(drawn(u), SIDE)[0]).save(place / f"{index}.png")
    flags = ("--image-size", 32, "--steps", 80, "--batch-size", 24, "--device", "cpu", "--workers", 0)
    flags += ("--cache", folder / "cache", "--output", folder / "runs", "--ema-half-life", 300)
    with mock.patch("faces.recognition.report._draw", return_value=[]):  # charts take long
        for seed in (0, 1):
            succeed("train_classifier.py", folder / "faces", *flags, "--score-every", 80, "--seed", seed)
    return sorted((folder / "runs").iterdir())
