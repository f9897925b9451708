"""What every step asks of a notebook's cells, as they lie on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_cells(path: Path) -> list[Any]:
    """The cells of a notebook."""
    cells: list[Any] = json.loads(path.read_text(encoding="utf-8"))["cells"]
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


def is_locked(cell: Any) -> bool:
    """Whether students leave it as it is."""
    return bool(role_of(cell).get("locked"))
