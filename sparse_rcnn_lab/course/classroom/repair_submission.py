"""A submission as it came -> one that can be graded: missing cells put back, outputs dropped.

nbgrader restores the text of locked cells by itself; a cell that is gone altogether it finds only
in part. What was done is said, so that the instructor can ask.
"""

from __future__ import annotations

import copy
import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.course.classroom.cells import is_locked, name_of, text_of

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
    for mine, theirs in _alike(cells, named[best], _cell_id):
        if not name_of(mine):
            mine["metadata"] = copy.deepcopy(theirs["metadata"])
    guessed = []
    for mine, theirs in itertools.chain(
        _alike(cells, named[best], _wording),
        _answers_between(cells, releases[best]["cells"]),  # which looks at what is known by then
    ):
        if not name_of(mine) and name_of(theirs) not in map(name_of, cells):
            mine["metadata"] = copy.deepcopy(theirs["metadata"])
            guessed.append(name_of(theirs))
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
    known = {text_of(cell) for cell in release}
    names = [name_of(cell) for cell in release]
    roles = set(names) - {""}
    for number, cell in enumerate(release):
        at = {
            names.index(name_of(mine)): i for i, mine in enumerate(cells) if name_of(mine) in roles
        }
        if not names[number] or is_locked(cell) or number in at:
            continue
        first = max((i for n, i in at.items() if n < number), default=-1)
        last = min((i for n, i in at.items() if n > number), default=len(cells))
        free = [
            mine
            for mine in cells[first + 1 : last]
            if not name_of(mine)
            and mine["cell_type"] == cell["cell_type"]
            and (text_of(mine) not in known or text_of(mine) == text_of(cell))
        ]
        functions = _functions(cell)
        if free:
            yield next((mine for mine in free if functions & _functions(mine)), free[0]), cell


def _functions(cell: Any) -> set[str]:
    return set(re.findall(r"^def (\w+)", text_of(cell), re.M))


def repair(notebook: Any, release: Any) -> list[str]:
    """Repairs ``notebook`` in place after the handed-out ``release``; what was found, in words."""
    notes = []
    expected = [cell for cell in release["cells"] if name_of(cell)]
    known = {name_of(cell): cell for cell in expected}
    cells = notebook["cells"]

    counts = Counter(name_of(cell) for cell in cells if name_of(cell) in known)
    if doubled := [name for name, count in counts.items() if count > 1]:
        notes.append(f"cells that came twice, the first counts: {', '.join(doubled)}")
    seen: set[str] = set()
    for cell in cells:
        name = name_of(cell)
        if name and (name not in known or name in seen):
            del cell["metadata"]["nbgrader"]
        seen.add(name)

    missing = [name for name in known if name not in counts]
    if missing:
        notes.append(f"cells that were missing, put back: {', '.join(missing)}")
    at = 0  # where the next missing cell goes: behind the one that stands before it in the release
    for cell in expected:
        places = [i for i, mine in enumerate(cells) if name_of(mine) == name_of(cell)]
        if places:
            at = places[0] + 1
        else:
            cells.insert(at, copy.deepcopy(cell))
            at += 1

    edited = []
    for cell in cells:
        name = name_of(cell)
        if not name:
            continue
        role = known[name]["metadata"]["nbgrader"]
        if role["locked"] and text_of(cell) != text_of(known[name]):
            edited.append(name)
        # A role that somebody changed would confuse the executor before nbgrader restores it.
        cell["metadata"] = copy.deepcopy(known[name]["metadata"])
    if edited:
        notes.append(f"locked cells that were changed, restored: {', '.join(edited)}")

    for pattern, words in _SUSPICIOUS.items():
        own = [c for c in cells if c["cell_type"] == "code" and not is_locked(c)]
        if any(
            text_of(c) != text_of(known.get(name_of(c), {"source": ""}))
            and re.search(pattern, text_of(c))
            for c in own
        ):
            notes.append(f"{words}: have a look")
    notebook["nbformat"], notebook["nbformat_minor"] = 4, 5
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"  # older notebooks have none; copied cells have the same
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
    return list(dict.fromkeys(notes))


def _cell_id(cell: Any) -> str:
    name = cell.get("id") or cell["metadata"].get("id")  # the latter is Colab's
    return name if isinstance(name, str) else ""


def _wording(cell: Any) -> str:
    """The text of a cell that students do not change, without its numbers."""
    if name_of(cell) and not is_locked(cell):
        return ""
    return re.sub(r"\d[\d.e-]*", "0", text_of(cell).strip())
