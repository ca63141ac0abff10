import shutil
from functools import partial
from pathlib import Path

import imageio.v2 as imageio
import numpy as np
import pytest
from PIL import Image

from engine.png import save_png
from engine.runs import sample_path
from tests.in_process import call

timelapse = partial(call, "timelapse.py")
LEVELS = {0: 10, 100: 80, 1000: 160, 2_000_000: 240}


@pytest.fixture
def run(tiny_run, tmp_path) -> Path:
    """The tiny run with four plain grids, 40 x 44 pixels, in the place of its own."""
    run = tmp_path / "runs" / tiny_run.name
    run.mkdir(parents=True)
    shutil.copy(tiny_run / "config.json", run)
    for step, level in LEVELS.items():
        save_png(sample_path(run, step), np.full((3, 40, 44), level, np.uint8))
    save_png(run / "samples" / "mine.png", np.zeros((3, 7, 7), np.uint8))
    return run


def test_a_gif_of_the_newest_run_by_default(run):
    code, lines, _ = timelapse("--output", run.parent, "--fps", 10, "--hold", 1.5)
    assert code == 0
    assert Path(lines[-1]) == run / "timelapse.gif"
    with Image.open(lines[-1]) as film:
        assert film.size == (22, 20)
        durations, levels = [], []
        for index in range(film.n_frames):
            film.seek(index)
            durations.append(film.info["duration"])
            levels.append(np.asarray(film.convert("RGB"))[0, 0, 0])
    assert levels == list(LEVELS.values())
    assert durations == [100, 100, 100, 1600]


def test_an_mp4_of_full_size(run):
    _, lines, _ = timelapse(run, "--form", "mp4", "--shrink", 1, "--fps", 4, "--hold", 1)
    assert Path(lines[-1]) == run / "timelapse.mp4"
    with imageio.get_reader(lines[-1]) as film:
        assert film.get_meta_data()["size"] == (44, 40)
        means = [frame.mean() for frame in film]
    assert means == pytest.approx([10, 80, 160, 240, 240, 240, 240, 240], abs=4)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--shrink", 0), "--shrink must be 1 or more"),
        (("--fps", 0), "frames a second"),
        (("--fps", "nan"), "frames a second"),
        (("--hold", -1), "--hold must be 0 to 60"),
        (("--hold", "nan"), "--hold must be 0 to 60"),
        (("--form", "webm"), "--form"),
    ],
)
def test_mistakes_are_told_in_one_line(run, words, message):
    code, lines, error = timelapse(run, *words)
    assert (code, lines) == (2, [])
    assert message in error
    assert error.count("\n") == 1


def test_grids_that_are_missing_or_broken(run):
    sample_path(run, 100).write_bytes(b"cut short")
    code, _, error = timelapse(run)
    assert code == 2
    assert "step_000100.png" in error
    assert not (run / "timelapse.gif").exists()
    shutil.rmtree(run / "samples")
    assert "holds 0 sample grids" in timelapse(run)[2]
    assert timelapse(run.parent / "nowhere")[0] == 2
