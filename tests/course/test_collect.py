"""Collecting: whose notebook it is and which, whatever it came through."""

from __future__ import annotations

import copy
import json
import os
import re
import time
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

import classroom_class as made
import pytest

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.course.classroom.build import build
from sparse_rcnn_lab.course.classroom.cells import name_of, role_of
from sparse_rcnn_lab.course.classroom.collect import collect
from sparse_rcnn_lab.course.classroom.course_folder import NOTES, Course, chosen
from sparse_rcnn_lab.course.classroom.feedback import feedback
from sparse_rcnn_lab.course.classroom.grade import is_new
from sparse_rcnn_lab.course.classroom.roster import Roster, level_of_names, student_of

ASSIGNMENTS = ("boxes", "matching")


@pytest.mark.parametrize(
    ("path", "student"),
    [
        ("ada/boxes.ipynb", "ada"),
        ("course/ada/boxes/boxes.ipynb", "ada"),
        ("ada/work/boxes.ipynb", "ada"),
        ("Boxes/ada/boxes.ipynb", "ada"),
        ("ada_boxes.ipynb", "ada"),
        ("Ada Lovelace_4711_assignsubmission_file_/my work.ipynb", "Ada-Lovelace-4711"),
        ("Ada Lovelace_4711_assignsubmission_file_hw.ipynb", "Ada-Lovelace-4711"),
        ("lovelaceada_LATE_12_345_boxes-1.ipynb", "lovelaceada"),
        ("Ada Lovelace - boxes.ipynb", "Ada-Lovelace"),  # Google Classroom
        ("Copy of boxes - Ada Lovelace.ipynb", "Ada-Lovelace"),
        ("Zoë Müller/x.ipynb", "Zoë-Müller"),
        ("Zoe\u0308 Mu\u0308ller/x.ipynb", "Zoë-Müller"),  # as a Mac writes it
        ("boxes_carl.ipynb", "carl"),
        ("copper_boxes.ipynb", "copper"),
        ("Dora Wu_boxes (1).ipynb", "Dora-Wu"),
        ("Con/x.ipynb", "Con-"),  # Windows has a device of that name
    ],
)
def test_who_handed_in(path: str, student: str) -> None:
    """Catches a platform's naming that makes two students one, or one two."""
    assert student_of(PurePosixPath(path), ASSIGNMENTS) == student


def test_nobody_handed_in() -> None:
    """Catches a student called "final"."""
    for name in ("boxes", "boxes final (2)", "Untitled1", "my work"):
        with pytest.raises(LabError, match="does not say who"):
            student_of(PurePosixPath(f"{name}.ipynb"), ASSIGNMENTS)


@pytest.mark.parametrize(
    ("paths", "students"),
    [
        (("ada/my try/x.ipynb", "bob/second/y.ipynb"), ["ada", "bob"]),
        (("group A/ada/x.ipynb", "group A/bob/x.ipynb", "group B/eve/x.ipynb"),
         ["ada", "bob", "eve"]),
        (("Monday/ada/x.ipynb", "Monday/bob/x.ipynb", "Friday/A/week 1/x.ipynb"),
         ["ada", "bob", "A"]),
    ],
)  # fmt: skip
def test_folders_in_one_another(paths: tuple[str, ...], students: list[str]) -> None:
    """Catches a class in groups of which one student a group is left, and students called "my
    try"."""
    found = [(PurePosixPath(path), "boxes") for path in paths]
    level = level_of_names(found, ASSIGNMENTS)
    assert [student_of(path, ASSIGNMENTS, level) for path, _ in found] == students


CANVAS = """Student,ID,SIS User ID,SIS Login ID,Section
"    Points Possible",,,,
"Lovelace, Ada",12,ml_0423,ada.l@x.edu,A
"Byron, Ada",13,S2,byron@x.edu,A
"Müller, Zoë",14,S3,zm@x.edu,A
"O'Neil, Sean Patrick",15,S4,son@x.edu,A
"Wei, Li",16,S5,li1@x.edu,A
"Wei, Li",17,S6,li2@x.edu,A
"van der Berg, Anna",18,S7,ab@x.edu,A
"Student, Test",19,,,A
"""


