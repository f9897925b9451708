"""``sparse-rcnn-lab classroom``."""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path

from sparse_rcnn_lab.cli.common import plural, whole_number
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.course.classroom.course_folder import Course, chosen

HELP = """autograded assignments: build, collect, grade, feedback, solutions, copies, validate

The instructor's guide is docs/classroom.md. Grading runs the students' code on this machine with
your permissions; the guide says how to isolate it.

examples:
  sparse-rcnn-lab classroom build --course course --students roster.csv
  sparse-rcnn-lab classroom collect submissions.zip --course course
  sparse-rcnn-lab classroom grade --course course
  sparse-rcnn-lab classroom feedback --course course
  sparse-rcnn-lab classroom copies --course course

  sparse-rcnn-lab classroom validate boxes.ipynb      for students, before they submit
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the steps and their options."""
    steps = parser.add_subparsers(title="steps", metavar="STEP", required=True)
    for name, function, summary in (
        ("build", _build, "make the course folder and the students' notebooks"),
        ("collect", _collect, "collect submissions from a folder or a zip"),
        ("grade", _grade, "run the collected submissions and write marks.csv"),
        ("feedback", _feedback, "write a page for each submission and one for the class"),
        ("solutions", _solutions, "write a page of solutions for each assignment"),
        ("copies", _copies, "list pairs of submissions whose code is similar"),
        ("validate", _validate, "run a student's notebook and its visible tests"),
    ):
        step = steps.add_parser(name, help=summary, description=summary[0].upper() + summary[1:])
        step.set_defaults(step=function)
        add = step.add_argument
        debug = "show the traceback of an error"
        # No default of its own, so that a --debug before STEP is kept.
        add("--debug", action="store_true", default=argparse.SUPPRESS, help=debug)
        if name == "validate":
            add("notebook", type=Path, help="the student's notebook")
            continue
        folder = "the course folder (default: %(default)s)"
        add("--course", type=Path, default=Path("course"), metavar="FOLDER", help=folder)
        if name != "collect":
            add("--assignment", action="append", metavar="NAME", help="only this one; repeatable")
        if name == "build":
            own = "roster of the class; each student then gets a notebook with numbers of their own"
            add("--students", type=Path, metavar="CSV", help=own)
            secret = "seed of the exercises' numbers (default: a new one, kept in course.json)"
            add("--secret", help=secret)
            add("--sources", type=Path, metavar="FOLDER", help="your own assignments")
        if name == "collect":
            add("place", type=Path, help="a folder or a zip with notebooks")
            kept = "roster that Moodle, Canvas or Google Classroom exported; the course keeps it"
            add("--students", type=Path, metavar="CSV", help=kept)
        if name == "grade":
            add("--student", action="append", metavar="NAME", help="only this one; repeatable")
            add("--workers", type=whole_number, help="notebooks that run at the same time")
            add("--again", action="store_true", help="also regrade what was graded before")
        if name == "feedback":
            add("--by-hand", type=Path, metavar="CSV", help="marks that by_hand.html has saved")


def run(arguments: argparse.Namespace) -> int:
    """Runs the chosen step."""
    code: int = arguments.step(arguments)
    return code


def _build(arguments: argparse.Namespace) -> int:
    assignments = chosen(arguments.assignment)
    what = plural(len(assignments), "assignment")
    print(f"Building {what} in {arguments.course} ...", flush=True)
    from sparse_rcnn_lab.course.classroom.build import build, own_sources

    sources: Path = arguments.sources or own_sources()
    if not sources.is_dir():
        raise LabError(f'There is no folder "{sources}" with the sources of assignments.')
    course = build(arguments.course, sources, assignments, arguments.secret, arguments.students)
    own = (course.root / "personal").is_dir()
    what = "Give each student the folder with their name in" if own else "Hand out the notebooks in"
    print(f"{what} {arguments.course / 'hand-out'}; keep the rest to yourself.")
    return 0


def _opened(arguments: argparse.Namespace) -> tuple[Course, tuple[str, ...]]:
    """The course, and the assignments to work on: those of --assignment, or all."""
    course = Course.open(arguments.course)
    return course, chosen(arguments.assignment, course.assignments)


def _collect(arguments: argparse.Namespace) -> int:
    from sparse_rcnn_lab.course.classroom.collect import collect

    course = Course.open(arguments.course)
    if arguments.students:
        course.keep_roster(arguments.students)
    result = collect(course, arguments.place)
    print(f"{plural(len(result.taken), 'notebook')} collected, {len(result.refused)} refused.")
    return 1 if result.refused else 0


def _grade(arguments: argparse.Namespace) -> int:
    from sparse_rcnn_lab.course.classroom.grade import grade

    course, names = _opened(arguments)
    students = tuple(arguments.student or ())
    results = grade(course, names, students, arguments.workers, arguments.again)
    failed = sum(map(bool, results.values()))
    print(f"{plural(len(results) - failed, 'notebook')} graded: {course.root / 'marks.csv'}")
    return 1 if failed else 0


def _feedback(arguments: argparse.Namespace) -> int:
    from sparse_rcnn_lab.course.classroom.by_hand import take_by_hand
    from sparse_rcnn_lab.course.classroom.feedback import feedback

    course, names = _opened(arguments)
    if arguments.by_hand:
        print(f"{plural(take_by_hand(course, arguments.by_hand), 'mark')} imported.")
    pages = feedback(course, names)
    print(f"{plural(len(pages), 'page')} in {course.root / 'feedback'}")
    print(f"The class: {course.root / 'overview.html'}")
    return 0


def _solutions(arguments: argparse.Namespace) -> int:
    from sparse_rcnn_lab.course.classroom.feedback import solutions

    for page in solutions(*_opened(arguments)):
        print(page)
    return 0


def _copies(arguments: argparse.Namespace) -> int:
    from sparse_rcnn_lab.course.classroom.copies import write_copies

    course, names = _opened(arguments)
    pairs = write_copies(course, names)
    print(f"{plural(len(pairs), 'pair')} to look at: {course.root / 'copies.html'}")
    return 0


def _validate(arguments: argparse.Namespace) -> int:
    from sparse_rcnn_lab.course.classroom.validate import validate

    outcomes = validate(arguments.notebook)
    if not outcomes:
        raise LabError(f'"{arguments.notebook}" has no test cells; is it an assignment?')
    for outcome in outcomes:
        passed = "passes so far" if outcome.more else "passed"
        said = "hidden, graded later" if outcome.hidden else passed
        print(f"{'not yet' if outcome.problem else said:20}  {outcome.name}")
        if outcome.problem:
            print(textwrap.indent(outcome.problem, " " * 22))
    visible = [outcome for outcome in outcomes if not outcome.hidden]
    passing = sum(not outcome.problem for outcome in visible)
    hidden, more = len(outcomes) - len(visible), sum(outcome.more for outcome in visible)
    print(f"\n{passing} of {len(visible)} visible tests pass.")
    if hidden or more:
        print(
            f"Graded later: {plural(hidden, 'hidden test')}, and the hidden parts of {more} more. "
            "The final mark may be lower."
        )
    return 0 if passing == len(visible) else 1
