import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from safetensors import safe_open

from engine.errors import UserError
from gan.export.generator_file import PRIVATE, load_generator_file, save_generator
from gan.generator import LoadedGenerator, load_generator
from gan.latent.vectors import draw


@pytest.fixture(scope="module")
def generator(tiny_run) -> LoadedGenerator:
    return load_generator(tiny_run)


@pytest.fixture
def file(generator, tmp_path) -> Path:
    save_generator(generator, tmp_path / "faces.safetensors")
    return tmp_path / "faces.safetensors"


def contents(file: Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    with safe_open(file, "pt") as opened:
        return opened.metadata(), safetensors.torch.load_file(file)


def test_a_file_gives_the_images_of_the_run_bit_for_bit(generator, file, tmp_path):
    loaded = load_generator_file(file, tmp_path / "pictures")
    z = draw(9, generator.latent_size, 3)
    assert np.array_equal(loaded.images(z), generator.images(z))
    assert (loaded.step, loaded.weights, loaded.seed) == (generator.step, generator.weights, generator.seed)
    assert (loaded.checkpoint, loaded.run) == (file, tmp_path / "pictures" / "exported" / "faces")
    assert not loaded.is_best


def test_a_generator_of_a_run_with_excluded_images_loads(generator, tmp_path):
    settings = replace(generator.settings, exclude=("secret/*",))
    save_generator(replace(generator, settings=settings), tmp_path / "faces.safetensors")
    assert b"secret" not in (tmp_path / "faces.safetensors").read_bytes()
    assert load_generator_file(tmp_path / "faces.safetensors").settings.exclude == ()


def test_half_precision_halves_the_file_and_hardly_changes_a_pixel(generator, file, tmp_path):
    half = tmp_path / "half.safetensors"
    save_generator(generator, half, half=True)
    weights = sum(weight.numel() for weight in generator.network.parameters())
    assert file.stat().st_size - half.stat().st_size > 1.8 * weights
    z = draw(9, generator.latent_size, 3)
    images = [load_generator_file(path).images(z).astype(int) for path in (file, half)]
    assert 0 < abs(images[0] - images[1]).max() <= 2
    assert {weight.dtype for weight in load_generator_file(half).network.parameters()} == {torch.float32}


def test_a_file_contains_no_path_of_the_owner(generator, file):
    stored = file.read_bytes()
    for path in (generator.run.parent, generator.settings.output, generator.settings.folder, Path.home()):
        assert str(path).encode() not in stored
    metadata, _ = contents(file)
    assert not json.loads(metadata["settings"]).keys() & set(PRIVATE)


def test_a_generator_prints_in_one_line_and_shows_faces_in_a_notebook(generator):
    assert "\n" not in repr(generator)
    assert "100 latent values to 32 px" in repr(generator)
    assert generator._repr_png_().startswith(b"\x89PNG")


def damage(file: Path, how: str) -> None:
    metadata, tensors = contents(file)
    name = "project.weight"
    if how == "truncated":
        file.write_bytes(file.read_bytes()[:-100])
        return
    if how == "text":
        file.write_text("faces")
        return
    if how == "of another project":
        metadata = {}
    if how == "of a later version":
        metadata["format"] = "face-lab generator 2"
    if how == "without settings":
        del metadata["settings"]
    if how == "with a list for settings":
        metadata["settings"] = "[]"
    if how == "of other widths":
        metadata["settings"] = metadata["settings"].replace('"latent_size": 100', '"latent_size": 101')
    if how == "huge":
        metadata["settings"] = metadata["settings"].replace('"latent_size": 100', '"latent_size": 10000000')
    if how == "not finite":
        tensors[name][0, 0] = float("nan")
    safetensors.torch.save_file(tensors, file, metadata)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("truncated", "is damaged, or not a .safetensors file"),
        ("text", "is damaged, or not a .safetensors file"),
        ("of another project", "is not a generator that export.py wrote$"),
        ("of a later version", "is not a generator that export.py wrote; this version reads face-lab gen"),
        ("without settings", "its description cannot be read"),
        ("with a list for settings", "its description cannot be read"),
        ("of other widths", "its weights do not fit its description"),
        ("huge", "its description cannot be read"),
        ("not finite", "a weight is NaN or infinite"),
    ],
)
def test_a_bad_file_is_refused_in_one_line(file, how, message):
    damage(file, how)
    with pytest.raises(UserError, match=message) as error:
        load_generator_file(file)
    assert str(error.value).startswith(str(file))
    assert "\n" not in str(error.value)


def test_a_file_from_before_packs_has_none(file):
    metadata, tensors = contents(file)
    settings = json.loads(metadata["settings"]) | {"batch_size": 33}
    del settings["pack"], settings["negatives"]
    safetensors.torch.save_file(tensors, file, metadata | {"settings": json.dumps(settings)})
    loaded = load_generator_file(file).settings
    assert (loaded.batch_size, loaded.pack, loaded.negatives) == (33, 1, 0.0)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"none\.safetensors cannot be read: No such file"):
        load_generator_file(tmp_path / "none.safetensors")


def test_an_unwritable_place_is_refused(generator, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot"):
        save_generator(generator, tmp_path / "file" / "faces.safetensors")
