"""Reads and writes notebooks, and answers what every step needs to know of their cells."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from sparse_rcnn_lab.detect.files import write_text


def read_notebook(path: Path) -> Any:
    """The notebook in a file, with each source as one text."""
    return notebook_of(path.read_text(encoding="utf-8"))


def notebook_of(text: str) -> Any:
    """A notebook as plain values. JupyterLab saves a source as a list of lines."""
    notebook = json.loads(text)
    for cell in notebook["cells"]:
        cell["source"] = "".join(cell["source"])
    return notebook


def write_notebook(path: Path, notebook: Any) -> None:
    """Writes a notebook as :func:`write_changed` does."""
    write_changed(path, json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")


def write_changed(path: Path, text: str) -> None:
    """Writes a text file whole or not at all; an identical file stays untouched."""
    if not (path.is_file() and path.read_text(encoding="utf-8") == text):
        write_text(path, text)


def wording(cell: Any) -> str:
    """The text of a cell without its numbers, which may be a course's or a student's own."""
    return re.sub(r"-?\d[\d.e-]*", "0", cell["source"].strip())


def role_of(cell: Any) -> dict[str, Any]:
    """nbgrader's metadata of a cell; empty for a cell without a role."""
    role: dict[str, Any] = cell.get("metadata", {}).get("nbgrader", {})
    return role


def name_of(cell: Any) -> str:
    """The name that its source gave it, or ""."""
    return str(role_of(cell).get("grade_id", ""))


def is_locked(cell: Any) -> bool:
    """Whether students must leave it as it is."""
    return bool(role_of(cell).get("locked"))
