import asyncio
import io
import json
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import httpx
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import save_file
from starlette.testclient import TestClient

from engine.errors import UserError
from engine.runs import best_path, find_checkpoint
from gan.export.generator_file import load_generator_file, save_generator
from gan.export.onnx_file import fold_batch_norm as fold_with_torch
from gan.export.page_weights import PageGenerator, fold_batch_norm, page_weights
from gan.generator import load_generator
from gan.latent.directions import Directions
from gan.latent.vectors import draw
from gan.metrics.nearest import TrainingImages
from tests.web.made_generator import made_directions, made_generator
from tests.web.serving import serving
from web.context import Context
from web.page_cache import checkpoint_state, load_page
from web.server import create_app
from web.text import decode_vector, encode_vector


def client(run: Path | None) -> TestClient:
    return TestClient(create_app(Context(run)), base_url="http://127.0.0.1")


def question(z) -> str:
    return json.dumps({"z": encode_vector(np.asarray(z, np.float32))})


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


def test_a_file_is_read_without_torch_as_with_it(tmp_path):
    for half in (False, True):
        generator, file = made_generator(), tmp_path / f"{half}.safetensors"
        save_generator(generator, file, half=half, directions=made_directions(generator))
        read = PageGenerator.read(file)
        assert read.digest == generator.digest
        loaded = load_generator_file(file, tmp_path)
        assert page_weights(read) == page_weights(loaded)
        assert Directions.of(read).names == ("smile", "glasses", "yaw")
    code = "import sys, pathlib, web.explorer as e; e.load_page(pathlib.Path(sys.argv[1]), None)"
    code += "; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, file], check=True)


