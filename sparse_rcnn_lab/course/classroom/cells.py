"""Notebooks as they lie on disk, and what every step asks of their cells."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from sparse_rcnn_lab.detect.files import write_text


def read_notebook(path: Path) -> Any:
    """A notebook, as its file has it."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_notebook(path: Path, notebook: Any) -> None:
    """Writes a notebook whole or not at all; a file that is the same stays untouched."""
    text = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
    if not (path.is_file() and path.read_text(encoding="utf-8") == text):
        write_text(path, text)


def read_cells(path: Path) -> list[Any]:
    """The cells of a notebook."""
    cells: list[Any] = read_notebook(path)["cells"]
    return cells


def role_of(cell: Any) -> dict[str, Any]:
    """What nbgrader knows of a cell; empty for one that is nobody's."""
    role: dict[str, Any] = cell.get("metadata", {}).get("nbgrader", {})
    return role


def name_of(cell: Any) -> str:
    """The name that its source gave it, or ""."""
    return str(role_of(cell).get("grade_id", ""))


def text_of(cell: Any) -> str:
    """Its text: JupyterLab saves a list of lines."""
    return "".join(cell["source"])


def functions_in(cell: Any) -> list[str]:
    """The functions that it defines."""
    return re.findall(r"^def (\w+)", text_of(cell), re.M)


def is_locked(cell: Any) -> bool:
    """Whether students leave it as it is."""
    return bool(role_of(cell).get("locked"))
