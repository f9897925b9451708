"""``build``: from percent scripts to a course folder and the notebooks that students get.

A cell's role is in its header, from which nbgrader's metadata, eight fields per cell, are made:

    # %% tags=["build"]               draws this year's numbers; not part of the notebook
    # %% solution="iou"               the student writes between BEGIN SOLUTION and END SOLUTION
    # %% solution="run" seconds=150   the same, in a cell that may take longer than the others
    # %% test="iou-1" points=1        a test; hidden between BEGIN and END HIDDEN TESTS
    # %% [markdown] written="report" points=3      an answer in words, marked by hand
    # %% locked="imports"             code that students run and should not change
"""

from __future__ import annotations

import re
import secrets
import textwrap
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.course import need
from sparse_rcnn_lab.course.classroom.cells import read_notebook, role_of, write_notebook
from sparse_rcnn_lab.course.classroom.course_folder import ASSIGNMENTS, Course
from sparse_rcnn_lab.course.classroom.roster import Roster
from sparse_rcnn_lab.course.classroom.validate import MORE_HIDDEN
from sparse_rcnn_lab.course.classroom.vary import V, fill_in
from sparse_rcnn_lab.course.lessons.notebook_files import KERNEL
from sparse_rcnn_lab.detect.files import write_text

# A test is a separate function, so that its names, ``check`` too, are not names of the notebook.
_TEST = """\
def _test():
    from sparse_rcnn_lab.course.classroom.checks import {} as check

{}


_test()"""
_BEGIN = "### BEGIN HIDDEN TESTS"
_ROLES = {
    "solution": {"grade": False, "locked": False, "solution": True},
    "test": {"grade": True, "locked": True, "solution": False},
    "written": {"grade": True, "locked": False, "solution": True},
    "locked": {"grade": False, "locked": True, "solution": False},
}
FORBIDDEN = re.compile(r"(BEGIN|END) (SOLUTION|HIDDEN)|\bV\.")


def build(
    root: Path,
    sources: Path,
    assignments: tuple[str, ...],
    secret: str | None = None,
    students: Path | None = None,
) -> Course:
    """Creates or refreshes a course folder.

    root: the folder.  sources: :func:`own_sources`, or a folder like it.
    secret: determines data and expected values; default: the folder's own, new in a new folder.
    students: a roster; then all students get numbers of their own, in ``hand-out/STUDENT``. Called
    again, with more students or without a roster, it does not change anybody's numbers.

    Raises LabError when a source cannot be built, when the student's version would reveal a
    solution, and when the folder holds submissions for another secret.
    """
    need("classroom", "jupytext", "nbgrader")
    if students:
        Roster.read(students)  # before anything is written
    root, names = root.resolve(), assignments
    if (root / "course.json").exists():
        before = Course.open(root)
        if secret not in (None, before.secret) and before.students():
            raise LabError(
                f'"{root}" has submissions for another secret. Name another folder with --course: '
                "their hidden tests would be replaced."
            )
        if students and before.students() and not (root / "personal").is_dir():
            raise LabError(
                f'"{root}" has submissions with the same numbers for all. Name another folder with '
                "--course to give everybody their own."
            )
        secret = secret or before.secret
        names = tuple(dict.fromkeys((*before.assignments, *assignments)))
    elif root.is_dir() and any(root.iterdir()):
        raise LabError(f'"{root}" has files but is no course folder. Name another with --course.')
    course = Course(root, secret or secrets.token_hex(16), names)
    course.save()
    if students:
        course.keep_roster(students)
    roster = course.roster() if students or (root / "personal").is_dir() else None
    for name in assignments:
        print(f"{name}: building ...")
        notebook = read_source(sources, name, course)
        write_notebook(course.notebook("source", name), notebook)
        done = course.nbgrader().generate_assignment(name, force=True, create=True)
        if not done["success"]:
            raise LabError(f'nbgrader could not build "{name}":\n{done["log"]}')
        release = read_notebook(course.notebook("release", name))
        check_release(release, name)
        out, times = course.hand_out(name), ""
        if roster:
            out.unlink(missing_ok=True)  # everybody has their own
            out, times = course.hand_out(name, "STUDENT"), f"{len(roster.people)} times "
            for person in tqdm(roster.people, name, unit="student", leave=False):
                make_personal(course, sources, name, person.student)
        else:
            write_notebook(out, release)
        marks = sum(role_of(cell).get("points", 0) for cell in notebook.cells)
        print(f"{name}: {marks:g} marks, {times}{out}")
    for guide in (sources / "GUIDE.md", sources.parent.parent / "docs" / "classroom.md"):
        if guide.is_file():
            write_text(root / "source" / "GUIDE.md", guide.read_text(encoding="utf-8"))
    return course


