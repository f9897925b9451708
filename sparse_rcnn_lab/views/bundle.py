"""Joins JavaScript files into one ECMAScript module, for pages and notebooks alike."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path


def joined(files: Sequence[Path]) -> str:
    """The files in this order, each of which may use only what is before it.

    Every ``import ... from "./x.js";`` is removed, and so is ``export`` except in the last file.
    So no name may be defined at the top level of two files.
    """
    parts = []
    for file in files:
        text = file.read_text(encoding="utf-8")
        text = re.sub(r'^import [^;]*? from "\./\w+\.js";\n', "", text, flags=re.M)
        text = re.sub(r"^ *(//.*\n)?", "", text, flags=re.M)  # comments, indents: 20 kB of a page
        if file != files[-1]:
            text = re.sub(r"^export ", "", text, flags=re.M)
        parts.append(f"// ---- {file.name}\n{text.strip()}\n")
    return "\n".join(parts)
