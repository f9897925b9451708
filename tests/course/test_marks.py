"""Marks: tables in and out, and what is never lost."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import classroom_class as made
import pytest

from sparse_rcnn_lab.cli.main import main
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.course.classroom.by_hand import rubric_of, take_by_hand
from sparse_rcnn_lab.course.classroom.course_folder import NOTES, Course
from sparse_rcnn_lab.course.classroom.grade import grade, grade_one, is_new
from sparse_rcnn_lab.course.classroom.marks import write_marks
from sparse_rcnn_lab.course.classroom.roster import read_table, write_table

# Of sqlalchemy, about nbgrader.
pytestmark = pytest.mark.filterwarnings("ignore:Object of type <Submitted")
TABLE = "student,assignment,test,out_of,marks,comment\nZoë,boxes,think-grown,1,0.5,gut\n"
PLAIN = TABLE.replace("gut", "")
EMPTY: Any = {"cells": [], "metadata": {}}


def graded(notebook: Any) -> Any:
    """As a notebook is once it is graded to its end."""
    return notebook | {"metadata": {NOTES: []}}


def hand_in_by(student: str, course: Course) -> None:
    """A submission without marks in the gradebook."""
    with course.gradebook() as gradebook:
        gradebook.update_or_create_student(student)
        gradebook.update_or_create_submission("boxes", student)
        gradebook.find_grade("think-grown", "boxes", "boxes", student).manual_score = None
        gradebook.db.commit()


@pytest.mark.parametrize(
    "content",
    [
        PLAIN.encode(),
        PLAIN.encode("utf-8-sig").replace(b"\n", b"\r\n"),
        PLAIN.replace(",", ";").replace("0.5", "0,5").encode("utf-8-sig"),
        PLAIN.replace("0.5", '"0,5"').encode(),
    ],
)
def test_marks_by_hand_as_spreadsheets_save_them(small_course: Course, content: bytes) -> None:
    """Catches a mark that is left out, in silence, where the commas are semicolons."""
    hand_in_by("Zoë", small_course)
    (small_course.root / "by_hand.csv").write_bytes(content)
    assert take_by_hand(small_course) == 1
    with small_course.gradebook() as gradebook:
        assert gradebook.find_grade("think-grown", "boxes", "boxes", "Zoë").manual_score == 0.5


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (TABLE.encode("cp1252"), "CSV UTF-8"),
        (TABLE.replace(",", "\t").encode(), "columns"),
        (TABLE.replace("marks", "points").encode(), "columns"),
        (TABLE.replace("gut", "gut, aber kurz").encode(), "line 2: .* quotes"),
        (TABLE.encode(), "line 2 .Zoë, think-grown.: .* takes no comment"),
        (TABLE.replace("0.5", "much").encode(), "line 2 .*: marks must be a number"),
        (TABLE.replace("Zoë", "Bob").encode(), "line 2 .*: there is no such answer"),
    ],
)
def test_marks_by_hand_are_never_lost(small_course: Course, content: bytes, words: str) -> None:
    """Catches a table that cannot be read and is then written over."""
    path = small_course.root / "by_hand.csv"
    hand_in_by("Zoë", small_course)
    path.write_bytes(content)
    with pytest.raises(LabError, match=words):
        write_marks(small_course)
    assert path.read_bytes() == content
    path.unlink()


def test_half_graded_is_not_graded(small_course: Course) -> None:
    """Catches grading that was cut short and is then listed as 0 of 20, without a word."""
    hand_in_by("eve", small_course)
    for step in ("submitted", "autograded"):  # nbgrader writes the latter before it runs it
        made.hand_in(small_course.root / step / "eve", "boxes", "boxes", EMPTY)
    write_marks(small_course)
    _, ((_, row),) = read_table(small_course.root / "marks.csv")
    assert (row["student"], row["marks"], row["notes"][:10]) == ("eve", "", "not graded")
    assert is_new(small_course, "eve", "boxes")
    path = small_course.notebook("autograded", "boxes", "eve")
    for text in (json.dumps(graded(EMPTY)), '{"metadata": '):  # whole, half on disk
        path.write_text(text)
        assert is_new(small_course, "eve", "boxes") == (text[-1] == " ")


@pytest.mark.parametrize("step", ["grade", "feedback"])
def test_an_assignment_that_the_course_has_not(
    small_course: Course, step: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a name that nothing fits and that is then taken for all."""
    command = ["classroom", step, "--course", str(small_course.root), "--assignment", "stage"]
    assert main(command) == 2
    assert 'no assignment "stage" here. Choose from boxes' in capsys.readouterr().err
    with pytest.raises(LabError):
        main(["classroom", "--debug", *command[1:]])


