"""Names that pictures can write, and those that they cannot."""

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
    """An installed font in which every letter is a black block, with three Chinese ones among them."""
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
    found = [str(tmp_path / name) for name in ("broken.ttf", "gone.ttf", "block.ttf")]
    monkeypatch.setattr("matplotlib.font_manager.findSystemFonts", lambda: found)
    return tmp_path / "block.ttf"


def test_plain_names_need_no_search(monkeypatch):
    monkeypatch.setattr(fonts, "_installed_fonts", lambda: pytest.fail("fonts were sought"))
    assert find_labels(["Ada", "person 7", ""]) == {name: Label(name) for name in ("Ada", "person 7", "")}


def test_a_font_is_found_that_has_all_letters_of_a_name(block_font):
    found = find_labels(["Ada", "Ада", "李小龙", "李四", "a\nb", "\udcff"])
    assert found["李小龙"] == Label("李小龙", block_font)
    assert found["Ада"].file.name == "DejaVuSans.ttf", "matplotlib's own"
    assert found["Ada"].file is None
    assert len(found) == 3, "四 is in none, and no font has line ends or bytes of another code"


def test_what_it_finds_is_what_is_drawn(block_font):
    canvas = Image.new("L", (100, 40), "white")
    letters = find_labels(["李"])["李"].font(20)
    ImageDraw.Draw(canvas).text((10, 5), "李", fill="black", font=letters)
    dark = np.asarray(canvas) < 128
    assert dark.sum() == pytest.approx(10 * 14, abs=15), "half as wide as the font is high, and 0.7 as high"


def test_a_letter_and_its_accent_are_one(block_font):
    (label,) = find_labels([unicodedata.normalize("NFD", "Zoë")]).values()
    assert label.text == unicodedata.normalize("NFC", "Zoë")


def test_without_matplotlib_only_plain_names_are_legible(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.font_manager", None)
    assert list(find_labels(["Ada", "Ада"])) == ["Ada"]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["李小龙", "李四"])
def test_a_title_is_written_without_a_warning(block_font, tmp_path, name):
    save_curves(tmp_path / "a.png", {}, f"7-{name}", panels=(("x", {}), ("y", {})))
    assert (tmp_path / "a.png").exists()