@pytest.mark.parametrize(
    ("path", "who"),
    [
        ("Ada Lovelace/work/x.ipynb", "Ada-Lovelace"),
        ("ada/lovelace_boxes.ipynb", "Ada-Lovelace"),
        ("Lovelace, Ada - boxes (2).ipynb", "Ada-Lovelace"),
        ("lovelaceada_LATE_12_345_boxes-1.ipynb", "Ada-Lovelace"),
        ("mullerzoe_14_3_x.ipynb", "Zoë-Müller"),
        ("Group Ada/Zoe\u0308 Mu\u0308ller/boxes.ipynb", "Zoë-Müller"),
        ("Sean O'Neil/boxes.ipynb", "Sean-Patrick-O-Neil"),
        ("oneilseanpatrick_15_9_boxes.ipynb", "Sean-Patrick-O-Neil"),
        ("weili_17_2_x.ipynb", "Li-Wei-17"),
        ("vanderberganna_99_2_x.ipynb", "Anna-van-der-Berg"),
        ("li1@x.edu_boxes.ipynb", "Li-Wei-16"),
        ("ml_0423_boxes (1).ipynb", "Ada-Lovelace"),
        ("ML_0423/boxes.ipynb", "Ada-Lovelace"),
        ("Li-Wei-16/boxes.ipynb", "Li-Wei-16"),
        ("ada/boxes.ipynb", 'may be by "Ada-Lovelace" or "Ada-Byron"'),
        ("Li Wei_4711_assignsubmission_file_/a.ipynb", 'may be by "Li-Wei-16" or "Li-Wei-17"'),
        ("Grase Lovelade/boxes.ipynb", "nobody on the roster"),
        ("Zoé M/boxes.ipynb", "Zoë-Müller"),
        ("matching_zoe_final_v2.ipynb", "Zoë-Müller"),
        ("group A/Zoe Hopper/boxes.ipynb", "nobody on the roster"),
        ("Grace Hopper_14_assignsubmission_file_/a.ipynb", "nobody on the roster"),
    ],
)
def test_whom_the_roster_knows(tmp_path: Path, path: str, who: str) -> None:
    """Catches a namesake who gets another's marks, and a name that only looks different."""
    (tmp_path / "roster.csv").write_text(CANVAS, encoding="utf-8")
    roster = Roster.read(tmp_path / "roster.csv")
    assert len(roster.people) == 7 and roster.people[0].name == "Ada Lovelace"
    try:
        found = roster.find(PurePosixPath(path), ASSIGNMENTS).student
    except LabError as error:
        found = str(error)
    assert found == who or (" " in who and who in found)


@pytest.mark.parametrize(
    ("head", "row"),
    [
        ("First name,Surname,ID number,Email address", "Zoë,Müller,7,z@x.edu"),  # Moodle
        ("Last Name,First Name,Email Address", "Müller,Zoë,z@x.edu"),  # Google Classroom
        ("Identifier;Full name;Grade", "Participant 4711;Zoë Müller;-"),  # Moodle's worksheet
        ("Vorname;Nachname;ID-Nummer", "Zoë;Müller;7"),
        ("name", "Zoë Müller"),
    ],
)
def test_rosters_of_several_systems(tmp_path: Path, head: str, row: str) -> None:
    """Catches an export whose columns nobody knows."""
    (tmp_path / "roster.csv").write_text(f"{head}\n{row}\n", encoding="utf-8-sig")
    (person,) = Roster.read(tmp_path / "roster.csv").people
    assert (person.student, person.name) == ("Zoë-Müller", "Zoë Müller")
    assert list(person.row.values()) == row.replace(";", ",").split(",")
    (tmp_path / "roster.csv").write_text("town,age\nUlm,7\n", encoding="utf-8")
    with pytest.raises(LabError, match="no column of names"):
        Roster.read(tmp_path / "roster.csv")


def test_namesakes_are_two(tmp_path: Path) -> None:
    """Catches namesakes with one folder, where what tells them apart begins alike, and tables in
    which both have the same name."""
    rows = "Li Wei,li@a.edu\nLi Wei,li@b.edu\nConrad,c@a.edu\nCon,d@a.edu\n"
    (tmp_path / "roster.csv").write_text("name,email\n" + rows, "utf-8")
    assert Course(tmp_path, "1", ASSIGNMENTS).names() == {
        "Li-Wei-li-a.edu": "Li Wei (li-a.edu)",
        "Li-Wei-li-b.edu": "Li Wei (li-b.edu)",
        "Conrad": "Conrad",
        "Con-": "Con",
    }


