"""Finds a font that has a text's characters: matplotlib's own, or else one of this system's."""

from __future__ import annotations

import warnings
from functools import lru_cache
from pathlib import Path

OURS = "DejaVu Sans"  # comes with matplotlib; Latin, Greek, Cyrillic, Arabic, symbols

_EVERYWHERE = frozenset(map(chr, range(128))) | frozenset("…")  # Pillow's own font has only these
_said: set[str] = set()


def font_for(text: str) -> tuple[str, str] | None:
    """(family, file) of the font with most of the text's characters, ours if it has as many.

    None: any font will do. Warns, once per process, when no font has all of them.
    """
    letters = frozenset(text.replace("\n", "")) | frozenset("….0123456789")
    return _font_with(letters) if letters - _EVERYWHERE else None


@lru_cache(maxsize=1024)
def _font_with(letters: frozenset[str]) -> tuple[str, str]:
    best, missing = _fonts()[0], letters
    for font in _fonts():
        lacking = letters - _letters(font[1])
        if len(lacking) < len(missing):
            best, missing = font, lacking
        if not missing:
            return best
    if not _said:
        _said.add("letters")
        example = "".join(sorted(missing))[:10]
        warnings.warn(
            f'No font of this system has some letters of the names ("{example}"): they are drawn '
            "as empty boxes. Install one that has them, such as Noto Sans of that script.",
            stacklevel=3,
        )
    return best


@lru_cache(maxsize=1)
def _fonts() -> list[tuple[str, str]]:
    """Upright fonts of regular weight as (family, file), ours first."""
    from matplotlib import get_data_path
    from matplotlib.font_manager import fontManager

    own = (OURS, str(Path(get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")))
    usual = sorted(
        (entry.name, entry.fname)
        for entry in fontManager.ttflist
        if entry.style == "normal"
        and entry.weight in (400, "normal", "regular")
        # This font draws a box with a number for every character.
        and "lastresort" not in entry.name.lower().replace(" ", "")
    )
    return [own, *usual]


@lru_cache(maxsize=512)
def _letters(file: str) -> frozenset[str]:
    """The characters that a font can draw at any size; none if its file is damaged or missing."""
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(file)
        return frozenset(map(chr, font.get_charmap())) if font.scalable else frozenset()
    except (OSError, RuntimeError):
        return frozenset()
