"""What pictures of a classifier look like, as far as a test can see it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from faces.recognition import pictures
from faces.recognition.calibration import POINTS, RocCurve
from faces.recognition.pictures import (
    LINE,
    Mistake,
    draw_mistakes,
    draw_names,
    save_class_chart,
    save_confusion_chart,
    save_roc_chart,
)
from faces.recognition.scores import class_scores
from images.fonts import Label


def test_mistakes_have_two_lines_that_fit_under_each_image():
    images = np.zeros((7, 3, 48, 48), np.uint8)
    short, long = Label("Ada"), Label("Adalbert the Elder of Bremen and Hamburg" * 2)
    mistakes = [Mistake(short, long, "97%"), *[Mistake(long, short, "55%")] * 6]
    picture = draw_mistakes(images, mistakes)
    side, high = 192, 192 + 2 * LINE + LINE // 4
    assert picture.shape == (3, 2 * high + 2, 6 * side + 5 * 2)
    words = picture[:, 192:high, :side].min(0)
    for line in (words[:LINE], words[LINE : 2 * LINE]):
        assert (line < 128).any()
    assert (words[:, -2:] == 255).all(), "a name that is too long is cut"
    rows = np.flatnonzero((words[:LINE, 50:] < 128).any(1))
    assert np.ptp(rows) >= 10, "letters that can be read"


def test_a_name_is_written_at_its_box():
    photo = np.full((3, 100, 200), 128, np.uint8)
    named = draw_names(photo, [(20, 40, 80, 90)], [(Label("Ada"), "97%")])
    changed = (named != photo).any(0)
    assert changed[27:40, 20:70].any()
    assert not changed[:, 100:].any()


@pytest.fixture
def drawn(monkeypatch) -> list[Any]:
    """The figures of matplotlib that were saved."""
    pytest.importorskip("matplotlib", reason="the extra 'plots' is not installed")
    from matplotlib.figure import Figure

    drawn: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda figure, *a, **b: drawn.append(figure) or save(figure, *a, **b)
    )
    return drawn


def test_the_legend_of_the_bars_hides_none(tmp_path, drawn):
    names = [f"person {number}" for number in range(9)]
    scores = class_scores(np.eye(9, dtype=np.int64), names)
    save_class_chart(tmp_path / "a.png", scores, [Label(name) for name in names])
    (figure,) = drawn
    (legend,), (axes,) = figure.legends, figure.axes
    assert not legend.get_window_extent().overlaps(axes.get_window_extent())


def test_charts_of_many_classes_are_no_larger_than_of_some(tmp_path, drawn, monkeypatch):
    monkeypatch.setattr(pictures, "UNNAMED", 5.0)
    monkeypatch.setattr(pictures, "MOST_CELLS", 500)
    monkeypatch.setattr(pictures, "MOST_BARS", 20)
    count = 1200
    right = np.full(count, 9)
    right[[1100, 7, 30]] = 0, 2, 2
    confusion = np.diag(right) + np.eye(count, k=1, dtype=np.int64) * (10 - right)[:, None]
    confusion[9, [10, 901]] = 0, 1
    labels = [Label(f"person {number}") for number in range(count)]
    save_confusion_chart(tmp_path / "confusion.png", confusion, labels)
    save_class_chart(tmp_path / "classes.png", class_scores(confusion, tuple(map(str, range(count)))), labels)
    matrix, bars = drawn
    for figure in drawn:
        assert max(figure.get_size_inches()) < 9
    assert len(matrix.axes[0].get_yticks()) < 50
    assert matrix.axes[0].get_ylabel() == "true, rows of classes.csv, 3 a cell"
    (image,) = matrix.axes[0].images
    assert image.get_array().shape == (400, 400)
    assert image.get_array()[3, 300] == pytest.approx(0.1)
    assert image.get_extent() == [0.5, 1200.5, 1200.5, 0.5]
    assert bars.axes[0].get_xlabel() == "the 20 of 1,200 classes with the lowest recall"
    shown = [words.get_text() for words in bars.axes[0].get_yticklabels()]
    assert len(shown) == 20
    assert shown[:3] == ["person 1100 (10)", "person 7 (10)", "person 30 (10)"]


def test_the_cells_of_a_confusion_matrix_get_smaller_where_there_are_many(tmp_path, drawn, monkeypatch):
    monkeypatch.setattr(pictures, "WIDEST", 4.0)
    labels = [Label(f"person {number}") for number in range(40)]
    save_confusion_chart(tmp_path / "confusion.png", np.eye(40, dtype=np.int64), labels)
    (figure,) = drawn
    assert max(figure.get_size_inches()) < 4 + 1 + 1
    assert [words.get_text() for words in figure.axes[0].get_yticklabels()] == [one.text for one in labels]


def test_a_curve_of_a_million_thresholds_is_drawn_by_few_points(tmp_path, drawn):
    far = np.linspace(0, 1, 1_000_001)
    save_roc_chart(tmp_path / "roc.png", {"pairs": (RocCurve(1 - far, far, far**0.1), 1_000_000)})
    (figure,) = drawn
    assert all(len(line.get_xdata()) <= POINTS for line in figure.axes[0].lines)
