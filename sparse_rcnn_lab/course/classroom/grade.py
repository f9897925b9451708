"""``grade``: runs every submission, some at a time, and writes the table of marks."""

from __future__ import annotations

import contextlib
import importlib
import json
import multiprocessing
import os
import signal
import threading
import time
import warnings
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from tqdm.auto import tqdm

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.course.classroom.course_folder import Course
from sparse_rcnn_lab.course.classroom.marks import write_marks
from sparse_rcnn_lab.detect.files import write_text

# One thread a kernel: two kernels with two threads each would wait for one another. Figures stay in
# the notebook, for the person who marks what it says about them.
_KERNEL = {
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "passive",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
}


@dataclass(frozen=True)
class Graded:
    """One graded submission. problem: why it could not be graded, or empty."""

    student: str
    assignment: str
    seconds: float
    problem: str


def grade(
    course: Course,
    assignments: tuple[str, ...] | None = None,
    students: tuple[str, ...] = (),
    workers: int | None = None,
    again: bool = False,
    progress: bool = True,
) -> list[Graded]:
    """Grades what was collected and is new; ``again`` grades everything.

    assignments, students: only these. workers: submissions at a time (default: as many as there are
    cores). Marks given by hand stay. A submission that cannot be graded is said; the others go on.
    Raises LabError where nothing was collected.
    """
    pairs = course.submissions(course.assignments if assignments is None else assignments)
    pairs = [pair for pair in pairs if not students or pair[0] in students]
    if not pairs:
        raise LabError(
            f'There is nothing to grade in "{course.root / "submitted"}": collect first.'
        )
    known = _register(course, pairs)
    new = [pair for pair in pairs if again or pair not in known or not _is_graded(course, *pair)]
    results: list[Graded] = []
    workers = max(1, min(workers or os.cpu_count() or 1, len(new) or 1))
    bar = tqdm(total=len(new), unit="notebook", disable=not progress)
    waiting = list(new)
    with bar:
        while waiting:
            spawn = multiprocessing.get_context("spawn")
            ours, theirs = spawn.Pipe(duplex=False)
            pool = ProcessPoolExecutor(workers, spawn, initializer=_end_with, initargs=(ours,))
            jobs = {pool.submit(grade_one, course.root, *pair): pair for pair in waiting}
            try:
                for job in as_completed(jobs):
                    result = job.result()
                    waiting.remove(jobs[job])
                    results.append(result)
                    bar.update()
                    bar.set_postfix_str(f"{result.student} {result.assignment}", refresh=False)
                    if result.problem:
                        tqdm.write(f"{result.student}, {result.assignment}: {result.problem}")
            except BrokenProcessPool as error:
                if workers == 1:
                    raise LabError(
                        "A grading process was killed (out of memory?). What is graded is saved; "
                        "the next call goes on from there."
                    ) from error
                workers = 1  # with less memory in use at a time
                tqdm.write("A grading process was killed (out of memory?); going on one at a time.")
            except KeyboardInterrupt:
                theirs.close()  # now, not when all have come to the end of their notebook
                tqdm.write("What is graded is saved; the next `grade` goes on from there.")
                raise
            finally:
                pool.shutdown(cancel_futures=True)
                theirs.close()
    write_marks(course)
    return results


def grade_one(root: Path, student: str, assignment: str) -> Graded:
    """Grades one submission in this process, which it leaves as it was but for its environment."""
    os.environ.update(_KERNEL)
    start = time.perf_counter()
    course = Course.open(root)
    unfinished = course.unfinished(assignment, student)
    write_text(unfinished, "being graded, or cut short\n")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sqlalchemy, about nbgrader
        done = course.nbgrader().autograde(assignment, student, force=True, create=True)
    seconds = time.perf_counter() - start
    problem, seconds_file = "", _seconds_file(course, student, assignment)
    if not done["success"]:
        lines = (done["error"] or done["log"] or "no reason given").strip().splitlines()
        problem = f"could not be graded: {lines[-1]}"
        seconds_file.unlink(missing_ok=True)
    else:
        write_text(seconds_file, json.dumps({"seconds": round(seconds, 1)}) + "\n")
    unfinished.unlink()
    return Graded(student, assignment, seconds, problem)


def _is_graded(course: Course, student: str, assignment: str) -> bool:
    graded = _seconds_file(course, student, assignment)
    came = course.notebook("submitted", assignment, student)
    if course.unfinished(assignment, student).exists() or not graded.exists():
        return False
    return graded.stat().st_mtime >= came.stat().st_mtime


def _seconds_file(course: Course, student: str, assignment: str) -> Path:
    """How long it took, written when a submission is graded to its end."""
    return course.notebook("autograded", assignment, student).with_name("seconds.json")


def _register(course: Course, pairs: list[tuple[str, str]]) -> set[tuple[str, str]]:
    """Everybody into the gradebook at once: two graders that do it may collide.

    Returns whose submission to what it has already.
    """
    with course.gradebook() as gradebook:
        for student in sorted({student for student, _ in pairs}):
            gradebook.update_or_create_student(student)
        return {
            (submission.student.id, name)
            for name in course.assignments
            for submission in gradebook.assignment_submissions(name)
        }


def _end_with(pipe: Connection) -> None:
    """In a grading process: a watch that ends it, and what it started, once nobody holds the pipe's
    other end.

    So it is when ``grade`` was killed, SIGTERM and SIGKILL included; kernels would go on by
    themselves. Ctrl+C reaches every process of a terminal, and is for ``grade`` alone.
    """
    signal.signal(signal.SIGINT, lambda number, frame: None)  # not SIG_IGN: kernels inherit that

    def watch() -> None:
        with contextlib.suppress(OSError):  # how Windows says it
            pipe.poll(None)
        psutil = importlib.import_module("psutil")  # comes with Jupyter
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                child.kill()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
