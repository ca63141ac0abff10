from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.errors import UserError
from gan.curves import PANELS
from images.plots import read_metrics, save_curves


def test_metrics_have_one_value_per_logged_step(tiny_run: Path):
    metrics = read_metrics(tiny_run)
    for steps, values in metrics.values():
        assert steps == [1, 2, 3, 4, 5, 6]
        assert len(values) == 6
        assert np.isfinite(values).all()
    plotted = {name for _, curves in PANELS for name in curves}
    assert {name for name in plotted if not name.startswith("score/")} <= metrics.keys()


def test_plot_depends_on_the_values(tiny_run: Path, tmp_path: Path):
    pytest.importorskip("matplotlib", reason="the extra 'plots' is not installed")
    metrics = read_metrics(tiny_run)
    save_curves(tmp_path / "a.png", metrics, "run", PANELS)
    other = {"loss/generator": ([1, 2, 3, 4, 5, 6], [5.0, 4, 3, 2, 1, 0])}
    save_curves(tmp_path / "b.png", {**metrics, **other}, "run", PANELS)
    a, b = (np.asarray(Image.open(tmp_path / name)) for name in ("a.png", "b.png"))
    assert a.shape == b.shape
    assert 0 < (a != b).mean() < 0.5


def test_a_single_value_has_a_marker(tmp_path: Path, monkeypatch):
    pytest.importorskip("matplotlib", reason="the extra 'plots' is not installed")
    figures = []
    monkeypatch.setattr("images.plots.save_figure", lambda path, figure, scale: figures.append(figure))
    save_curves(tmp_path / "a.png", {"score/kid": ([250], [0.5])}, "run", PANELS)
    markers = {line.get_marker() for axes in figures[0].axes for line in axes.lines}
    assert "." in markers


def test_missing_matplotlib(tiny_run: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UserError, match="extra 'plots'"):
        save_curves(tmp_path / "a.png", read_metrics(tiny_run), "run", PANELS)


DAMAGED = ['{"step": 1', '{"step": 1}\n{"other": 2}\n', "[1]\n", '{"step": 1, "a": "b"}\n']


@pytest.mark.parametrize("content", [None, "", *DAMAGED])
def test_missing_empty_or_damaged_metrics(content: str | None, tmp_path: Path):
    if content is not None:
        (tmp_path / "metrics.jsonl").write_text(content)
    with pytest.raises(UserError, match=r"metrics\.jsonl") as error:
        read_metrics(tmp_path)
    assert "\n" not in str(error.value)


def test_incomplete_last_line_is_ignored(tmp_path: Path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "a": 2}\n{"step": 2, "a"')
    assert read_metrics(tmp_path) == {"a": ([1], [2])}


def test_metrics_may_have_different_steps(tmp_path: Path):
    lines = ['{"step": 10, "a": 1}', '{"step": 15, "b": 2}', '{"step": 20, "a": 3, "b": 4}']
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    assert read_metrics(tmp_path) == {"a": ([10, 20], [1, 3]), "b": ([15, 20], [2, 4])}
