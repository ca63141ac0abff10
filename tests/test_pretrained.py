"""The generator that comes with the project, in a folder without runs."""

import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from engine.png import load_png
from gan import pretrained
from gan.export.generator_file import load_generator_file
from tests.in_process import call, refusal

sample = partial(call, "sample.py")
MAX_BYTES = 6_000_000


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_it_is_used_while_there_is_no_run(tiny_run, tmp_path):
    code, lines, _ = sample()
    assert code == 0
    assert lines[0].startswith("There is no run in outputs.")
    assert "`python train_gan.py FOLDER` trains your own" in lines[0]
    assert Path(lines[-1]).parent == Path("outputs/exported/drawn/grids")
    grid = load_png(lines[-1])
    shutil.copytree(tiny_run, tmp_path / "outputs" / tiny_run.name)
    _, lines, _ = sample()
    assert Path(lines[-1]).parent == Path("outputs") / tiny_run.name / "grids"
    assert not lines[0].startswith("There is no run")
    _, lines, _ = sample("drawn")
    assert not lines[0].startswith("There is no run")
    assert np.array_equal(load_png(lines[-1]), grid)


def test_interpolation_arithmetic_and_export_take_it(tmp_path):
    for script, *arguments in (
        ("interpolate.py", "--tiles", 1, 2, "--form", "strip"),
        ("interpolate.py", "--arithmetic", "1 - 2 + 3"),
        ("export.py", tmp_path / "mine.safetensors"),
    ):
        code, lines, error = call(script, *arguments)
        assert (code, error) == (0, "")
        assert lines[0].startswith("There is no run")
        assert Path(lines[-1]).stat().st_size > 1000


def test_a_run_of_its_name_comes_first_and_another_folder_does_not(tiny_run, tmp_path):
    (tmp_path / "drawn").mkdir()
    _, lines, _ = sample("drawn", "--count", 1)
    assert "exported/drawn" in lines[-1]
    shutil.copytree(tiny_run, tmp_path / "drawn", dirs_exist_ok=True)
    _, lines, _ = sample("drawn", "--count", 1)
    assert Path(lines[-1]).parent == Path("drawn/grids")


def test_it_has_neither_checkpoints_nor_a_folder_of_images():
    assert "drawn contains one generator: omit --checkpoint and --raw" in refusal(
        "sample.py", "drawn", "--raw"
    )
    assert "give --real FOLDER" in refusal("evaluate.py", "drawn")


def test_its_faces_are_colourful_and_different():
    assert pretrained.FILE.stat().st_size <= MAX_BYTES
    generator = load_generator_file(pretrained.FILE)
    assert (generator.image_size, generator.latent_size) == (96, 100)
    assert not Path(generator.settings.folder or "").is_absolute()
    images = generator.images(np.random.default_rng(0).uniform(-1, 1, (16, 100))).astype(float)
    assert images.std(axis=0).mean() > 20
    assert images.std(axis=(2, 3)).min() > 10