def test_none_of_the_assignments_is_none(small_course: Course) -> None:
    """Catches an empty choice that is taken for all, and a student whose name is mistyped, left
    out in silence."""
    made.hand_in(small_course.root / "submitted" / "ada", "boxes", "boxes", {})
    with pytest.raises(LabError, match="nothing to grade"):
        grade(small_course, (), progress=False)
    with pytest.raises(LabError, match=r'from "adda"\. Choose from ada'):
        grade(small_course, students=("ada", "adda"), progress=False)


def test_why_one_cannot_be_graded(small_course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches "see the above traceback" where there is none above."""
    why = "nbformat.validator.NotebookValidationError: Additional properties are not allowed"
    done = {
        "success": False,
        "log": f"    raise error\n    {why}\n    On instance:\n[ERROR] Please see",
    }
    done["error"] = "nbgrader.converters.base.NbGraderException: Please see the the above traceback"
    monkeypatch.setattr("nbgrader.apps.NbGraderAPI.autograde", lambda *_, **options: done)
    assert grade_one(small_course.root, "ada", "boxes") == f"could not be graded: {why}"


LATE = "2026-12-02 00:30:00"


def a_class(course: Course) -> None:
    """Zoë: 14 of 20, and 2 marks to be given by hand; Ada: nothing graded."""
    for student in ("Zoë-Müller", "Ada-Lovelace"):
        made.hand_in(course.root / "submitted" / student, "boxes", "boxes", EMPTY)
    with course.gradebook() as gradebook:
        gradebook.update_or_create_student("Zoë-Müller")
        submission = gradebook.update_or_create_submission("boxes", "Zoë-Müller", timestamp=LATE)
        for number, grade in enumerate(submission.notebooks[0].grades):
            grade.auto_score = grade.max_score if number < 14 else 0
            grade.needs_manual_grade = number >= 18
        gradebook.db.commit()
    release = made.read(course.notebook("release", "boxes"))
    made.hand_in(course.root / "autograded" / "Zoë-Müller", "boxes", "boxes", graded(release))


MOODLE = "First name,Surname,Email address\nZoë,Müller,z@x.edu\nAda,Lovelace,a@x.edu\n"
CANVAS = """Student,ID,SIS Login ID,Section,Boxes quiz (3),Boxes (771)
"    Points Possible",,,,5,20
"Müller, Zoë",14,zm,A,4,
"Lovelace, Ada",12,al,A,5,
"""


@pytest.mark.parametrize(
    ("roster", "file", "head", "row"),
    [
        (MOODLE, "moodle.csv", "First name,Surname,Email address,Boxes", "Zoë,Müller,z@x.edu,"),
        (CANVAS, "canvas.csv", "Student,ID,SIS Login ID,Section,Boxes (771)",
         '"Müller, Zoë",14,zm,A,'),
        ("Identifier,Full name,Grade\nParticipant 7,Zoë Müller,-\n", "moodle_boxes.csv",
         "Identifier,Full name,Grade", "Participant 7,Zoë Müller,"),
    ],
    ids=["moodle", "canvas", "worksheet"],
)  # fmt: skip
def test_marks_as_the_school_takes_them(
    small_course: Course, roster: str, file: str, head: str, row: str
) -> None:
    """Catches a heading that the system does not know, or that is a quiz's, a 0 for somebody who is
    not graded, and a part of the marks that is imported as all of them."""
    a_class(small_course)
    (small_course.root / "roster.csv").write_text(roster, encoding="utf-8")
    write_marks(small_course)
    lines = (small_course.root / file).read_text(encoding="utf-8").splitlines()
    assert lines[0] == head and row in lines and not any(line.endswith(",0") for line in lines)
    with (small_course.root / "by_hand.csv").open(encoding="utf-8") as table:
        filled = table.read().replace(",,1,,,", ",,1,0.5,,")
    (small_course.root / "by_hand.csv").write_text(filled, encoding="utf-8")
    write_marks(small_course)
    lines = (small_course.root / file).read_text(encoding="utf-8").splitlines()
    assert row + "15" in lines


@pytest.mark.parametrize(
    ("due", "days"),
    [
        ("2026-12-02 00:00:00 UTC", 1),
        ("2026-12-02 01:45:00 Europe/Paris", 0),
        ("2026-11-29 00:00:00 UTC", 4),
        (None, None),
    ],
)
def test_late_days(small_course: Course, due: str | None, days: int | None) -> None:
    """Catches a day of grace, a day too many, and a deadline that nobody has set."""
    a_class(small_course)
    with small_course.gradebook() as gradebook:
        gradebook.update_or_create_assignment("boxes", duedate=due)  # as `nbgrader db` does
    (found, _) = sorted(write_marks(small_course), key=lambda result: result.problem)
    assert found.late_days == days and (found.score, found.open) == (14, 2)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.unlink(), "unable to open"),
        (lambda path: path.write_bytes(b"no database" * 500), "file is not"),
        (lambda path: path.write_bytes(path.read_bytes()[:9000]), "is missing or damaged"),
        (lambda path: path.write_bytes(b""), "no such table"),
    ],
)
def test_a_gradebook_that_is_lost(small_course: Course, damage: Any, words: str) -> None:
    """Catches a lost gradebook that is told as "see the above traceback", student by student, or
    is made anew, empty, and then all marks are gone."""
    a_class(small_course)
    write_marks(small_course)
    before = (small_course.root / "marks.csv").read_bytes()
    damage(small_course.root / "gradebook.db")
    for step in (write_marks, lambda course: grade(course, progress=False)):
        with pytest.raises(LabError, match=f"{words}.*classroom build.*by_hand.csv"):
            step(small_course)
    assert (small_course.root / "marks.csv").read_bytes() == before


def test_what_is_marked_stays_marked(small_course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a second grading after which the Formgrader asks for every mark by hand again, and an
    answer that is another one and has the marks of the one before."""
    from nbformat import from_dict
    from nbgrader.preprocessors import SaveAutoGrades

    a_class(small_course)
    path = small_course.notebook("autograded", "boxes", "Zoë-Müller")
    notebook = made.read(path)

    def autograde(api: Any, assignment: str, student: str, **options: bool) -> dict[str, bool]:
        about = {"notebook": assignment, "assignment": assignment, "student": student}
        resources = {"nbgrader": about | {"db_url": api.coursedir.db_url}}
        SaveAutoGrades().preprocess(from_dict(notebook), resources)
        path.write_text(json.dumps(notebook), encoding="utf-8")
        return {"success": True}

    def asked_again(answer: str) -> bool:
        made.cell(notebook, "think")["source"] = answer
        assert grade_one(small_course.root, "Zoë-Müller", "boxes") == ""
        with small_course.gradebook() as gradebook:
            grade = gradebook.find_grade("think-grown", "boxes", "boxes", "Zoë-Müller")
            assert grade.manual_score == 0.5
            return bool(grade.needs_manual_grade)

    monkeypatch.setattr("nbgrader.apps.NbGraderAPI.autograde", autograde)
    with small_course.gradebook() as gradebook:
        grade = gradebook.find_grade("think-grown", "boxes", "boxes", "Zoë-Müller")
        grade.manual_score, grade.needs_manual_grade = 0.5, False
        gradebook.db.commit()
    same = made.cell(notebook, "think")["source"]
    assert not asked_again(same) and not asked_again(same)
    assert asked_again("iou_grown = 1") and asked_again("iou_grown = 1")


RUBRIC = "student,assignment,test,rubric_1,rubric_2,out_of,marks,comment\n"


def test_marks_by_the_lines_of_a_rubric(small_course: Course) -> None:
    """Catches a rubric that does not add up, one that is lost when the table is written again, and
    a comment that is dropped because there are no marks beside it."""
    a_class(small_course)
    path, root = small_course.root / "by_hand.csv", small_course.root
    path.write_text(RUBRIC + "Zoë-Müller,boxes,think-grown,0.5,,1,,\n", encoding="utf-8")
    assert take_by_hand(small_course) == 1
    write_marks(small_course)
    rows = {row["test"]: row for _, row in read_table(path)[1]}
    assert (rows["think-grown"]["rubric_1"], rows["think-grown"]["marks"]) == ("0.5", "0.5")
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(",0.5,,,1,0.5,", ",1,,,1,0.5,"), encoding="utf-8")
    write_marks(small_course)  # the line counts, the sum beside it is the old one
    assert "think-grown,1,1" in (root / "marks_by_test.csv").read_text(encoding="utf-8")
    for row, words in (
        ("0.5,,1,0,", "adds up to 0.5, but marks are 0"),
        ("0.5,0.5,1,,", "fill in rubric_1, as its rubric has"),
        ("2,,1,,", "from 0 to 1, found '2'"),
    ):
        path.write_text(RUBRIC + f"Zoë-Müller,boxes,think-grown,{row}\n", encoding="utf-8")
        with pytest.raises(LabError, match=f"line 2 .*: .*{words}"):
            take_by_hand(small_course)
    path.unlink()


