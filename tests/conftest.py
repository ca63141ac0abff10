"""What many tests stand on: a folder of small pictures, and runs trained on it in a few steps."""

from __future__ import annotations

import contextlib
import os
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
sys.path.insert(0, str(ROOT))

# Small tensors gain nothing from threads, and bit-for-bit tests want their number fixed. It is set here
# because torch reads it when it is imported, and most tests do not import it at all.
os.environ["OMP_NUM_THREADS"] = "1"

# A job in the background of a shell is started deaf to Ctrl-C, and so would be what the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# On a busy machine one slow example is no failure. Where a change is judged, the examples are always the
# same ones; everywhere else each run looks at others.
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
"""Flags of a training that takes seconds."""

PROCESSES = 2
"""That test, where the whole suite is run and pytest-xdist is there."""


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Test in several processes, a file of tests in one of them; single files stay in this process.

    It is here and not in pyproject.toml because that would have a single test wait for workers too, and
    would be an error where the plugin is missing.
    """
    whole_suite = config.args == config.getini("testpaths") and not config.option.keyword
    alone = getattr(config.option, "numprocesses", 0) is None and not hasattr(config, "workerinput")
    if whole_suite and alone and not config.option.usepdb:
        config.option.numprocesses, config.option.dist = PROCESSES, "loadfile"


def pytest_configure(config: pytest.Config) -> None:
    """Let only tests/gan/test_cuda.py see a GPU, and only where it is named.

    The others compare bits, which a GPU does not keep to, and fork, after which a process may not use one.
    """
    if not any("test_cuda" in word for word in config.args):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


VARIANTS = {
    "default": (),
    "default, bfloat16": ("--precision", "bfloat16"),
    "plain": ("--preset", "plain"),
}
"""Flags of runs that differ in their mathematics."""


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 24 different 40-pixel pictures."""
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
    """A folder of 100 different pictures, enough for some to be held out."""
    folder = tmp_path_factory.mktemp("many")
    random = np.random.default_rng(5)
    for index in range(100):
        coarse = random.integers(0, 256, (4, 4, 3)).astype(np.uint8)
        Image.fromarray(coarse).resize((32, 32), Image.Resampling.BICUBIC).save(folder / f"{index}.png")
    return folder


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """`run_training` in the test's own folder, which is the working directory; runs go to outputs/ there."""
    monkeypatch.chdir(tmp_path)
    return run_training


@pytest.fixture(scope="session")
def tiny_run(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of 6 steps at 32 pixels, made by the script; do not change it."""
    folder = tmp_path_factory.mktemp("tiny")
    with contextlib.chdir(folder):
        assert run_training(pictures, "--steps", 6, "--seed", 3) == 0
    (run,) = (folder / "outputs").iterdir()
    return run


LANDMARK_FLAGS = (
    *("--image-size", 32, "--device", "cpu", "--workers", 0),
    *("--cache", "cache"),
)
"""Flags of a training of landmarks that takes seconds."""


@pytest.fixture(scope="session")
def drawn_faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 90 drawn faces of 30 people, 64 pixels a side, with labels.csv; do not change it."""
    from faces.drawn import write_folder

    folder = tmp_path_factory.mktemp("faces") / "drawn"
    write_folder(folder, 90, seed=5, size=64, faces_per_person=3, workers=0)
    return folder


@pytest.fixture(scope="session")
def landmark_run(drawn_faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished training of landmarks on `drawn_faces`, which learnt something; do not change it."""
    from tests.in_process import succeed

    output = tmp_path_factory.mktemp("landmarks")
    flags = (*LANDMARK_FLAGS, "--cache", output / "cache", "--output", output / "runs")
    words = ("--steps", 150, "--batch-size", 32, "--score-every", 50, "--ema-half-life", 300)
    succeed("train_landmarks.py", drawn_faces, *flags, *words, "--turn", 5)
    (run,) = (output / "runs").iterdir()
    return run


def run_training(*words: object) -> int:
    """Call train_gan.py in this process with `TINY` and more flags; its exit code."""
    import train_gan

    flags = [] if "--resume" in words else list(TINY)
    with (
        mock.patch.object(sys, "argv", ["train_gan.py", *flags, *map(str, words)]),
        # Of 100 latent vectors instead of 500: half of the time of such short runs would go into them.
        mock.patch("gan.generator.STATISTICS_BATCHES", 1),
    ):
        return train_gan.main()


CLASSIFIER_FLAGS = (
    *("--image-size", 32, "--device", "cpu", "--workers", 0, "--cache", "cache"),
    *("--score-every", 20, "--checkpoint-every", 20),
)
"""Flags of a training of classes that takes seconds."""
ARCFACE_FLAGS = (
    *("--method", "arcface", "--backbone", "small", "--weights", "none", "--embedding", 32),
    *("--mirror", "--steps", 80, "--batch-size", 24),
)


def draw_people(folder: Path, numbers: Iterable[int], count: int) -> None:
    """Draw so many faces of each of these people, 40 pixels a side, into a folder for each."""
    from faces.drawn import Face, draw_face, sample_moment, sample_person

    for number in numbers:
        person = folder / f"person-{number}"
        person.mkdir(parents=True)
        for index in range(count):
            face = Face(sample_person(5, number), sample_moment(5, 1000 * number + index))
            Image.fromarray(draw_face(face, 40)[0]).save(person / f"{index:03d}.png")


@pytest.fixture(scope="session")
def drawn_people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fourteen drawn faces of each of eight people, a folder each; do not change it."""
    folder = tmp_path_factory.mktemp("people") / "drawn"
    draw_people(folder, range(8), 14)
    return folder


@pytest.fixture(scope="session")
def scratch_run(drawn_people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished training from scratch on `drawn_people`, which learnt something; do not change it."""
    return _train_classifier(drawn_people, tmp_path_factory, "--steps", 40, "--batch-size", 16)


@pytest.fixture(scope="session")
def arcface_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished training by ArcFace on sixteen drawn people, which learnt something; do not change it."""
    folder = tmp_path_factory.mktemp("people") / "many"
    draw_people(folder, range(100, 116), 12)
    with mock.patch("faces.recognition.report._draw", return_value=[]):  # charts take longer than it learns
        return _train_classifier(folder, tmp_path_factory, *ARCFACE_FLAGS)


def _train_classifier(folder: Path, factory: pytest.TempPathFactory, *words: object) -> Path:
    from tests.in_process import succeed

    output = factory.mktemp("classifiers")
    flags = (*CLASSIFIER_FLAGS, "--cache", output / "cache", "--output", output / "runs")
    succeed("train_classifier.py", folder, *flags, *words)
    (run,) = (output / "runs").iterdir()
    return run