class FromAMac(zipfile.ZipInfo):
    """A name in UTF-8, without the mark that it is."""

    def _encodeFilenameFlags(self) -> tuple[bytes, int]:
        return self.filename.encode(), 0


def test_collect(small_course: Course, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a broken file that stops the others, deleted cells that stay away, cells without
    metadata that nobody knows, a zip that writes outside the course, and a first version that wins
    over the second."""
    course = small_course
    release = made.read(course.notebook("release", "boxes"))
    short = copy.deepcopy(release)
    short["cells"] = [c for c in short["cells"] if name_of(c) != "iou"]
    short["metadata"] = {}
    short["cells"] += [
        {"cell_type": "raw", "metadata": {"nbgrader": {"grade": True}}, "source": ""}
    ]
    # A key pressed by mistake, and an image pasted: what nbgrader cannot make a test again.
    made.cell(short, "giou-pairs").update(cell_type="markdown", attachments={"a.png": {}})
    bare = copy.deepcopy(release)  # as Colab gives it back
    bare["metadata"] = {}
    for cell in bare["cells"]:
        cell["metadata"] = {"id": cell.pop("id")}
    second = copy.deepcopy(release)
    made.cell(second, "think")["source"] = "iou_shifted = iou_grown = 0.5"
    path = tmp_path / "all.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (
            ("bob_boxes.ipynb", json.dumps(second)),
            ("bob/boxes.ipynb", json.dumps(release)),
            ("byronada_LATE_7_8_x.ipynb", json.dumps(release)),
            ("carl/boxes.ipynb", json.dumps(short)),
            ("carla/untitled.ipynb", json.dumps(bare)),
            ("dora/boxes.ipynb", "{"),
            ("emil/boxes.ipynb", '{"cells": [], "metadata": {}}'),
            ("../../evil/boxes.ipynb", json.dumps(release)),
            ("__MACOSX/bob/._boxes.ipynb", "junk"),
            ("zoe/readme.txt", "my dog ate it"),
            ("hopper_7_9_boxes.zip", "a zip of its own"),
            ("Fränzi/boxes.IPYNB", json.dumps(release)),
            ("gus\\work\\boxes.ipynb", json.dumps(release)),  # PowerShell
        ):
            day = 2 if name == "bob_boxes.ipynb" else 1
            archive.writestr(FromAMac(name, (2026, 1, day, 0, 0, 0)), content)
    result = collect(course, path)
    lines = capsys.readouterr().out.splitlines()
    assert "nothing to take: zoe: no notebook (.ipynb) in this folder" in lines
    assert "nothing to take: hopper_7_9_boxes.zip: no notebook (.ipynb)" in lines
    notes = {student: " ".join(said) for student, _, said in result.taken}
    assert sorted(notes) == ["Fränzi", "bob", "byronada", "carl", "carla", "gus"]
    assert notes["carla"] == ""
    assert notes["byronada"] == "late, says Canvas"
    assert sorted(file for file, _ in result.refused) == ["dora/boxes.ipynb", "emil/boxes.ipynb"]
    assert "more than once" in notes["bob"] and "missing" in notes["carl"]
    kept = made.read(course.notebook("submitted", "boxes", "bob"))
    assert made.cell(kept, "think")["source"] == "iou_shifted = iou_grown = 0.5"
    mended = made.read(course.notebook("submitted", "boxes", "carl"))
    roles = [
        [(name_of(c), c["cell_type"], "attachments" in c) for c in n["cells"] if role_of(c)]
        for n in (mended, release)
    ]
    assert roles[0] == roles[1]
    assert not (tmp_path / "evil").exists() and not (tmp_path.parent / "evil").exists()
    with pytest.raises(LabError, match="secret"):
        build(course.root, made.SOURCES, chosen(["boxes"]), "2027")
    with pytest.raises(LabError, match="neither"):
        collect(course, tmp_path / "nothing")


def test_nothing_left_but_text(small_course: Course, tmp_path: Path) -> None:
    """Catches a notebook that a program has stripped to its cells' text, and an answer that then
    goes to another task or is lost."""
    course = small_course
    release, source = (made.read(course.notebook(s, "boxes")) for s in ("release", "source"))
    bare = made.solved(source, release)
    made.cell(bare, "iou-values")["source"] = "print('a test that was written over')"
    helper = {"cell_type": "code", "metadata": {}, "source": "def helper():\n    pass\n"}
    at = [name_of(c) for c in bare["cells"]].index("giou")
    bare["cells"].insert(at, helper)
    bare |= {"metadata": {}, "nbformat": 4, "nbformat_minor": 4}
    for cell in bare["cells"]:
        cell["metadata"] = {}
        cell.pop("id", None)
    made.hand_in(tmp_path / "in", "eve", "untitled", bare)
    result = collect(course, tmp_path / "in")
    ((student, name, notes),) = result.taken
    assert (student, name) == ("eve", "boxes")
    assert "known by their text" in notes[0] and notes[1].endswith("put back: iou-values")
    kept = made.read(course.notebook("submitted", "boxes", "eve"))
    perfect = made.solved(source, release)
    for answer in ("formats", "iou", "giou", "deltas", "think"):
        assert made.cell(kept, answer)["source"] == made.cell(perfect, answer)["source"]


def test_what_came_before_is_not_graded_again(small_course: Course, tmp_path: Path) -> None:
    """Catches a class that is graded anew as one more student hands in, late days of a folder that
    was unpacked, which stay when its zip is collected, and old marks after a test was mended."""
    course = small_course
    release: Any = made.read(course.notebook("release", "boxes"))
    made.hand_in(tmp_path / "in", "ada", "boxes", release)
    collect(course, tmp_path / "in")
    path = course.notebook("submitted", "boxes", "ada")
    before = path.stat().st_mtime_ns
    collect(course, tmp_path / "in")
    assert path.stat().st_mtime_ns == before
    graded = release | {"metadata": {NOTES: []}}
    made.hand_in(course.root / "autograded" / "ada", "boxes", "boxes", graded)
    for tests in (course.notebook("source", "boxes"), course.notebook("personal", "boxes", "ada")):
        tests.parent.mkdir(parents=True, exist_ok=True)
        tests.touch()
        for seconds in (4 * 10**9, 10**9):  # after it was graded, and before
            os.utime(tests, (seconds, seconds))
            assert is_new(course, "ada", "boxes") == (seconds > time.time())
    os.utime(tmp_path / "in" / "ada" / "boxes.ipynb", (10**9, 10**9))
    collect(course, tmp_path / "in")
    assert path.stat().st_mtime_ns == before and is_new(course, "ada", "boxes")
    made.cell(release, "think")["source"] = "iou_grown = 1"
    made.hand_in(tmp_path / "in", "ada", "boxes", release)
    collect(course, tmp_path / "in")
    assert path.stat().st_mtime_ns > before


def test_what_came_and_was_not_taken(small_course: Course, tmp_path: Path) -> None:
    """Catches "nothing handed in" of a student whose file was refused, and a notebook that a
    browser saved as text, left out or given to nobody."""
    course, folder = small_course, tmp_path / "in"
    names = "Ada Lovelace\nDora Wu\nEve Roe\nZoe Hopper\n"
    (course.root / "roster.csv").write_text("name\n" + names, encoding="utf-8")
    for name in ("Dora Wu", "Zoe Hopper"):
        (folder / name).mkdir(parents=True)
    release = json.dumps(made.read(course.notebook("release", "boxes")))
    (folder / "ada_boxes.ipynb.txt").write_text(release, encoding="utf-8")
    (folder / "Dora Wu" / "work.ipynb.json").write_text("<html>", encoding="utf-8")
    (folder / "Zoe Hopper" / "boxes.py").write_text("", encoding="utf-8")

    def overview() -> str:
        collect(course, folder)
        with pytest.raises(LabError, match="Nothing is graded"):
            feedback(course, progress=False)
        text = (course.root / "overview.html").read_text(encoding="utf-8")
        return re.sub(r"<[^>]+>|\s+", " ", text).partition("Came, but could not be taken")[2]

    said = " ".join(overview().split())
    assert "Dora Wu : Dora Wu/work.ipynb.json: is not a readable notebook." in said
    assert "Zoe Hopper : Zoe Hopper: no notebook (.ipynb)" in said
    assert "Nothing handed in: Eve Roe." in said
    made.hand_in(folder, "Dora Wu", "new", json.loads(release))
    (folder / "Zoe Hopper" / "boxes.py").unlink()  # it stays known, as collections come in parts
    assert "Dora" not in (said := overview()) and "Zoe Hopper: no notebook" in said