def test_tables_in_a_spreadsheet(tmp_path: Path) -> None:
    """Catches an answer that Excel runs, or shows as an error and saves as that, a Zoë that it
    saves as ZoÃ«, and a number or a text that comes back as another."""
    path = tmp_path / "table.csv"
    row = {"a": "=1+HYPERLINK(0)", "b": "- one\n- two", "c": "-3", "d": "@zoë", "e": "-", "f": "'x"}
    write_table(path, [row], mark=True)
    text = path.read_bytes().decode("utf-8")
    assert text[0] == "\ufeff"
    assert text.splitlines()[1] == "'=1+HYPERLINK(0),\"'- one"
    assert text.endswith("- two\",-3,'@zoë,-,'x\n")
    assert read_table(path)[1] == [(3, row)]
    write_table(path, [row], as_given=True)
    assert "\n=1+HYPERLINK(0)," in path.read_text(encoding="utf-8")


def test_marks_that_are_given_twice(small_course: Course, tmp_path: Path) -> None:
    """Catches a mark corrected on the page or in the Formgrader that the table of before takes
    back, and lines of a rubric, clicked on the page, that nobody sees again."""
    a_class(small_course)
    path, saved = small_course.root / "by_hand.csv", tmp_path / "saved.csv"

    def grown() -> dict[str, str]:
        write_marks(small_course)
        return next(row for _, row in read_table(path)[1] if row["test"] == "think-grown")

    for marks in ("0.5", "1"):
        row = grown() | {"rubric_1": marks, "marks": marks}
        write_table(saved, [row])
        assert take_by_hand(small_course, saved) == 1
        assert (grown()["rubric_1"], grown()["marks"]) == (marks, marks)
    with small_course.gradebook() as gradebook:
        grade = gradebook.find_grade("think-grown", "boxes", "boxes", "Zoë-Müller")
        grade.manual_score = 0.25
        gradebook.db.commit()
    assert (grown()["rubric_1"], grown()["marks"]) == ("", "0.25")


