"""Fixtures that many tests share: folders of small images, and runs trained on them in a few steps."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent

# Small tensors gain nothing from threads, and bit-for-bit tests need a fixed number of them. torch reads it
# on import.
os.environ["OMP_NUM_THREADS"] = "1"

# A shell starts background jobs with SIGINT ignored, and nohup with SIGHUP; subprocesses would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# A slow example on a busy machine is no failure. CI always uses the same examples; other runs use new ones.
settings.register_profile(
    "patient",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=os.environ.get("CI") == "true",
)
settings.load_profile("patient")

TINY = (
    *("--image-size", "32", "--batch-size", "8", "--workers", "0"),
    *("--device", "cpu", "--precision", "float32"),
    *("--generator-widths", "12", "10", "8", "6", "--discriminator-widths", "6", "8", "10", "12"),
    *("--log-every", "1", "--sample-every", "2", "--checkpoint-every", "2"),
)
"""Flags of a GAN run that takes seconds."""
VARIANTS = {
    "default": (),
    "default, bfloat16": ("--precision", "bfloat16"),
    "textbook": ("--preset", "textbook"),
}
"""Flags of runs that compute different things."""

PROCESSES = 2
"""Test processes when the whole suite runs and pytest-xdist is installed."""


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Run the whole suite in several processes, each file in one of them, but named files in this process.

    In pyproject.toml it would make a single test wait for workers, and fail without the plugin.
    """
    whole_suite = config.args == config.getini("testpaths") and not config.option.keyword
    alone = getattr(config.option, "numprocesses", 0) is None and not hasattr(config, "workerinput")
    if whole_suite and alone and not config.option.usepdb:
        config.option.numprocesses, config.option.dist = PROCESSES, "loadfile"


def pytest_configure(config: pytest.Config) -> None:
    """Hide the GPU unless tests/gan/test_cuda.py is named on the command line.

    The other tests compare bits, which a GPU does not reproduce, and fork, after which CUDA is unusable.
    """
    if not any("test_cuda" in word for word in config.args):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 24 different images of 40 x 40 pixels; do not change it."""
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    ramp = np.linspace(0, 1, 40)
    for index in range(24):
        tint, slope = random.uniform(60, 255, 3), random.uniform(0.2, 1)
        levels = (1 - slope * ramp[:, None, None]) * tint * np.ones((1, 40, 1))
        Image.fromarray(levels.astype(np.uint8)).save(folder / f"{index:02d}.png")
    return folder


@pytest.fixture(scope="session")
def many_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 100 different images, enough to hold some out; do not change it."""
    folder = tmp_path_factory.mktemp("many")
    random = np.random.default_rng(5)
    for index in range(100):
        coarse = random.integers(0, 256, (4, 4, 3)).astype(np.uint8)
        Image.fromarray(coarse).resize((32, 32), Image.Resampling.BICUBIC).save(folder / f"{index}.png")
    return folder


def copy_some(folder: Path, count: int, to: Path) -> Path:
    """Copy the first images of a folder into a new one."""
    to.mkdir()
    for path in sorted(folder.iterdir())[:count]:
        shutil.copy(path, to)
    return to


def copy_some_annotated(folder: Path, count: int, to: Path) -> Path:
    """Copy the first images of a folder, and their rows in its labels.csv, into a new one."""
    to.mkdir()
    rows = (folder / "labels.csv").read_text().splitlines()[: count + 1]
    for row in rows[1:]:
        shutil.copy(folder / row.partition(",")[0], to)
    (to / "labels.csv").write_text("\n".join(rows) + "\n")
    return to


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """`run_training`, with the test's own folder as the working directory, so runs go to its outputs/."""
    monkeypatch.chdir(tmp_path)
    return run_training


