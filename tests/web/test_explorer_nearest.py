"""The training images nearest to a face, as the explorer's page asks for them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from engine.errors import UserError
from gan.config import read_info
from gan.export.generator_file import save_generator
from gan.generator import load_generator
from gan.latent.vectors import draw
from gan.metrics.nearest import TrainingImages
from gan.metrics.references import load_reference
from tests.web.explorer_client import client, question
from tests.web.made_generator import made_generator
from web.text import data_url, decode_vector


def test_the_nearest_are_offered_only_where_there_are_training_images(tiny_run, tmp_path):
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    save_generator(made_generator(), tmp_path / "faces.safetensors")

    def is_offered(place: Path | None) -> bool:
        return client(place).get("/api/explorer/nearest").json()["available"]

    assert is_offered(run)
    assert not is_offered(tmp_path / "faces.safetensors")
    assert not is_offered(None)
    for config in (json.dumps({"data": {"folder": str(tmp_path / "gone")}}), '{"data": {"folder": 3}}', "{"):
        (run / "config.json").write_text(config)
        assert not is_offered(run)


def test_the_nearest_training_images_of_a_face(tiny_run):
    generator = load_generator(tiny_run)
    z = draw(3, generator.latent_size, 9)[2]
    answer = client(tiny_run).post("/api/explorer/nearest", content=question(z))
    assert answer.status_code == 200, answer.text
    faces = answer.json()["faces"]
    assert len(faces) == 6
    assert [face["distance"] for face in faces] == sorted(face["distance"] for face in faces)
    data = load_reference(read_info(tiny_run), None).faces
    images, distances = TrainingImages.of(data.images, data.train).nearest(generator.images(z[None])[0])
    assert [face["image"] for face in faces] == [data_url(image) for image in images]
    assert [face["distance"] for face in faces] == pytest.approx(list(distances))


def test_an_exported_generator_has_no_training_images(tmp_path):
    save_generator(made_generator(), tmp_path / "faces.safetensors")
    answer = client(tmp_path / "faces.safetensors").post(
        "/api/explorer/nearest", content=question(np.zeros(20))
    )
    assert answer.status_code == 400
    assert "does not name its training images" in answer.json()["error"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"z": 3}',
        b'{"z": "%%"}',
        b'{"z": "AAA"}',
        b'{"z": ""}',
        b'{"z": "AADAfw"}',
        b"[" * 9999,
    ],
)
def test_a_bad_vector_is_refused(body, tmp_path):
    with pytest.raises(UserError, match="no latent vector"):
        decode_vector(body)
    save_generator(made_generator(), tmp_path / "faces.safetensors")
    assert (
        client(tmp_path / "faces.safetensors").post("/api/explorer/nearest", content=body).status_code == 400
    )


def test_a_vector_of_another_length_is_refused(tmp_path):
    save_generator(made_generator(), tmp_path / "faces.safetensors")
    answer = client(tmp_path / "faces.safetensors").post(
        "/api/explorer/nearest", content=question(np.zeros(7))
    )
    assert "a latent vector has 20 values, not 7" in answer.json()["error"]