def test_every_written_answer_has_its_rubric(tmp_path: Path) -> None:
    """Catches a rubric whose text has changed, so that its lines are not found any more."""
    course = Course(tmp_path, "1", ("experiment",))
    made.hand_in(tmp_path / "source", "experiment", "experiment", made.source_of("experiment"))
    for test in ("question", "results", "discussion"):
        lines = rubric_of(course, "experiment", test)
        assert [marks for _, marks in lines] == [1, 1, 1] and all(
            len(what) > 10 for what, _ in lines
        )


WORKER = """
import os, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from jupyter_client.manager import start_new_kernel
from sparse_rcnn_lab.course.classroom.grade import _end_with_parent

def a_kernel():
    manager, client = start_new_kernel()
    client.execute("while True: pass")
    print("ready", os.getpid(), manager.provisioner.pid, flush=True)
    time.sleep(600)

if __name__ == "__main__":
    with ProcessPoolExecutor(1, get_context("spawn"), _end_with_parent) as pool:
        pool.submit(a_kernel).result()
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
@pytest.mark.parametrize("kill", ["SIGTERM", "SIGKILL"])
def test_no_grading_process_outlives_grade(tmp_path: Path, kill: str) -> None:
    """Catches workers and kernels that go on by themselves once ``grade`` is gone."""
    psutil = pytest.importorskip("psutil")
    (tmp_path / "script.py").write_text(WORKER)
    with subprocess.Popen(
        [sys.executable, str(tmp_path / "script.py")], stdout=subprocess.PIPE, text=True
    ) as main_:
        assert main_.stdout is not None
        _, *pids = main_.stdout.readline().split()
        processes = [psutil.Process(int(pid)) for pid in pids]
        main_.send_signal(getattr(signal, kill))
        _, alive = psutil.wait_procs(processes, timeout=30)
        assert alive == []


def test_a_lost_gradebook_comes_back(built: Course, small_course: Course) -> None:
    """Catches marks given by hand that are gone with the gradebook, or with the first table that is
    written after it was made anew."""
    a_class(small_course)
    path = small_course.root / "by_hand.csv"
    path.write_text("student,assignment,test,marks\nZoë-Müller,boxes,think-grown,0.5\n", "utf-8")
    write_marks(small_course)
    wanted = (small_course.root / "marks.csv").read_bytes()
    kept = path.read_bytes()
    shutil.copyfile(built.root / "gradebook.db", small_course.root / "gradebook.db")  # by build
    with pytest.raises(LabError, match="no such answer in the gradebook"):
        write_marks(small_course)  # too early: as `feedback` would
    assert path.read_bytes() == kept
    a_class(small_course)  # as `grade` does
    write_marks(small_course)
    assert (small_course.root / "marks.csv").read_bytes() == wanted
