"""From a percent script in ``notebooks/assignments`` to the notebook nbgrader starts from.

A cell's role stands in its header; nbgrader's own metadata, eight fields a cell, are made here:

    # %% tags=["build"]               draws this year's numbers; not part of the notebook
    # %% solution="iou"               the student writes between BEGIN SOLUTION and END SOLUTION
    # %% test="iou-1" points=1        a test; hidden between BEGIN and END HIDDEN TESTS
    # %% [markdown] written="report" points=3      an answer in words, marked by hand
    # %% locked="imports"             code that students run and should not change
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.course.classroom.catalogue import Assignment
from sparse_rcnn_lab.course.classroom.validate import MORE_HIDDEN
from sparse_rcnn_lab.course.classroom.vary import V, fill_in

# A test is a function of its own: what it names, its ``check`` too, is no name of the notebook.
_TEST = """\
def _test():
    from sparse_rcnn_lab.course.classroom.checks import {} as check

{}


_test()"""
_BEGIN = "### BEGIN HIDDEN TESTS"
# "Run all cells" goes on below a cell that fails: a mistake hides no later test.
_GO_ON = ["raises-exception"]


def read_source(path: Path, assignment: Assignment, seed: int) -> Any:
    """The instructor's notebook of an assignment, with the numbers of ``seed``.

    Raises LabError, naming the file, for a source that cannot be read or built.
    """
    import jupytext

    try:
        raw = jupytext.reads(path.read_text(encoding="utf-8"), fmt="py:percent")
    except OSError as error:
        raise LabError(f'The source "{path}" cannot be read ({error.strerror}).') from error
    V.restart(seed)
    namespace: dict[str, Any] = {}
    cells = []
    for number, cell in enumerate(raw.cells):
        if "build" in cell.metadata.get("tags", ()):
            try:
                exec(compile(cell.source, f"{path.name}, cell {number}", "exec"), namespace)
            except Exception as error:
                raise LabError(
                    f'Cell {number} of "{path}" cannot draw its numbers: '
                    f"{type(error).__name__}: {error}"
                ) from error
            continue
        cells.append(cell)
    for cell in cells:
        try:
            cell.source = fill_in(cell.source, V, cell.cell_type == "code")
        except LabError as error:
            raise LabError(f'In "{path}": {error}') from error
        _give_role(cell, assignment, path)
    raw.cells = cells
    for number, cell in enumerate(cells):  # the same from one build to the next
        cell["id"] = f"{assignment.name}-{number}"
    raw.metadata.clear()
    raw.metadata["kernelspec"] = {
        "display_name": "Python 3 (ipykernel)",
        "language": "python",
        "name": "python3",
    }
    raw.metadata["sparse_rcnn_lab"] = {"assignment": assignment.name, "seed": seed}
    raw.nbformat, raw.nbformat_minor = 4, 5
    return raw


def _give_role(cell: Any, assignment: Assignment, path: Path) -> None:
    given = dict(cell.metadata)
    roles = [role for role in ("solution", "test", "written", "locked") if role in given]
    if len(roles) > 1:
        raise LabError(f'A cell of "{path}" is both {" and ".join(roles)}.')
    cell.metadata.clear()
    if not roles:
        return
    role, name = roles[0], str(given[roles[0]])
    if not re.fullmatch(r"[\w-]+", name):
        raise LabError(f'The cell name "{name}" in "{path}" must be letters, digits, - and _.')
    graded = role in ("test", "written")
    nbgrader: dict[str, Any] = {
        "grade": graded,
        "grade_id": name,
        "locked": role in ("test", "locked"),
        "schema_version": 3,
        "solution": role in ("solution", "written"),
        "task": False,
        "cell_type": cell.cell_type,
    }
    if graded:
        nbgrader["points"] = int(given.get("points", 1))
    cell.metadata["nbgrader"] = nbgrader
    if role != "written":
        cell.metadata["tags"] = list(_GO_ON)
    if role == "test":
        body = textwrap.indent(_with_note(cell.source.strip()), "    ")
        cell.source = _TEST.format(assignment.name, body)


def _with_note(source: str) -> str:
    """A test that students see a part of says so: that part passing is no mark yet."""
    seen = re.sub(rf"{_BEGIN}.*?### END HIDDEN TESTS", "", source, flags=re.S)
    code = [line for line in seen.splitlines() if line.strip() and not line.startswith("#")]
    return source.replace(_BEGIN, f"{MORE_HIDDEN}\n{_BEGIN}", 1) if code else source
