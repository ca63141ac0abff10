"""What a command line is taken to mean, before anything is trained."""

from __future__ import annotations

import pytest
import torch

from gan import launch
from gan.launch import make_plan


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with one CUDA device, as far as a plan can see."""
    monkeypatch.setattr(launch, "choose_device", lambda _: torch.device("cuda"))
    monkeypatch.setattr(launch, "choose_precision", lambda *_: "bfloat16")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)


def test_a_cpu_takes_the_light_preset():
    settings = make_plan(["faces", "--device", "cpu"]).settings
    assert (settings.generator_widths, settings.batch_size) == ((250, 150, 90, 54), 96)


@pytest.mark.usefixtures("on_gpu")
def test_a_gpu_takes_the_paper_preset_unless_told_otherwise():
    settings = make_plan(["faces"]).settings
    assert (settings.generator_widths, settings.batch_size) == ((1024, 512, 256, 128), 128)
    settings = make_plan(["faces", "--preset", "light"]).settings
    assert (settings.generator_widths, settings.batch_size) == ((250, 150, 90, 54), 96)


@pytest.mark.parametrize(
    ("words", "end"),
    [
        ([], (None, 15)),
        (["--steps", "20"], (20, None)),
        (["faces"], (7000, None)),
        (["faces", "--minutes", "3"], (None, 3)),
        (["faces", "--minutes", "3", "--steps", "20"], (20, 3)),
    ],
)
def test_a_run_ends_by_itself(words, end):
    settings = make_plan([*words, "--device", "cpu", "--precision", "float32"]).settings
    assert (settings.steps, settings.minutes) == end


@pytest.mark.parametrize(
    ("words", "images"),
    [
        ([], 32),
        (["--batch-size", "8"], 8),
        (["--preset", "light"], 96),
        (["--minutes", "60"], 32),
        (["faces"], 96),
    ],
)
def test_drawn_faces_are_learnt_in_small_batches_unless_told_otherwise(words, images):
    words = [*words, "--device", "cpu", "--precision", "float32"]
    assert make_plan(words).settings.batch_size == images
