"""Everybody their own numbers: what is handed out, whose notebook comes in, how it is graded."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import classroom_class as made
import pytest

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.course.classroom.build import build, make_personal
from sparse_rcnn_lab.course.classroom.cells import name_of
from sparse_rcnn_lab.course.classroom.collect import collect
from sparse_rcnn_lab.course.classroom.course_folder import Course, chosen
from sparse_rcnn_lab.course.classroom.grade import grade_one
from sparse_rcnn_lab.course.classroom.marks import write_marks
from sparse_rcnn_lab.course.classroom.personal import HandOuts, give_own_tests

STUDENTS = ("Ada-Lovelace", "Bob-Ross", "Zoë-Müller")


@pytest.fixture
def course(small_course: Course) -> Course:
    """A course with a roster, each student's notebooks made."""
    names = "".join(f"{student.replace('-', ' ')}\n" for student in STUDENTS)
    (small_course.root / "roster.csv").write_text(f"name\n{names}", encoding="utf-8")
    for student in STUDENTS:
        make_personal(small_course, made.SOURCES, "boxes", student)
    return small_course


def handed_out(course: Course, student: str) -> Any:
    return made.read(course.root / "hand-out" / student / "boxes.ipynb")


def solved_by(course: Course, student: str) -> Any:
    return made.solved(
        made.read(course.notebook("personal", "boxes", student)), handed_out(course, student)
    )


def test_own_numbers(course: Course) -> None:
    """Catches two students with the same numbers, numbers that move from one build to the next, a
    right answer that fails with them, and a secret that is handed out."""
    texts = [json.dumps(handed_out(course, student)) for student in STUDENTS]
    assert len(set(texts)) == 3
    make_personal(course, made.SOURCES, "boxes", STUDENTS[0])
    assert json.dumps(handed_out(course, STUDENTS[0])) == texts[0]
    about = handed_out(course, STUDENTS[0])["metadata"]["sparse_rcnn_lab"]
    assert about == {"assignment": "boxes", "course": course.mark}
    assert course.secret not in json.dumps(about)
    roles = [
        [name_of(cell) for cell in notebook["cells"]]
        for notebook in (
            handed_out(course, STUDENTS[0]),
            made.read(course.notebook("release", "boxes")),
        )
    ]
    assert roles[0] == roles[1]
    for student in STUDENTS:
        notebook = solved_by(course, student)
        give_own_tests(notebook, course, student, "boxes")
        assert made.rehearse(notebook) == frozenset()


def test_whose_notebook_it_is(course: Course) -> None:
    """Catches a copy that is not named as whose it is, its metadata gone or not, and an honest
    student who is suspected."""
    hand_outs = HandOuts(course, "boxes")
    ada, bob = STUDENTS[:2]
    for student in STUDENTS:
        assert hand_outs.owner(solved_by(course, student), student) == student
    bare = copy.deepcopy(solved_by(course, bob))
    bare["metadata"] = {}
    for cell in bare["cells"]:
        cell["metadata"] = {}
    assert hand_outs.owner(bare, ada) == bob
    assert hand_outs.owner({"cells": bare["cells"][:1]}, ada) == ada  # nothing left to tell
    one_cell = solved_by(course, ada)
    made.cell(one_cell, "think")["source"] = made.cell(bare | solved_by(course, bob), "think")[
        "source"
    ]
    assert hand_outs.owner(one_cell, ada) == ada
    give_own_tests(one_cell, course, ada, "boxes")
    assert made.rehearse(one_cell) == {"think-shifted", "think-grown"}  # Bob's answers


def test_a_copied_notebook_is_graded(course: Course, tmp_path: Path) -> None:
    """Catches a copied notebook that passes, or that is graded with the numbers it brought."""
    ada, bob = STUDENTS[:2]
    made.hand_in(tmp_path / "in", "ada lovelace", "boxes", solved_by(course, bob))
    result = collect(course, tmp_path / "in")
    assert [(student, notes) for student, _, notes in result.taken] == [
        (ada, [f"is the notebook that was handed out to {bob}"])
    ]
    assert grade_one(course.root, ada, "boxes") == ""
    (found,) = write_marks(course)
    assert (found.score, found.out_of) == (18, 20) and bob in found.notes[0]
    lost = {mark.test for mark in found.marks if mark.score == 0}
    assert lost == {"think-shifted", "think-grown"}  # the answers to Bob's questions


def test_numbers_are_never_exchanged_under_submissions(
    small_course: Course, tmp_path: Path
) -> None:
    """Catches a roster, or another secret, that comes when work is handed in, and a roster without
    names that leaves a folder behind."""
    made.hand_in(small_course.root / "submitted" / "ada", "boxes", "boxes", {})
    roster = tmp_path / "roster.csv"
    roster.write_text("name\nAda\n", encoding="utf-8")
    about = (small_course.root / "course.json").read_text(encoding="utf-8")
    for options in ({"students": roster}, {"secret": "another"}):
        with pytest.raises(LabError, match=r"has submissions .* another folder"):
            build(small_course.root, made.SOURCES, chosen(["boxes"]), **options)
    assert (small_course.root / "course.json").read_text(encoding="utf-8") == about
    assert not (small_course.root / "personal").exists()
    roster.write_text("colour\nred\n", encoding="utf-8")
    with pytest.raises(LabError, match="no column of names"):
        build(tmp_path / "new", made.SOURCES, chosen(["boxes"]), students=roster)
    assert not (tmp_path / "new").exists()