def own_sources() -> Path:
    """The sources that come with this package, installed or cloned."""
    installed = Path(__file__).with_name("assignments")
    clone = Path(__file__).resolve().parents[3] / "notebooks" / "assignments"
    return installed if installed.is_dir() else clone


def make_personal(course: Course, sources: Path, assignment: str, student: str) -> None:
    """Makes a student's hand-out, and the instructor's copy, with the student's own numbers."""
    from nbgrader.preprocessors import ClearHiddenTests, ClearSolutions, ComputeChecksums, LockCells

    notebook = read_source(sources, assignment, course, student)
    write_notebook(course.notebook("personal", assignment, student), notebook)
    config = course.nbgrader_config()
    for step in (LockCells, ClearSolutions, ClearHiddenTests, ComputeChecksums):
        notebook, _ = step(config=config).preprocess(notebook, {})
    check_release(notebook, assignment)
    write_notebook(course.hand_out(assignment, student), notebook)


def check_release(notebook: Any, assignment: str) -> None:
    """Raises LabError where a student's notebook still has a marker that nbgrader removes."""
    for number, cell in enumerate(notebook["cells"]):
        if found := FORBIDDEN.search(cell["source"]):
            raise LabError(f'Cell {number} of "{assignment}" still has "{found[0]}".')


def read_source(sources: Path, assignment: str, course: Course, student: str = "") -> Any:
    """The instructor's notebook of an assignment, with the course's numbers or a student's own.

    Raises LabError, naming the file, for a source that cannot be read or built.
    """
    import jupytext

    path = sources / f"{list(ASSIGNMENTS).index(assignment) + 1}_{assignment}.py"
    try:
        raw = jupytext.read(path, fmt="py:percent")
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
        cell["id"] = f"{assignment}-{len(cells)}"  # the same from one build to the next
        cells.append(cell)
    about = {"assignment": assignment, "course": course.mark}
    raw.cells, raw.metadata = cells, {"kernelspec": dict(KERNEL), "sparse_rcnn_lab": about}
    raw.nbformat, raw.nbformat_minor = 4, 5
    return raw


def _give_role(cell: Any, assignment: str, path: Path) -> None:
    given = dict(cell.metadata)
    roles = [role for role in _ROLES if role in given]
    if len(roles) > 1:
        raise LabError(f'A cell of "{path}" is both {" and ".join(roles)}.')
    cell.metadata.clear()
    if not roles:
        return
    role, name = roles[0], str(given[roles[0]])
    if not re.fullmatch(r"[\w-]+", name):
        raise LabError(f'The cell name "{name}" in "{path}" must be letters, digits, - and _.')
    about = {"grade_id": name, "cell_type": cell.cell_type, "task": False, "schema_version": 3}
    cell.metadata["nbgrader"] = about | _ROLES[role]
    if _ROLES[role]["grade"]:
        points = given.get("points", 1)
        if not isinstance(points, int | float) or points < 0:
            raise LabError(f'The points of "{name}" in "{path}" must be a number: {points!r}.')
        cell.metadata["nbgrader"]["points"] = points
    if "seconds" in given:
        cell.metadata["seconds"] = given["seconds"]
    if role != "written":
        # "Run all cells" continues below a failing cell, so that a mistake hides no later test.
        cell.metadata["tags"] = ["raises-exception"]
    if role == "test":
        body = textwrap.indent(_with_note(cell.source.strip()), "    ")
        cell.source = _TEST.format(assignment, body)


def _with_note(source: str) -> str:
    """Adds a note to a partly hidden test: if the visible part passes, there is no mark yet."""
    seen = re.sub(rf"{_BEGIN}.*?### END HIDDEN TESTS", "", source, flags=re.S)
    code = [line for line in seen.splitlines() if line.strip() and not line.startswith("#")]
    return source.replace(_BEGIN, f"{MORE_HIDDEN}\n{_BEGIN}", 1) if code else source
