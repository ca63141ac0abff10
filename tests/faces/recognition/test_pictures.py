"""Pictures of a classifier's results."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from faces.recognition import pictures
from faces.recognition.calibration import MAX_POINTS, RocCurve
from faces.recognition.pictures import (
    LINE_HEIGHT,
    Mistake,
    draw_mistakes,
    draw_names,
    save_class_chart,
    save_confusion_chart,
    save_roc_chart,
)
from faces.recognition.scores import class_scores
from images.fonts import Label


def test_mistake_captions_have_two_lines_that_fit_under_the_image():
    images = np.zeros((7, 3, 48, 48), np.uint8)
    short, long = Label("Ada"), Label("Adalbert the Elder of Bremen and Hamburg" * 2)
    mistakes = [Mistake(short, long, "97%"), *[Mistake(long, short, "55%")] * 6]
    picture = draw_mistakes(images, mistakes)
    side, high = 192, 192 + 2 * LINE_HEIGHT + LINE_HEIGHT // 4
    assert picture.shape == (3, 2 * high + 2, 6 * side + 5 * 2)
    captions = picture[:, 192:high, :side].min(0)
    for line in (captions[:LINE_HEIGHT], captions[LINE_HEIGHT : 2 * LINE_HEIGHT]):
        assert (line < 128).any()
    assert (captions[:, -2:] == 255).all(), "a long name is cut"
    rows = np.flatnonzero((captions[:LINE_HEIGHT, 50:] < 128).any(1))
    assert np.ptp(rows) >= 10, "letters are legible"


def test_name_is_drawn_at_its_box():
    photo = np.full((3, 100, 200), 128, np.uint8)
    drawn = draw_names(photo, [(20, 40, 80, 90)], [(Label("Ada"), "97%")])
    changed = (drawn != photo).any(0)
    assert changed[27:40, 20:70].any()
    assert not changed[:, 100:].any()


@pytest.fixture
def figures(monkeypatch) -> list[Any]:
    """The matplotlib figures that are saved."""
    pytest.importorskip("matplotlib", reason="the extra 'plots' is not installed")
    from matplotlib.figure import Figure

    figures: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda figure, *a, **b: figures.append(figure) or save(figure, *a, **b)
    )
    return figures


def test_legend_does_not_overlap_the_bars(tmp_path, figures):
    names = [f"person {number}" for number in range(9)]
    scores = class_scores(np.eye(9, dtype=np.int64), names)
    save_class_chart(tmp_path / "a.png", scores, [Label(name) for name in names])
    (figure,) = figures
    (legend,), (axes,) = figure.legends, figure.axes
    assert not legend.get_window_extent().overlaps(axes.get_window_extent())


def test_charts_of_many_classes_are_limited_in_size(tmp_path, figures, monkeypatch):
    monkeypatch.setattr(pictures, "UNNAMED_MATRIX_SIDE", 5.0)
    monkeypatch.setattr(pictures, "MAX_CELLS", 500)
    monkeypatch.setattr(pictures, "MAX_BARS", 20)
    count = 1200
    right = np.full(count, 9)
    right[[1100, 7, 30]] = 0, 2, 2
    confusion = np.diag(right) + np.eye(count, k=1, dtype=np.int64) * (10 - right)[:, None]
    confusion[9, [10, 901]] = 0, 1
    labels = [Label(f"person {number}") for number in range(count)]
    save_confusion_chart(tmp_path / "confusion.png", confusion, labels)
    save_class_chart(tmp_path / "classes.png", class_scores(confusion, tuple(map(str, range(count)))), labels)
    matrix, bars = figures
    for figure in figures:
        assert max(figure.get_size_inches()) < 9
    assert len(matrix.axes[0].get_yticks()) < 50
    assert matrix.axes[0].get_ylabel() == "true, rows of classes.csv, 3 a cell"
    (image,) = matrix.axes[0].images
    assert image.get_array().shape == (400, 400)
    assert image.get_array()[3, 300] == pytest.approx(0.1)
    assert image.get_extent() == [0.5, 1200.5, 1200.5, 0.5]
    assert bars.axes[0].get_xlabel() == "the 20 of 1,200 classes with the lowest recall"
    names = [text.get_text() for text in bars.axes[0].get_yticklabels()]
    assert len(names) == 20
    assert names[:3] == ["person 1100 (10)", "person 7 (10)", "person 30 (10)"]


def test_cells_of_a_confusion_matrix_shrink_with_their_number(tmp_path, figures, monkeypatch):
    monkeypatch.setattr(pictures, "MAX_MATRIX_SIDE", 4.0)
    labels = [Label(f"person {number}") for number in range(40)]
    save_confusion_chart(tmp_path / "confusion.png", np.eye(40, dtype=np.int64), labels)
    (figure,) = figures
    assert max(figure.get_size_inches()) < 4 + 1 + 1
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == [label.text for label in labels]


def test_curve_of_a_million_thresholds_is_thinned(tmp_path, figures):
    far = np.linspace(0, 1, 1_000_001)
    save_roc_chart(tmp_path / "roc.png", {"pairs": (RocCurve(1 - far, far, far**0.1), 1_000_000)})
    (figure,) = figures
    assert all(len(line.get_xdata()) <= MAX_POINTS for line in figure.axes[0].lines)
