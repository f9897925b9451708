"""``grade``: runs every submission, several at a time, and writes the table of marks."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import threading
import warnings
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.course.classroom.cells import name_of, role_of
from sparse_rcnn_lab.course.classroom.course_folder import NOTES, Course
from sparse_rcnn_lab.course.classroom.marks import write_marks

# One thread per kernel, as two kernels with two threads each would wait for each other. Figures
# stay in the notebook, for the person who marks the text about them.
_KERNEL = {
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "passive",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
}


def grade(
    course: Course,
    assignments: tuple[str, ...] | None = None,
    students: tuple[str, ...] = (),
    workers: int | None = None,
    again: bool = False,
    progress: bool = True,
) -> dict[tuple[str, str], str]:
    """Grades what was collected and is new; ``again`` grades everything.

    Returns (student, assignment) -> why it could not be graded, or "".
    assignments, students: only these. workers: how many submissions run at a time (default: the
    number of cores). Marks given by hand stay. A submission that cannot be graded is reported; the
    others continue. Raises LabError where nothing was collected, or nothing of one of ``students``.
    """
    pairs = course.submissions(course.assignments if assignments is None else assignments)
    if not pairs:
        raise LabError(
            f'There is nothing to grade in "{course.root / "submitted"}": collect first.'
        )
    came = list(dict.fromkeys(student for student, _ in pairs))
    for student in students:
        if student not in came:
            raise LabError(f'Nothing came from "{student}". Choose from {", ".join(came)}.')
    pairs = [pair for pair in pairs if not students or pair[0] in students]
    with course.gradebook() as gradebook:
        # For all students at once, as two graders that do it may collide.
        for student in sorted({student for student, _ in pairs}):
            gradebook.update_or_create_student(student)
        known = set(course.known_to(gradebook))
    waiting = [pair for pair in pairs if again or pair not in known or is_new(course, *pair)]
    results: dict[tuple[str, str], str] = {}
    workers = max(1, min(workers or os.cpu_count() or 1, len(waiting)))
    with tqdm(total=len(waiting), unit="notebook", disable=not progress) as bar:
        while waiting:
            spawn = multiprocessing.get_context("spawn")
            pool = ProcessPoolExecutor(workers, spawn, initializer=_end_with_parent)
            jobs = {pool.submit(grade_one, course.root, *pair): pair for pair in waiting}
            try:
                for job in as_completed(jobs):
                    pair, problem = jobs[job], job.result()
                    waiting.remove(pair)
                    results[pair] = problem
                    bar.update()
                    bar.set_postfix_str(" ".join(pair), refresh=False)
                    if problem:
                        tqdm.write(f"{', '.join(pair)}: {problem}")
            except BrokenProcessPool as error:
                if workers == 1:
                    raise LabError(
                        "A grading process was killed (out of memory?). What is graded is saved; "
                        "the next call continues from there."
                    ) from error
                workers = 1  # with less memory in use at a time
                tqdm.write("A grading process was killed (out of memory?); going on one at a time.")
            except KeyboardInterrupt:
                for process in multiprocessing.active_children():
                    process.terminate()  # now, not at the end of its notebook
                tqdm.write("What is graded is saved; the next `grade` continues from there.")
                raise
            finally:
                pool.shutdown(cancel_futures=True)
    write_marks(course)
    return results


def grade_one(root: Path, student: str, assignment: str) -> str:
    """Grades one submission in this process, changing its environment; returns a problem or ""."""
    os.environ.update(_KERNEL)
    course = Course.open(root)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sqlalchemy, about nbgrader
        with course.gradebook() as gradebook:
            before = _by_hand(course, gradebook, student, assignment)
            marked = {
                name: what for name, (grade, what) in before.items() if not grade.needs_manual_grade
            }
        done = course.nbgrader().autograde(assignment, student, force=True, create=True)
        # nbgrader asks for all marks by hand again, also where nothing has changed.
        with course.gradebook() as gradebook:
            for name, (grade, what) in _by_hand(course, gradebook, student, assignment).items():
                if what and marked.get(name) == what:
                    grade.needs_manual_grade = False
            gradebook.db.commit()
    if done["success"]:
        return ""
    # The error is often nbgrader's "see the above traceback"; the traceback is in its log.
    reasons = re.findall(r"^ *([\w.]*(?:Error|Exception)\w*: .+)", done["log"] or "", re.M)
    lines = reasons or (done["error"] or done["log"] or "no reason given").strip().splitlines()
    return f"could not be graded: {lines[-1]}"


def _by_hand(
    course: Course, gradebook: Any, student: str, assignment: str
) -> dict[str, tuple[Any, list[str]]]:
    """Test -> (its grade, what a person gave marks for): an answer, or of a test the notebook."""
    submission = course.known_to(gradebook).get((student, assignment))
    cells = course.read("autograded", assignment, student)["cells"]
    whole = [cell["source"] for cell in cells]
    said = {name_of(c): [c["source"]] if role_of(c).get("solution") else whole for c in cells}
    grades = submission.notebooks[0].grades if submission else ()
    return {g.name: (g, said.get(g.name, [])) for g in grades if g.manual_score is not None}


def is_new(course: Course, student: str, assignment: str) -> bool:
    """Whether a submission or its tests changed after it was graded, or grading is not complete."""
    if NOTES not in course.read("autograded", assignment, student)["metadata"]:
        return True
    came, graded = (course.notebook(s, assignment, student) for s in ("submitted", "autograded"))
    # The time of submission counts too, as late days depend on it. So does a corrected test, as
    # all students of a class are to be marked by the same tests.
    known = [*came.parent.iterdir(), course.notebook("source", assignment)]
    known += course.root.glob(f"personal/{student}/{assignment}/*.ipynb")
    return graded.stat().st_mtime < max(path.stat().st_mtime for path in known)


def _end_with_parent() -> None:
    """Makes a grading process end once ``grade`` has ended, even by SIGTERM or SIGKILL.

    Kernels watch their own parent. Ctrl+C reaches every process of a terminal, but only ``grade``
    handles it.
    """
    signal.signal(signal.SIGINT, lambda number, frame: None)  # not SIG_IGN: kernels inherit that
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