@pytest.fixture(scope="session")
def tiny_run(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of 6 steps at 32 pixels; do not change it."""
    folder = tmp_path_factory.mktemp("tiny")
    with contextlib.chdir(folder):
        assert run_training(pictures, "--steps", 6, "--seed", 3) == 0
    (run,) = (folder / "outputs").iterdir()
    return run


LANDMARK_FLAGS = ("--image-size", 32, "--device", "cpu", "--workers", 0, "--cache", "cache")
"""Flags of a landmark run that takes seconds."""


@pytest.fixture(scope="session")
def drawn_faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 90 drawn faces of 30 people, 64 x 64 pixels, with labels.csv; do not change it."""
    from faces.drawn import write_folder

    folder = tmp_path_factory.mktemp("faces") / "drawn"
    write_folder(folder, 90, seed=5, size=64, faces_per_person=3, workers=0)
    return folder


@pytest.fixture(scope="session")
def landmark_run(drawn_faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A landmark run on `drawn_faces` that learned something; do not change it."""
    from tests.in_process import succeed

    output = tmp_path_factory.mktemp("landmarks")
    flags = (*LANDMARK_FLAGS, "--cache", output / "cache", "--output", output / "runs")
    flags += ("--steps", 150, "--batch-size", 32, "--score-every", 50, "--ema-half-life", 300, "--turn", 5)
    succeed("train_landmarks.py", drawn_faces, *flags)
    (run,) = (output / "runs").iterdir()
    return run


def run_training(*arguments: object) -> int:
    """Run train_gan.py in this process, with `TINY` if it starts a new run, and return its exit code."""
    import train_gan

    flags = [] if "--resume" in arguments else list(TINY)
    with (
        mock.patch.object(sys, "argv", ["train_gan.py", *flags, *map(str, arguments)]),
        # Batch-norm statistics from fewer latent vectors, which else take half the time of so short a run.
        mock.patch("gan.generator.STATISTICS_BATCHES", 1),
    ):
        return train_gan.main()


CLASSIFIER_FLAGS = (
    *("--image-size", 32, "--device", "cpu", "--workers", 0, "--cache", "cache"),
    *("--score-every", 20, "--checkpoint-every", 20),
)
"""Flags of a classifier run that takes seconds."""
ARCFACE_FLAGS = (
    *("--method", "arcface", "--backbone", "small", "--weights", "none", "--embedding", 32),
    *("--mirror", "--steps", 80, "--batch-size", 24),
)


def draw_people(folder: Path, numbers: Iterable[int], count: int) -> None:
    """Draw `count` faces of each person, 40 x 40 pixels, into a folder per person."""
    from faces.drawn import Face, draw_face, sample_person, sample_scene

    for number in numbers:
        person = folder / f"person-{number}"
        person.mkdir(parents=True)
        for index in range(count):
            face = Face(sample_person(5, number), sample_scene(5, 1000 * number + index))
            Image.fromarray(draw_face(face, 40)[0]).save(person / f"{index:03d}.png")


@pytest.fixture(scope="session")
def drawn_people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fourteen drawn faces of each of eight people, a folder per person; do not change it."""
    folder = tmp_path_factory.mktemp("people") / "drawn"
    draw_people(folder, range(8), 14)
    return folder


@pytest.fixture(scope="session")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten drawn faces each of six people outside the training sets; do not change it."""
    folder = tmp_path_factory.mktemp("strangers") / "people"
    draw_people(folder, range(200, 206), 10)
    return folder


@pytest.fixture(scope="session")
def scratch_run(drawn_people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier run from scratch on `drawn_people` that learned something; do not change it."""
    return _train_classifier(drawn_people, tmp_path_factory, "--steps", 40, "--batch-size", 16)


@pytest.fixture(scope="session")
def arcface_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ArcFace run on sixteen drawn people that learned something; do not change it."""
    folder = tmp_path_factory.mktemp("people") / "many"
    draw_people(folder, range(100, 116), 12)
    with mock.patch("faces.recognition.report._draw", return_value=[]):  # charts take long
        return _train_classifier(folder, tmp_path_factory, *ARCFACE_FLAGS)


def _train_classifier(folder: Path, factory: pytest.TempPathFactory, *arguments: object) -> Path:
    from tests.in_process import succeed

    output = factory.mktemp("classifiers")
    flags = (*CLASSIFIER_FLAGS, "--cache", output / "cache", "--output", output / "runs")
    succeed("train_classifier.py", folder, *flags, *arguments)
    (run,) = (output / "runs").iterdir()
    return run
