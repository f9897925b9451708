"""Marks: tables in and out, and what is never lost."""

from __future__ import annotations

import warnings

import classroom_class as made
import pytest

from sparse_rcnn_lab.cli.main import main
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.course.classroom.course_folder import Course
from sparse_rcnn_lab.course.classroom.grade import grade
from sparse_rcnn_lab.course.classroom.marks import take_by_hand, write_marks

TABLE = "student,assignment,test,out_of,marks,comment\nZoë,boxes,think-grown,1,0.5,gut\n"
PLAIN = TABLE.replace("gut", "")


def hand_in_by(student: str, course: Course) -> None:
    """A submission without marks in the gradebook."""
    with warnings.catch_warnings(), course.nbgrader().gradebook as gradebook:
        warnings.simplefilter("ignore")  # of sqlalchemy, about nbgrader
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
    with small_course.nbgrader().gradebook as gradebook:
        assert gradebook.find_grade("think-grown", "boxes", "boxes", "Zoë").manual_score == 0.5


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (TABLE.encode("cp1252"), "CSV UTF-8"),
        (TABLE.replace(",", "\t").encode(), "columns"),
        (TABLE.replace("marks", "points").encode(), "columns"),
        (TABLE.replace("gut", "gut, aber kurz").encode(), "line 2: .* quotes"),
        (TABLE.encode(), "line 2: .* takes no comment"),
        (TABLE.replace("0.5", "much").encode(), "line 2: marks must be a number"),
        (TABLE.replace("Zoë", "Bob").encode(), "line 2: there is no such answer"),
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
        made.hand_in(small_course.root / step / "eve", "boxes", "boxes", {"metadata": {}})
    unfinished = small_course.unfinished("boxes", "eve")
    unfinished.parent.mkdir(parents=True)
    unfinished.touch()
    (row,) = (row for row in write_marks(small_course) if row["student"] == "eve")
    assert (row["marks"], row["notes"][:10]) == ("", "not graded")


@pytest.mark.parametrize("step", ["grade", "feedback"])
def test_an_assignment_that_the_course_has_not(
    small_course: Course, step: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a name that nothing fits and that is then taken for all."""
    command = ["classroom", step, "--course", str(small_course.root), "--assignment", "stage"]
    assert main(command) == 2
    assert 'no assignment "stage". It has boxes' in capsys.readouterr().err


def test_none_of_the_assignments_is_none(small_course: Course) -> None:
    """Catches an empty choice that is taken for all."""
    made.hand_in(small_course.root / "submitted" / "ada", "boxes", "boxes", {})
    with pytest.raises(LabError, match="nothing to grade"):
        grade(small_course, (), progress=False)
