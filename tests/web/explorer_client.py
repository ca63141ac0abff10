"""A client of the explorer's routes, and what its requests and answers are made of."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image
from starlette.testclient import TestClient

from engine.runs import best_path, find_checkpoint
from gan.latent.vectors import draw
from web.context import Context
from web.server import create_app
from web.text import encode_vector


def client(run: Path | None) -> TestClient:
    return TestClient(create_app(Context(run)), base_url="http://127.0.0.1")


def question(z) -> str:
    return json.dumps({"z": encode_vector(np.asarray(z, np.float32))})


def jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (50, 40), "red").save(buffer, "JPEG")
    return buffer.getvalue()


def digest_of(weights: bytes) -> str:
    size = int.from_bytes(weights[:8], "little")
    return json.loads(json.loads(weights[8 : 8 + size])["__metadata__"]["page"])["digest"]


def replace_weights(run: Path) -> None:
    """A better step, as a run saves it."""
    state = torch.load(find_checkpoint(run, None))
    for name in ("generator", "average"):
        next(iter(state[name].values())).mul_(2)
    torch.save(state, best_path(run))


class Finder:
    def __call__(self, photo):
        assert photo.shape == (3, 40, 50)
        return ["a face", "another"]


class Fitter:
    """Stands in for PhotoFitter, which needs a trained encoder and minutes."""

    def __init__(self, generator, progress):
        progress(0.5)
        self.finder, self.generator = Finder(), generator

    def fit_faces(self, faces, progress):
        assert faces == ["a face"]
        z = draw(1, self.generator.latent_size, 4)[0]
        found = SimpleNamespace(crop=self.generator.images(z[None])[0])
        return [SimpleNamespace(z=z, psnr=21.3, found=found)]