@pytest.mark.parametrize("how", ["of a later version", "of another shape", "with NaN"])
def test_a_file_that_torch_would_refuse_is_not_read_without_it(how, tmp_path):
    file = tmp_path / "faces.safetensors"
    save_generator(made_generator(), file)
    with safe_open(file, "np") as opened:
        metadata, tensors = opened.metadata(), {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    if how == "of a later version":
        metadata["format"] += "0"
    elif how == "of another shape":
        tensors["layers.2.weight"] = tensors["layers.2.weight"][:, :, :3].copy()
    else:
        tensors["layers.2.weight"][0] = np.nan
    save_file(tensors, file, metadata)
    assert PageGenerator.read(file) is None
    assert client(file).get("/api/explorer/weights").status_code == 400


def test_folded_weights_are_those_that_torch_folds():
    generator = made_generator()
    torch_layers = [layer for layer in fold_with_torch(generator.network) if hasattr(layer, "weight")]
    folded = fold_batch_norm(PageGenerator.of(generator).state)
    assert len(folded) == 5
    for (weight, bias), layer in zip(folded, torch_layers, strict=True):
        assert weight == pytest.approx(layer.weight.numpy(), rel=1e-5, abs=1e-7)
        assert bias == pytest.approx(layer.bias.numpy(), rel=1e-4, abs=1e-6)


def test_the_page_of_a_run_is_kept_until_something_changes(tiny_run, tmp_path):
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    loaded = []

    def load():
        state = checkpoint_state(run)
        loaded.append(load_generator(run))
        return loaded[-1], state

    first = load_page(run, load)
    assert load_page(run, load) == first
    assert len(loaded) == 1
    made_directions(loaded[0]).save(run / "directions.safetensors")
    assert b"glasses" in load_page(run, load)
    assert len(loaded) == 2
    (run / "page.safetensors").write_bytes(b"damaged")
    assert b"glasses" in load_page(run, load)
    assert len(loaded) == 3
    best_path(run).touch()
    load_page(run, load)
    assert len(loaded) == 4


def test_a_page_of_older_weights_is_not_kept_as_that_of_a_newer_checkpoint(tiny_run, tmp_path):
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    before = load_generator(run), checkpoint_state(run)
    best_path(run).touch()
    load_page(run, lambda: before)
    loaded = []
    load_page(run, lambda: loaded.append(1) or (load_generator(run), checkpoint_state(run)))
    assert loaded == [1]


def replace_weights(run: Path) -> None:
    """A better step, as a run saves it."""
    state = torch.load(find_checkpoint(run, None))
    for name in ("generator", "average"):
        next(iter(state[name].values())).mul_(2)
    torch.save(state, best_path(run))


def digest_of(weights: bytes) -> str:
    size = int.from_bytes(weights[:8], "little")
    return json.loads(json.loads(weights[8 : 8 + size])["__metadata__"]["page"])["digest"]


def test_a_page_of_a_replaced_generator_is_told_to_reload(tiny_run, tmp_path, monkeypatch):
    monkeypatch.setattr("lab.fitting.PhotoFitter", Fitter)
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    visitor = client(run)
    z = question(np.zeros(load_generator(run).latent_size))

    def ask(path: str, digest: str, content: bytes | str) -> tuple[int, str]:
        answer = visitor.post(f"/api/explorer/{path}", params={"generator": digest}, content=content)
        return answer.status_code, answer.json().get("error", "")

    before = digest_of(visitor.get("/api/explorer/weights").content)
    assert ask("nearest", before, z) == ask("photo", before, jpeg()) == (200, "")
    replace_weights(run)
    newer = (409, "the run has newer weights: reload the page to see them")
    assert ask("nearest", before, z) == ask("photo", before, jpeg()) == newer
    # Another tab that has the newer weights changes nothing for the older one.
    now = digest_of(visitor.get("/api/explorer/weights").content)
    assert now == load_generator(run).digest != before
    assert ask("nearest", before, z) == newer
    assert ask("nearest", now, z) == ask("photo", now, jpeg()) == (200, "")


def test_a_file_that_was_exported_again_is_loaded_again(tmp_path):
    file = tmp_path / "faces.safetensors"
    visitor = client(file)
    for seed in (0, 1):
        generator = made_generator(seed=seed)
        save_generator(generator, file)
        assert digest_of(visitor.get("/api/explorer/weights").content) == generator.digest


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


def test_directions_of_another_generator_are_left_out_and_said(tmp_path):
    save_generator(made_generator(), tmp_path / "faces.safetensors")
    other = made_generator(seed=1)
    made_directions(other).save(tmp_path / "faces.directions.safetensors")
    weights = load_page(tmp_path / "faces.safetensors", None)
    size = int.from_bytes(weights[:8], "little")
    description = json.loads(json.loads(weights[8 : 8 + size])["__metadata__"]["page"])
    assert "belongs to another generator" in description["note"]
    assert [row["name"] for row in description["directions"]] == [f"sefa_{i}" for i in range(1, 9)]


def test_a_damaged_file_is_refused_as_elsewhere(tmp_path):
    (tmp_path / "faces.safetensors").write_bytes(b"damaged")
    answer = client(tmp_path / "faces.safetensors").get("/api/explorer/weights")
    assert "is damaged, or not a .safetensors file" in answer.json()["error"]


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


def test_only_training_images_are_searched_and_mapped_ones_are_not_copied(tmp_path, monkeypatch):
    monkeypatch.setattr("gan.metrics.nearest.PART", 7)
    images = np.random.default_rng(0).integers(0, 256, (30, 3, 8, 8), np.uint8).repeat(4, 2).repeat(4, 3)
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    training = TrainingImages.of(mapped, np.arange(29, 9, -1))
    assert training.images is mapped
    found, distances = training.nearest(images[17], 3)
    assert np.array_equal(found[0], images[17])
    assert distances[0] < 0.1
    found, distances = training.nearest(images[3], 20)
    assert len(found) == 16  # at most
    assert distances[0] > 0.5


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


@pytest.fixture
def file(tmp_path):
    save_generator(made_generator(), tmp_path / "faces.safetensors")
    return tmp_path / "faces.safetensors"


def jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (50, 40), "red").save(buffer, "JPEG")
    return buffer.getvalue()


