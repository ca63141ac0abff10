"""Names in whatever script on pictures: which installed font has their letters, or that none has.

Nothing here imports torch, and matplotlib, which knows where fonts are kept, only when one is sought.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import ImageFont

from images.tiles import default_font

if TYPE_CHECKING:
    from matplotlib.text import Text

COMMON_CHARACTERS = "0123456789 #%.,()"
"""What is written beside a name, in the same font."""

INSTALL_HINT = "install one, and the extra 'plots', which looks for it"
"""What to do about letters without a font."""

_UNUSUAL = re.compile("bold|italic|oblique|thin|light|black|heavy|condensed|mono", re.IGNORECASE)
_WITHOUT_SHAPES = re.compile("last ?resort|blank|emoji", re.IGNORECASE)
"""Fonts that claim letters for which they have no shapes, or only coloured ones."""


@dataclass(frozen=True)
class Label:
    """Words as a picture can show them.

    Attributes:
        text: the words.
        file: of a font that has their letters; None where the usual ones have: Pillow's own on pictures,
            matplotlib's on charts.
    """

    text: str
    file: Path | None = None

    def font(self, size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
        """The font, `size` pixels high, for Pillow."""
        return default_font(size) if self.file is None else _opened(self.file, size)

    def set_font(self, words: Text) -> None:
        """Give these words of a chart the font, in the size that they have."""
        from matplotlib.font_manager import FontProperties

        if self.file is not None:
            words.set_fontproperties(FontProperties(fname=str(self.file), size=words.get_fontsize()))


def find_labels(names: Iterable[str]) -> dict[str, Label]:
    """Labels for those of these names that can be written.

    Plain Latin letters, which are all that Pillow's own font has, need no other. For the rest matplotlib's
    default font is asked first, then all that the system has, upright ones of usual weight before others.

    Args:
        names: of any letters; each is written in one font, and `COMMON_CHARACTERS` with it.

    Returns:
        By name its label. A name for which there is no font is left out, and so are all but the plain ones
        where matplotlib, the extra `plots`, is not installed.
    """
    names = dict.fromkeys(names)
    plain = {name: Label(name) for name in names if name.isascii() and name.isprintable()}
    # In one character each: a letter and its accent may stand in a file's name as two, which few fonts join.
    composed = {name: unicodedata.normalize("NFC", name) for name in names if name not in plain}
    return plain | {name: Label(composed[name], file) for name, file in _files(composed).items()}


def _files(texts: dict[str, str]) -> dict[str, Path]:
    """By key of `texts` the file of a font that has all letters of the text, where there is one."""
    waiting = {key: {*map(ord, text + COMMON_CHARACTERS)} for key, text in texts.items()}
    found: dict[str, Path] = {}
    for path in _installed_fonts() if waiting else []:
        fitting = _fitting(path, waiting)
        found |= dict.fromkeys(fitting, path)
        for key in fitting:
            del waiting[key]
        if not waiting:
            break
    return found


def _installed_fonts() -> list[Path]:
    """Files of fonts, matplotlib's default first."""
    try:
        from matplotlib.font_manager import FontProperties, findfont, findSystemFonts
    except ImportError:
        return []
    usable = [path for path in map(Path, findSystemFonts()) if not _WITHOUT_SHAPES.search(path.stem)]
    usable.sort(key=lambda path: (bool(_UNUSUAL.search(path.stem)), path.name, path))
    return [Path(findfont(FontProperties())), *usable]


def _fitting(path: Path, letters: dict[str, set[int]]) -> list[str]:
    """The keys of those sets of letters that a font has whole."""
    from matplotlib.ft2font import FT2Font

    try:
        face = FT2Font(str(path))
    except (OSError, RuntimeError):  # no font, or of a kind that cannot be read
        return []
    if not face.scalable:
        return []
    return [key for key, needed in letters.items() if all(map(face.get_char_index, needed))]


@cache
def _opened(path: Path, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size)
