"""A submission as it came -> one that can be graded: missing cells put back, outputs dropped.

nbgrader restores the text of locked cells by itself; a cell that is gone altogether it finds only
in part. What was done is said, so that the instructor can ask.
"""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Callable, Iterator
from typing import Any

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.course.classroom.cells import is_locked, name_of, wording

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

_LONGEST = 400  # characters of a line that are looked at at once


def recognise(notebook: Any, releases: dict[str, Any]) -> tuple[str, list[str]]:
    """Which assignment a notebook is, and a note if that was hard to tell.

    Where a program has left the metadata out, cells get their roles back, in place: by their ids,
    or by their text. Raises LabError where it is none of ``releases``, name -> notebook.
    """
    named = {name: [c for c in r["cells"] if name_of(c)] for name, r in releases.items()}
    cells = notebook["cells"]
    matches = {
        name: [len(_alike(cells, theirs, key)) for key in (name_of, _cell_id, _wording)]
        for name, theirs in named.items()
    }
    best = max(matches, key=lambda name: sum(matches[name]))
    if not any(matches[best][:2]) and matches[best][2] < 3:  # anybody has "import torch"
        raise LabError(
            f"is none of this course's assignments ({', '.join(releases)}): none of its cells is "
            "one that was handed out."
        )
    guessed = []
    for mine, theirs in itertools.chain(
        _alike(cells, named[best], _cell_id),
        _alike(cells, named[best], _wording),
        _answers_between(cells, releases[best]["cells"]),  # which looks at what is known by then
    ):
        if not name_of(mine) and name_of(theirs) not in map(name_of, cells):
            guessed += [name_of(theirs)] if _cell_id(mine) != _cell_id(theirs) else []
            mine["metadata"] = copy.deepcopy(theirs["metadata"])
    if "assignment" not in notebook["metadata"].get("sparse_rcnn_lab", {}):
        notebook["metadata"]["sparse_rcnn_lab"] = releases[best]["metadata"]["sparse_rcnn_lab"]
    note = f"cells that had lost their marks, known by their text: {', '.join(guessed)}"
    return best, [note] if guessed else []


def _alike(cells: Any, named: Any, key: Callable[[Any], str]) -> list[tuple[Any, Any]]:
    """(cell, handed-out cell) of the same key."""
    theirs = {text: cell for cell in named if (text := key(cell))}
    mine = {key(cell): cell for cell in reversed(cells)}
    return [(mine[text], cell) for text, cell in theirs.items() if text in mine]


def _answers_between(cells: Any, release: Any) -> Iterator[tuple[Any, Any]]:
    """(cell, handed-out cell) of answers, whose text nobody knows, between cells that are known."""
    texts = {cell["source"] for cell in release}
    for number, cell in enumerate(release):
        at = {name: i for i, mine in enumerate(cells) if (name := name_of(mine))}
        if not name_of(cell) or is_locked(cell) or name_of(cell) in at:
            continue
        above, below = (map(name_of, part) for part in (release[:number], release[number:]))
        first = max((at[name] for name in above if name in at), default=-1)
        last = min((at[name] for name in below if name in at), default=len(cells))
        free = [
            mine
            for mine in cells[first + 1 : last]
            if not name_of(mine)
            and mine["cell_type"] == cell["cell_type"]
            and mine["source"] not in texts - {cell["source"]}
        ]
        if free:
            asked = _functions(cell)
            yield next((mine for mine in free if asked & _functions(mine)), free[0]), cell


def _functions(cell: Any) -> set[str]:
    return set(re.findall(r"^def (\w+)", cell["source"], re.M))


def repair(notebook: Any, release: Any) -> list[str]:
    """Repairs ``notebook`` in place after the handed-out ``release``; what was found, in words."""
    cells, known = notebook["cells"], {name_of(c): c for c in release["cells"] if name_of(c)}
    mine: dict[str, Any] = {}
    doubled: list[str] = []
    missing: list[str] = []
    edited: list[str] = []
    for cell in cells:
        name = name_of(cell)
        if name in known and name not in mine:
            mine[name] = cell
            continue
        if name in known and name not in doubled:
            doubled.append(name)
        cell["metadata"].pop("nbgrader", None)
    at = 0  # where the next missing cell goes: behind the one that stands before it in the release
    for name, theirs in known.items():
        if name in mine:
            at = next(i for i, cell in enumerate(cells) if cell is mine[name]) + 1
        else:
            missing.append(name)
            mine[name] = copy.deepcopy(theirs)
            cells.insert(at, mine[name])
            at += 1
        # nbgrader restores both, but after the executor has read the role, and of another type it
        # leaves fields that the right one may not have.
        mine[name]["metadata"] = copy.deepcopy(theirs["metadata"])
        mine[name]["cell_type"] = theirs["cell_type"]
        if is_locked(theirs) and mine[name]["source"] != theirs["source"]:
            edited.append(name)
    found = {
        "cells that came twice, the first counts": doubled,
        "cells that were missing, put back": missing,
        "locked cells that were changed, restored": edited,
    }
    notes = [f"{what}: {', '.join(names)}" for what, names in found.items() if names]
    code = [c for c in cells if c["cell_type"] == "code" and not is_locked(c)]
    own = {cell["source"] for cell in code} - {cell["source"] for cell in release["cells"]}
    lines = {piece for text in own for piece in _pieces(text)}
    for pattern, words in _SUSPICIOUS.items():
        if any(re.search(pattern, line) for line in lines):
            notes.append(f"{words}: have a look")
    notebook["nbformat"], notebook["nbformat_minor"] = 4, 5
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"  # older notebooks have none; copied cells have the same
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
            cell.pop("attachments", None)
        else:
            cell.pop("outputs", None)
            cell.pop("execution_count", None)
    return list(dict.fromkeys(notes))


def _pieces(text: str) -> Iterator[str]:
    """The lines of a text, long ones in overlapping parts: a search is quadratic in length."""
    for line in text.splitlines():
        for start in range(0, len(line), _LONGEST // 2):
            yield line[start : start + _LONGEST]


def _cell_id(cell: Any) -> str:
    name = cell.get("id") or cell["metadata"].get("id")  # the latter is Colab's
    return name if isinstance(name, str) else ""


def _wording(cell: Any) -> str:
    """That of a cell that students do not change."""
    return "" if name_of(cell) and not is_locked(cell) else wording(cell)
