from __future__ import annotations

import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from images import fonts
from images.fonts import COMMON_CHARACTERS, Label, find_labels
from images.plots import save_curves

pytest.importorskip("matplotlib", reason="the extra 'plots' is not installed")


@pytest.fixture
def block_font(tmp_path, monkeypatch) -> Path:
    """An installed font with three Chinese characters; every glyph is a black block."""
    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.ttGlyphPen import TTGlyphPen

    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 700), (500, 700), (500, 0)):
        pen.lineTo(corner)
    pen.closePath()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "block"])
    builder.setupCharacterMap(dict.fromkeys(map(ord, "李小龙" + COMMON_CHARACTERS), "block"))
    builder.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "block": pen.glyph()})
    builder.setupHorizontalMetrics({".notdef": (600, 0), "block": (600, 0)})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Block", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(tmp_path / "block.ttf")
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    files = [str(tmp_path / name) for name in ("broken.ttf", "gone.ttf", "block.ttf")]
    monkeypatch.setattr("matplotlib.font_manager.findSystemFonts", lambda: files)
    return tmp_path / "block.ttf"


def test_ascii_names_need_no_search(monkeypatch):
    monkeypatch.setattr(fonts, "_installed_fonts", lambda: pytest.fail("fonts were searched"))
    assert find_labels(["Ada", "person 7", ""]) == {name: Label(name) for name in ("Ada", "person 7", "")}


def test_font_contains_all_characters_of_a_name(block_font):
    found = find_labels(["Ada", "Ада", "李小龙", "李四", "a\nb", "\udcff"])
    assert found["李小龙"] == Label("李小龙", block_font)
    assert found["Ада"].file.name == "DejaVuSans.ttf", "matplotlib's own"
    assert found["Ada"].file is None
    assert len(found) == 3, "no font contains 四, line breaks or surrogates"


def test_found_font_is_drawn(block_font):
    canvas = Image.new("L", (100, 40), "white")
    font = find_labels(["李"])["李"].font(20)
    ImageDraw.Draw(canvas).text((10, 5), "李", fill="black", font=font)
    dark = np.asarray(canvas) < 128
    assert dark.sum() == pytest.approx(10 * 14, abs=15), "the block is 0.5 em wide and 0.7 em high"


def test_combining_accents_are_composed(block_font):
    (label,) = find_labels([unicodedata.normalize("NFD", "Zoë")]).values()
    assert label.text == unicodedata.normalize("NFC", "Zoë")


def test_without_matplotlib_only_ascii_names_have_labels(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.font_manager", None)
    assert list(find_labels(["Ada", "Ада"])) == ["Ada"]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["李小龙", "李四"])
def test_title_in_another_script(block_font, tmp_path, name):
    save_curves(tmp_path / "a.png", {}, f"7-{name}", panels=(("x", {}), ("y", {})))
    assert (tmp_path / "a.png").exists()
