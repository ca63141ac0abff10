"""Files that version 0.1 wrote: a run of 4 steps at 32 px with its faces, and a gallery of two people."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.checkpoint import load
from engine.runs import checkpoint_path
from faces.recognition.gallery import load_gallery
from gan.config import read_info
from gan.generator import load_generator
from gan.latent.vectors import draw
from tests.in_process import succeed
from tests.run_contents import read_metrics

FILES = Path(__file__).with_name("earlier_version")


@pytest.fixture(scope="module")
def data() -> dict[str, np.ndarray]:
    """The run's training images, and the images of its first four latent vectors."""
    with np.load(FILES / "data.npz") as arrays:
        return dict(arrays)


@pytest.fixture
def run(tmp_path, monkeypatch, data) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("faces").mkdir()
    for index, face in enumerate(data["faces"]):
        Image.fromarray(face).save(f"faces/{index:02d}.png")
    return Path(shutil.copytree(FILES / "run", "outputs/0001-then-32px"))


def test_its_generator_makes_the_same_images(run, data):
    images = load_generator(run).images(draw(4, 12, 3))
    assert np.abs(images.astype(int) - data["images"]).max() <= 1


def test_its_settings_are_read(run):
    settings = read_info(run).settings
    assert (settings.preset, settings.augmentation, settings.negatives) == (None, "adaptive", 0.25)


def test_it_samples_and_resumes(run):
    succeed("sample.py", "--count", 4)
    result = succeed("train_gan.py", "--resume", "--steps", 6, "--device", "cpu")
    assert any(line.startswith("resuming from") for line in result.lines)
    before, after = load(checkpoint_path(run, 6)), load(FILES / "run" / "checkpoints" / "step_000004.pt")
    assert before["step"] == 6
    assert before["generator_optimizer"]["state"][0]["step"] == 6
    change = before["generator"]["project.weight"] - after["generator"]["project.weight"]
    assert 0 < change.abs().max() < 3e-4  # two steps of Adam
    assert [line["step"] for line in read_metrics(run)] == [1, 2, 3, 4, 5, 6]


def test_its_gallery_identifies(data):
    gallery = load_gallery(FILES / "gallery.npz", "0123456789abcdef")
    assert gallery.people == {"Ada": 3, "Bo": 2}
    vectors = np.random.default_rng(0).normal(size=(5, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    matches = gallery.identify(vectors, gallery.threshold)
    assert [match.name for match in matches] == ["Ada"] * 3 + ["Bo"] * 2
