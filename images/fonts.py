"""Find installed fonts for names in any script. matplotlib is imported only if a name needs it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import ImageFont

from images.tiles import default_font

if TYPE_CHECKING:
    from matplotlib.text import Text

COMMON_CHARACTERS = "0123456789 #%.,()"
"""Characters drawn beside a name, in the same font."""

INSTALL_HINT = "install one, and the extra 'plots', which searches for it"
"""What to do about a name without a font."""

_SPECIAL_STYLE = re.compile("bold|italic|oblique|thin|light|black|heavy|condensed|mono", re.IGNORECASE)
_NO_GLYPHS = re.compile("last ?resort|blank|emoji", re.IGNORECASE)
"""Fonts that map characters to no outlines, or only to coloured ones."""


@dataclass(frozen=True)
class Label:
    """A text and the font to draw it with.

    Attributes:
        text: the text.
        file: font file that contains all characters; None for the default font of Pillow or matplotlib.
    """

    text: str
    file: Path | None = None

    def font(self, size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
        """The font for Pillow, `size` pixels high."""
        return default_font(size) if self.file is None else _load_font(self.file, size)

    def set_font(self, text: Text) -> None:
        """Set the font of a matplotlib text and keep its size."""
        if self.file is not None:
            size = text.get_fontsize()
            text.set_font(self.file)
            text.set_fontsize(size)


def find_labels(names: Iterable[str]) -> dict[str, Label]:
    """Find a font for each name.

    ASCII names use the default font. For others, matplotlib's default font is tried first, then all
    installed fonts, upright ones of regular weight before the rest. The font must also contain the
    `COMMON_CHARACTERS`. (matplotlib and Pillow fall back to given fonts only, and neither selects installed
    fonts by character.)

    Returns:
        Label by name. Names without a font are missing; so are all non-ASCII names if matplotlib, the extra
        `plots`, is not installed.
    """
    labels: dict[str, Label] = {}
    missing: dict[str, str] = {}
    for name in names:
        if name.isascii() and name.isprintable():
            labels[name] = Label(name)
        else:
            # File names may contain an accent as a character of its own, which few fonts can combine.
            missing[name] = unicodedata.normalize("NFC", name)
    for path in _installed_fonts() if missing else ():
        for name in _covered(path, missing):
            labels[name] = Label(missing.pop(name), path)
        if not missing:
            break
    return labels


def _installed_fonts() -> Iterator[Path]:
    try:
        from matplotlib.font_manager import FontProperties, findfont, findSystemFonts
    except ImportError:
        return
    yield Path(findfont(FontProperties()))
    fonts = (path for path in map(Path, findSystemFonts()) if not _NO_GLYPHS.search(path.stem))
    yield from sorted(fonts, key=lambda path: (bool(_SPECIAL_STYLE.search(path.stem)), path.name, path))


def _covered(path: Path, texts: dict[str, str]) -> Collection[str]:
    """The keys of the texts whose characters a font contains."""
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(str(path))
    except (OSError, RuntimeError):  # damaged or unsupported
        return ()
    if not font.scalable:
        return ()
    return [
        key
        for key, text in texts.items()
        if all(font.get_char_index(ord(c)) for c in text + COMMON_CHARACTERS)
    ]


@cache
def _load_font(path: Path, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size)