def test_a_photo_becomes_a_face(file, monkeypatch):
    monkeypatch.setattr("lab.fitting.PhotoFitter", Fitter)
    visitor = client(file)
    answer = visitor.post("/api/explorer/photo", content=jpeg())
    assert answer.status_code == 200, answer.text
    assert decode_vector(answer.content) == pytest.approx(draw(1, 20, 4)[0])
    assert "2 faces" in answer.json()["note"]
    assert answer.json()["image"].startswith("data:image/png")
    assert visitor.get("/api/explorer/photo").json()["progress"] is None


class EndlessFitter(Fitter):
    started = threading.Event()

    def fit_faces(self, faces, progress):
        for step in range(3000):
            progress(step / 3000)
            self.started.set()
            time.sleep(0.01)
        raise AssertionError("not cancelled")


def test_a_fit_ends_with_the_server(file, monkeypatch):
    monkeypatch.setattr("lab.fitting.PhotoFitter", EndlessFitter)
    EndlessFitter.started.clear()
    context = Context(file)
    with serving(context) as address, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(httpx.post, f"{address}/api/explorer/photo", content=jpeg(), timeout=60)
        assert EndlessFitter.started.wait(30)
        context.closing.set()
        assert "the server stops" in answer.result(10).text


def test_a_fit_ends_when_the_page_has_gone_and_lets_others_upload_meanwhile(file, monkeypatch):
    monkeypatch.setattr("lab.fitting.PhotoFitter", EndlessFitter)
    monkeypatch.setattr("web.explorer.WATCH_SECONDS", 0.05)
    EndlessFitter.started.clear()
    with serving(Context(file)) as address:
        url = f"{address}/api/explorer/photo"
        for _ in range(3):  # more than may be in memory at once
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(url, content=jpeg(), timeout=httpx.Timeout(30, read=1))
        assert EndlessFitter.started.is_set()
        # A fourth is read while others may still be fitted.
        assert "cannot be used" in httpx.post(url, content=b"no photo", timeout=20).text
        deadline = time.monotonic() + 10
        while httpx.get(url).json()["progress"] and time.monotonic() < deadline:
            time.sleep(0.05)
        assert httpx.get(url).json()["progress"] is None


def test_a_stalled_upload_does_not_keep_its_place(file, monkeypatch):
    monkeypatch.setattr("web.uploads.SECONDS", 0.2)

    def stalled():
        yield b"a"
        time.sleep(2)
        yield b"b"

    with serving(Context(file)) as address:
        answer = httpx.post(f"{address}/api/explorer/photo", content=stalled(), timeout=20)
    assert answer.status_code == 408


def test_a_thread_that_used_torch_before_computes_on_one_core_from_then_on(file):
    context, threads = Context(file), torch.get_num_threads()

    async def count() -> tuple[int, int]:
        await context.compute(torch.set_num_threads, 3)
        before = await context.compute(torch.get_num_threads)
        await context.compute(context.generator)
        return before, await context.compute(torch.get_num_threads)

    assert asyncio.run(count()) == (3, 1)
    torch.set_num_threads(threads)


def test_a_photo_that_cannot_be_used_is_refused(file, monkeypatch):
    monkeypatch.setattr("lab.fitting.PhotoFitter", Fitter)
    monkeypatch.setattr(Finder, "__call__", lambda self, photo: [])
    monkeypatch.setattr("web.photo_faces.MAX_PIXELS", 3000)
    answers = [client(file).post("/api/explorer/photo", content=data) for data in (b"", b"no photo", jpeg())]
    assert [answer.status_code for answer in answers] == [400, 400, 400]
    assert "cannot be used" in answers[1].json()["error"]
    assert "there is no face in this photo" in answers[2].json()["error"]
    monkeypatch.setattr("web.photo_faces.MAX_PIXELS", 1000)
    assert "cannot be used" in client(file).post("/api/explorer/photo", content=jpeg()).json()["error"]
