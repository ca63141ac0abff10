"""plot_curves.py as its user has it."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import pytest

from engine.png import load_png
from tests.in_process import call

pytest.importorskip("matplotlib", reason="the extra 'plots' is not installed")
plot_curves = partial(call, "plot_curves.py")


@pytest.fixture
def run(tiny_run, tmp_path) -> Path:
    """What it reads of the tiny run."""
    run = tmp_path / "runs" / tiny_run.name
    run.mkdir(parents=True)
    for name in ("config.json", "metrics.jsonl"):
        shutil.copy(tiny_run / name, run)
    return run


@pytest.mark.parametrize("name", ["0001-faces-32px", "0002-$x^{ лица", "0003-顔写真"])
def test_a_run_of_any_name_is_drawn_in_silence(run, name):
    run = run.rename(run.with_name(name))
    code, lines, error = plot_curves("--output", run.parent)
    assert (code, lines, error) == (0, [str(run / "curves.png")], "")
    picture = load_png(run / "curves.png")
    assert picture.std() > 10


def refused(run: Path) -> str:
    code, lines, error = plot_curves(run)
    assert (code, lines) == (2, [])
    assert error.count("\n") == 1
    assert not (run / "curves.png").is_file()
    return error


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        ("", "nothing was logged yet"),
        ('{"step": 1, "loss/training": 2}\n', "holds no curve of a GAN"),
        ('{"step": 1}\n', "holds no curve of a GAN"),
        ("[" * 100_000 + "\n", "no run has written"),
        ('{"step": 1e400, "loss/generator": 1}\n', "no run has written"),
        (f'{{"step": {"9" * 400}, "loss/generator": 1}}\n', "no run has written"),
        ('{"step": 1, "loss/generator": -1e300}\n', "no run has written"),
    ],
)
def test_metrics_that_cannot_be_drawn_are_one_line(run, content, message):
    (run / "metrics.jsonl").unlink()
    if content is not None:
        (run / "metrics.jsonl").write_text(content)
    assert message in refused(run)


def test_a_place_that_cannot_be_written_is_one_line(run):
    (run / "curves.png").mkdir()
    assert "cannot write" in refused(run)


def test_values_that_are_not_finite_or_positive_are_no_obstacle(run):
    rows = [
        '{"step": 1, "loss/generator": NaN, "gradient/generator": 0}',
        '{"step": 2, "loss/generator": 1e999}',
    ]
    (run / "metrics.jsonl").write_text("\n".join(rows) + "\n")
    code, _, error = plot_curves(run)
    assert (code, error) == (0, "")
