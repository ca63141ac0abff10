import base64
import json
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

from engine.errors import UserError
from gan.export.generator_file import save_generator
from gan.generator import load_generator
from gan.latent.vectors import draw
from gan.metrics.nearest import TrainingImages
from tests.web.made_generator import made_directions, made_generator
from web.context import Context
from web.explorer import decode_vector
from web.server import create_app


def client(run: Path) -> TestClient:
    return TestClient(create_app(Context(run)), base_url="http://127.0.0.1")


def question(z) -> str:
    return json.dumps({"z": base64.urlsafe_b64encode(np.asarray(z, "<f4").tobytes()).decode().rstrip("=")})


def test_the_weights_are_those_of_the_run_with_its_directions(tmp_path):
    generator = made_generator()
    save_generator(generator, tmp_path / "faces.safetensors")
    made_directions(generator).save(tmp_path / "faces.directions.safetensors")
    answer = client(tmp_path / "faces.safetensors").get("/api/explorer/weights")
    assert answer.status_code == 200
    size = int.from_bytes(answer.content[:8], "little")
    description = json.loads(json.loads(answer.content[8 : 8 + size])["__metadata__"]["page"])
    assert [row["name"] for row in description["directions"][:3]] == ["smile", "glasses", "yaw"]
    assert description["digest"] == generator.digest


def test_without_a_run_the_page_says_how_to_make_one(tmp_path):
    answer = TestClient(create_app(Context(None, tmp_path)), base_url="http://127.0.0.1").get(
        "/api/explorer/weights"
    )
    assert answer.status_code == 400
    assert "train_gan.py" in answer.json()["error"]


def test_the_nearest_training_images_of_a_face(tiny_run):
    generator = load_generator(tiny_run)
    z = draw(3, generator.latent_size, 9)[2]
    answer = client(tiny_run).post("/api/explorer/nearest", content=question(z))
    assert answer.status_code == 200, answer.text
    faces = answer.json()["faces"]
    assert len(faces) == 6
    assert [face["distance"] for face in faces] == sorted(face["distance"] for face in faces)
    assert faces[0]["image"].startswith("data:image/png;base64,")


def test_a_copy_is_nearest_to_its_original_even_shifted_and_mirrored():
    images = np.random.default_rng(0).integers(0, 256, (30, 3, 8, 8), np.uint8).repeat(4, 2).repeat(4, 3)
    training = TrainingImages.of(images)
    copy = np.roll(images[17], 1, axis=2)[..., ::-1]
    found, distances = training.nearest(copy, 3)
    assert np.array_equal(found[0], images[17])
    assert distances[0] < 0.5 < distances[1]
    assert distances[1:] == pytest.approx([1, 1], abs=0.4)


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
