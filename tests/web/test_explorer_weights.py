"""The weights that the explorer's page gets: what is in them, when they are made again, and refusals."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file
from starlette.testclient import TestClient

from engine.runs import best_path
from gan.export.generator_file import load_generator_file, save_generator
from gan.export.onnx_file import fold_batch_norm as fold_with_torch
from gan.export.page_weights import PageGenerator, fold_batch_norm, page_weights
from gan.generator import load_generator
from gan.latent.directions import Directions
from tests.web.explorer_client import Fitter, client, digest_of, jpeg, question, replace_weights
from tests.web.made_generator import NAMES, made_directions, made_generator
from web.context import Context
from web.page_cache import checkpoint_state, load_page
from web.server import create_app


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


def test_the_scores_of_directions_are_in_the_page():
    generator = made_generator()
    weights = page_weights(generator, made_directions(generator))
    size = int.from_bytes(weights[:8], "little")
    header = json.loads(weights[8 : 8 + size])
    table = json.loads(header["__metadata__"]["page"])["directions"]
    assert [row["name"] for row in table[:4]] == [*NAMES, "sefa_1"]
    assert table[0]["leak"] == 0.2
    assert str(Path.cwd()).encode() not in weights
