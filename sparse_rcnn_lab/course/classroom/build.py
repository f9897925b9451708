"""``build``: from percent scripts to a course folder and the notebooks that students get.

All get the same one; or, with a roster, each their own numbers (``personal``).

A cell's role stands in its header; nbgrader's own metadata, eight fields a cell, are made here:

    # %% tags=["build"]               draws this year's numbers; not part of the notebook
    # %% solution="iou"               the student writes between BEGIN SOLUTION and END SOLUTION
    # %% test="iou-1" points=1        a test; hidden between BEGIN and END HIDDEN TESTS
    # %% [markdown] written="report" points=3      an answer in words, marked by hand
    # %% locked="imports"             code that students run and should not change
"""

from __future__ import annotations

import copy
import re
import secrets
import textwrap
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.course.classroom.cells import read_notebook, role_of, write_notebook
from sparse_rcnn_lab.course.classroom.course_folder import Assignment, Course, need_nbgrader
from sparse_rcnn_lab.course.classroom.roster import Roster
from sparse_rcnn_lab.course.classroom.validate import MORE_HIDDEN
from sparse_rcnn_lab.course.classroom.vary import V, fill_in
from sparse_rcnn_lab.course.lessons.notebook_files import KERNEL
from sparse_rcnn_lab.detect.files import write_text

# A test is a function of its own: what it names, its ``check`` too, is no name of the notebook.
_TEST = """\
def _test():
    from sparse_rcnn_lab.course.classroom.checks import {} as check

{}


_test()"""
_BEGIN = "### BEGIN HIDDEN TESTS"
# "Run all cells" goes on below a cell that fails: a mistake hides no later test.
_GO_ON = ["raises-exception"]
FORBIDDEN = re.compile(r"(BEGIN|END) (SOLUTION|HIDDEN)|\bV\.")


def build(
    root: str | Path,
    sources: str | Path,
    assignments: tuple[Assignment, ...],
    secret: str | None = None,
    students: Path | None = None,
    say: Callable[[str], None] = print,
) -> Course:
    """Makes or refreshes a course folder.

    root: the folder.  sources: :func:`own_sources`, or a folder like it.
    secret: decides data and expected values; default the folder's own, a new one in a new folder.
    students: a roster; then everybody gets numbers of their own, in ``hand-out/STUDENT``. Called
    again, with more students or without a roster, it leaves the numbers of all as they are.

    Raises LabError when a source cannot be built, when the student's version would give something
    away, and when the folder holds submissions to another secret.
    """
    need_nbgrader()
    if students:
        Roster.read(Path(students))  # before anything is written
    root, sources = Path(root).resolve(), Path(sources)
    names = tuple(a.name for a in assignments)
    if (root / "course.json").exists():
        before = Course.open(root)
        if secret not in (None, before.secret) and before.students():
            raise LabError(
                f'"{root}" has submissions to another secret. Name another folder with --course: '
                "their hidden tests would be exchanged."
            )
        if students and before.students() and not (root / "personal").is_dir():
            raise LabError(
                f'"{root}" has submissions with the same numbers for all. Name another folder with '
                "--course to give everybody their own."
            )
        secret = secret or before.secret
        names = tuple(dict.fromkeys((*before.assignments, *names)))
    elif root.is_dir() and any(root.iterdir()):
        raise LabError(f'"{root}" has files but is no course folder. Name another with --course.')
    course = Course(root, secret or secrets.token_hex(16), names)
    course.save()
    if students:
        course.keep_roster(Path(students))
    own = bool(students) or (root / "personal").is_dir()
    roster = course.roster() if own else None
    for assignment in assignments:
        say(f"{assignment.name}: building ...")
        source = sources / assignment.source
        notebook = read_source(source, assignment, course)
        write_notebook(course.notebook("source", assignment.name), notebook)
        done = course.nbgrader().generate_assignment(assignment.name, force=True, create=True)
        if not done["success"]:
            raise LabError(f'nbgrader could not build "{assignment.name}":\n{done["log"]}')
        release = read_notebook(course.notebook("release", assignment.name))
        check_release(release, source)
        out = course.hand_out(assignment.name)
        marks = sum(role_of(cell).get("points", 0) for cell in notebook.cells)
        if roster:
            out.unlink(missing_ok=True)  # everybody has another one
            out = course.hand_out(assignment.name, "STUDENT")
            for person in tqdm(roster.people, assignment.name, unit="student", leave=False):
                make_personal(course, source, assignment, person.student)
        else:
            write_notebook(out, release)
        times = f"{len(roster.people)} times " if roster else ""
        say(f"{assignment.name}: {marks:g} marks, {times}{out}")
    for guide in (sources / "GUIDE.md", sources.parent.parent / "docs" / "classroom.md"):
        if guide.is_file():
            write_text(root / "source" / "GUIDE.md", guide.read_text(encoding="utf-8"))
    return course


def own_sources() -> Path:
    """The sources that come with this package, installed or a clone."""
    installed = Path(__file__).with_name("assignments")
    clone = Path(__file__).resolve().parents[3] / "notebooks" / "assignments"
    return installed if installed.is_dir() else clone


def make_personal(course: Course, source: Path, assignment: Assignment, student: str) -> None:
    """A student's hand-out, and the instructor's copy of it, with numbers of their own."""
    from nbgrader.preprocessors import ClearHiddenTests, ClearSolutions, ComputeChecksums, LockCells

    notebook = read_source(source, assignment, course, student)
    write_notebook(course.notebook("personal", assignment.name, student), notebook)
    config = course.nbgrader_config()
    for step in (LockCells, ClearSolutions, ClearHiddenTests, ComputeChecksums):
        notebook, _ = step(config=config).preprocess(notebook, {})
    check_release(notebook, source)
    write_notebook(course.hand_out(assignment.name, student), notebook)


def check_release(notebook: Any, source: Path) -> None:
    """Raises LabError where a student's notebook still holds a mark of what nbgrader takes out."""
    for number, cell in enumerate(notebook["cells"]):
        if found := FORBIDDEN.search(cell["source"]):
            raise LabError(f'Cell {number} made of "{source}" still has "{found[0]}".')


@cache
def _parsed(path: Path, _changed: float) -> Any:
    import jupytext

    return jupytext.reads(path.read_text(encoding="utf-8"), fmt="py:percent")


def read_source(path: Path, assignment: Assignment, course: Course, student: str = "") -> Any:
    """The instructor's notebook of an assignment, with the course's numbers or a student's own.

    Raises LabError, naming the file, for a source that cannot be read or built.
    """
    try:
        raw = copy.deepcopy(_parsed(path, path.stat().st_mtime))
    except OSError as error:
        raise LabError(f'The source "{path}" cannot be read ({error.strerror}).') from error
    V.restart(f"{course.secret} {student}".strip())
    namespace: dict[str, Any] = {}
    cells: list[Any] = []
    for number, cell in enumerate(raw.cells):
        try:
            if "build" in cell.metadata.get("tags", ()):
                exec(compile(cell.source, f"{path.name}, cell {number}", "exec"), namespace)
                continue
            cell.source = fill_in(cell.source, V, cell.cell_type == "code")
        except Exception as error:
            raise LabError(
                f'Cell {number} of "{path}" cannot be built: {type(error).__name__}: {error}'
            ) from error
        _give_role(cell, assignment, path)
        cell["id"] = f"{assignment.name}-{len(cells)}"  # the same from one build to the next
        cells.append(cell)
    about = {"assignment": assignment.name, "course": course.mark}
    raw.cells, raw.metadata = cells, {"kernelspec": dict(KERNEL), "sparse_rcnn_lab": about}
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
