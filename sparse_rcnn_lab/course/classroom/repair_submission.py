"""A submission as it came -> one that can be graded: missing cells put back, outputs dropped.

nbgrader restores the text of locked cells by itself; a cell that is gone altogether it finds only
in part. What was done is said, so that the instructor can ask.
"""

from __future__ import annotations

import copy
import re
from collections import Counter
from typing import Any

# In a student's own cells; a look by a person is in order.
_ANSWER = "imports the package's own answer"
_SUSPICIOUS = {
    r"sparse_rcnn_lab[\w.]*\.classroom\.(?!practice|validate)": "touches the checks",
    r"sparse_rcnn_lab[\w.]*\.(boxes|matching|losses)\b": _ANSWER,
    r"from\s+sparse_rcnn_lab[\w.]*\s+import\s+.*\b(boxes|matching|losses)\b": _ANSWER,
    r"import.*\b(DynamicInteraction|SelfAttention)\b": _ANSWER,
    r"__(code|file|class|globals|subclasses)__|\bgetsource\b|\bget_ipython\b|\bgradebook\b": (
        "looks around"
    ),
    r"(?<![\w.])(open|exec|eval)\(|\.(read_text|read_bytes)\(": "reads files or runs text",
}


def repair(notebook: Any, release: Any) -> list[str]:
    """Repairs ``notebook`` in place after the handed-out ``release``; what was found, in words."""
    notes = []
    expected = [cell for cell in release["cells"] if _id(cell)]
    known = {_id(cell): cell for cell in expected}
    cells = notebook["cells"]

    counts = Counter(_id(cell) for cell in cells if _id(cell) in known)
    if doubled := [name for name, count in counts.items() if count > 1]:
        notes.append(f"cells that came twice, the first counts: {', '.join(doubled)}")
    seen: set[str] = set()
    for cell in cells:
        name = _id(cell)
        if name and (name not in known or name in seen):
            del cell["metadata"]["nbgrader"]
        seen.add(name)

    missing = [name for name in known if name not in counts]
    if missing:
        notes.append(f"cells that were missing, put back: {', '.join(missing)}")
    at = 0  # where the next missing cell goes: behind the one that stands before it in the release
    for cell in expected:
        places = [i for i, mine in enumerate(cells) if _id(mine) == _id(cell)]
        if places:
            at = places[0] + 1
        else:
            cells.insert(at, copy.deepcopy(cell))
            at += 1

    edited = []
    for cell in cells:
        name = _id(cell)
        if not name:
            continue
        role = known[name]["metadata"]["nbgrader"]
        if role["locked"] and _text(cell) != _text(known[name]):
            edited.append(name)
        # A role that somebody changed would confuse the executor before nbgrader restores it.
        cell["metadata"] = copy.deepcopy(known[name]["metadata"])
    if edited:
        notes.append(f"locked cells that were changed, restored: {', '.join(edited)}")

    for pattern, words in _SUSPICIOUS.items():
        own = [c for c in cells if c["cell_type"] == "code" and not _locked(c)]
        if any(
            _text(c) != _text(known.get(_id(c), {"source": ""})) and re.search(pattern, _text(c))
            for c in own
        ):
            notes.append(f"{words}: have a look")
    notebook["nbformat"], notebook["nbformat_minor"] = 4, 5
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"  # older notebooks have none; copied cells have the same
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
    return list(dict.fromkeys(notes))


def _id(cell: Any) -> str:
    name: str = cell.get("metadata", {}).get("nbgrader", {}).get("grade_id", "")
    return name


def _locked(cell: Any) -> bool:
    return bool(cell.get("metadata", {}).get("nbgrader", {}).get("locked"))


def _text(cell: Any) -> str:
    return "".join(cell["source"])
