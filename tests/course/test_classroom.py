"""The classroom: what is handed out, what comes of it when a made-up class hands in."""

from __future__ import annotations

import io
import json
import os
import re
from pathlib import Path
from typing import Any

import classroom_class as made
import pytest

from sparse_rcnn_lab.cli.main import main
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.course.classroom.build import FORBIDDEN, check_release, read_source
from sparse_rcnn_lab.course.classroom.cells import name_of, role_of
from sparse_rcnn_lab.course.classroom.course_folder import ASSIGNMENTS, Course
from sparse_rcnn_lab.course.classroom.execution import SturdyExecute
from sparse_rcnn_lab.course.classroom.feedback import feedback
from sparse_rcnn_lab.course.classroom.grade import grade
from sparse_rcnn_lab.course.classroom.repair_submission import repair
from sparse_rcnn_lab.course.classroom.validate import MORE_HIDDEN, before_handing_in, validate

pytest.importorskip("jupytext", reason="needs the classroom extra: jupytext")
pytest.importorskip("nbgrader", reason="needs the classroom extra: nbgrader")

SHORT = ("boxes", "matching")
NAMES = list(ASSIGNMENTS)


def test_nothing_asked_for_is_handed_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a solution, a hidden test, an output or a written answer in a student's notebook,
    building that works in the clone alone or is silent, and a roster that is not taken."""
    # As where the virtual environment is not activated: nbgrader calls alembic by name.
    monkeypatch.setenv("PATH", os.defpath)
    monkeypatch.chdir(tmp_path)  # where there are no sources
    Path("class.csv").write_text("name\nAda Lovelace\nBob Ross\n", encoding="utf-8")
    assert main(["classroom", "build", "--secret", "2026", "--students", "class.csv"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("Building 4 assignments") and "boxes: building" in said
    course = Course.open("course")
    for name in NAMES:  # nothing for all, as everybody has their own
        for student in ("Ada-Lovelace", "Bob-Ross"):
            assert (course.root / "hand-out" / student / f"{name}.ipynb").is_file()
        assert not (course.root / "hand-out" / f"{name}.ipynb").exists()
    assert "Classroom" in (course.root / "source" / "GUIDE.md").read_text(encoding="utf-8")
    for name in NAMES:
        source, release = (made.read(course.notebook(s, name)) for s in ("source", "release"))
        text = "\n".join(c["source"] for c in release["cells"])
        assert not FORBIDDEN.search(text)
        hidden, answers = 0, 0
        for cell in source["cells"]:
            inside = cell["source"].split("### BEGIN HIDDEN TESTS\n")[1:]
            hidden += len(inside)
            for part in inside:
                lines = [line for line in part.split("### END")[0].splitlines() if len(line) > 40]
                assert not any(line in text for line in lines)
            if role_of(cell).get("solution"):
                answers += 1
                own = made.cell(release, name_of(cell))["source"]
                assert ("your code here" in own.lower()) or own == "*Your answer here.*"
        assert hidden >= 3 and answers >= 4
        # Empty work passes no test.
        if name in SHORT:
            full = made.with_hidden_tests(release, source)
            assert made.rehearse(full) == made.all_tests(release)

    mistyped = made.with_answers(release, {"question": "### BEGIN HIDDEN TEST"})
    with pytest.raises(LabError, match="BEGIN HIDDEN"):
        check_release(mistyped, "experiment")


def test_points_of_a_source(tmp_path: Path) -> None:
    """Catches half a mark that is none, in silence, and points that end in a traceback."""
    script, course = tmp_path / "1_boxes.py", Course(tmp_path, "1", ("boxes",))
    script.write_text('# %% test="one" points=0.5\nx = 1\n', encoding="utf-8")
    (cell,) = read_source(tmp_path, "boxes", course).cells
    assert role_of(cell)["points"] == 0.5
    script.write_text('# %% test="one" points="two"\nx = 1\n', encoding="utf-8")
    with pytest.raises(LabError, match=r"points of .one. .* must be a number: 'two'"):
        read_source(tmp_path, "boxes", course)


def test_an_experiment_may_take_long(tmp_path: Path) -> None:
    """Catches a right answer, of two hundred measurements, that is stopped when it is graded."""
    notebook = read_source(made.SOURCES, "experiment", Course(tmp_path, "1", ("experiment",)))
    execute = SturdyExecute()
    execute._slowness = 2.0
    limits = {name_of(c): execute._seconds_for(c) for c in notebook.cells}
    assert (limits["own-run"], limits["measure"], limits["imports"]) == (300, 60, 600)


def test_round_trip(built: Course, tmp_path: Path) -> None:
    """Catches a crash, a loop, a flood or an edited test that costs more or less than its own
    marks, and feedback without them."""
    course = made.copy_of(built, tmp_path / "course")
    source, release = (made.read(course.notebook(s, "boxes")) for s in ("source", "release"))
    perfect = made.solved(source, release)
    crash = next(t for t in made.TROUBLE["boxes"] if t.name == "crash")
    # One person with all troubles, the tests edited too: each costs its own tests.
    all_at_once = made.with_answers(
        perfect,
        {
            **crash.cells,
            "iou": "def area(boxes):\n    while True:\n        pass\n\n" + iou_alone(perfect),
            "formats": made.cell(perfect, "formats")["source"]
            + "\nfor _ in range(100):\n    print('x' * 100_000)\n"
            + "    display({'text/html': 'x' * 1_000_000}, raw=True)\nexit()\n",
        },
    )
    class_of = {
        "boxes": {
            "perfect": (perfect, frozenset(), ""),
            "all-at-once": (
                made.edits_tests(all_at_once),
                frozenset({"iou-area", *crash.lost}),
                "process ended",
            ),
        }
    }  # fmt: skip
    course, rows = made.round_trip(tmp_path, class_of)
    assert rows["boxes", "perfect"]["marks"] == "20"
    for note in ("printed more", "showed more", "restored"):
        assert note in rows["boxes", "all-at-once"]["notes"]
    assert course.notebook("autograded", "boxes", "all-at-once").stat().st_size < 20_000_000
    assert grade(course, progress=False) == {}  # nothing new

    pages = feedback(course, progress=False)
    assert len(pages) == 2
    page = " ".join(pages[-1].read_text(encoding="utf-8").split())
    assert "<b>20</b> of 20 marks" in page and "Every test passes" in page
    lost = " ".join(pages[0].read_text(encoding="utf-8").split())
    assert "the Python process ended while this cell ran" in lost and "Traceback" not in lost


def iou_alone(perfect: Any) -> str:
    """The function iou of the reference solution, which calls area."""
    source = made.cell(perfect, "iou")["source"]
    return source[source.index("def iou") :]


@pytest.mark.parametrize(
    ("code", "note"),
    [
        ("from sparse_rcnn_lab.core.boxes import giou", "own answer"),
        ("from sparse_rcnn_lab.core import config, losses", "own answer"),
        ("import sparse_rcnn_lab.course.classroom.checks as c", "touches the checks"),
        ("check.__class__.__call__ = lambda *a, **k: None", "looks around"),
        ("text = open(practice.__file__).read()", "looks around"),
        ("exec(Path('x').read_text())", "reads files"),
        ("model.eval()", ""),
    ],
)
def test_code_that_a_person_should_look_at(code: str, note: str) -> None:
    """Catches an answer that is imported or read, and leaves no note."""
    release = made.source_of("boxes")
    submission = made.with_answers(release, {"giou": f"{code}\n\ndef giou(a, b):\n    return a\n"})
    found = " ".join(repair(submission, release))
    assert note in found if note else not found


def test_validate_reads_what_jupyterlab_saves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Catches a last cell that cannot read or run the saved file, or whose list a student never
    sees."""
    path = tmp_path / "small.ipynb"
    role = {"grade": True, "grade_id": "small-one", "points": 2, "locked": True, "solution": False}
    texts = (
        ["x = 1\n", "y = 2"],
        ["assert x + y == 3"],
        ["assert x == 7, 'seven'"],
        ["def _test():\n", "    from math import pi\n", "    # 2 marks\n", "_test()"],
        ["z"],
        [f"{MORE_HIDDEN}\n", "assert x"],
    )
    cells = [
        {
            "cell_type": "code",
            "id": f"c{number}",
            "metadata": {"nbgrader": {**role, "grade_id": f"small-{number}"}} if number else {},
            "source": text,  # a list of lines, as Lab writes it
            "outputs": [],
            "execution_count": None,
        }
        for number, text in enumerate(texts)
    ]
    about = {
        "kernelspec": {"name": "conda-env-lab-py", "display_name": "only in conda's JupyterLab"}
    }
    notebook = {"cells": cells, "metadata": about, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(notebook), encoding="utf-8-sig")
    found = [(o.name, o.problem, o.hidden, o.more) for o in validate(path)]
    assert found == [
        ("small-1", "", False, False),
        ("small-2", "seven", False, False),
        ("small-3", "", True, False),  # nothing has run: that is no pass
        ("small-4", "Not yet: name 'z' is not defined.", False, False),
        ("small-5", "", False, True),
    ]

    printed = io.StringIO()
    monkeypatch.setattr("sys.stdout", printed)  # what a notebook sees of a cell
    before_handing_in(path)
    said = printed.getvalue()
    assert "2 of 4 visible tests pass." in said and "seven" in said
    assert re.search(r"^hidden, graded later +small-3$", said, re.M)
    assert re.search(r"^passes so far +small-5$", said, re.M)
    assert "1 hidden test, and the hidden parts of 1 more" in said
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(LabError, match="not a notebook"):
        validate(path)


def test_what_students_cannot_see_is_no_pass(small_course: Course, tmp_path: Path) -> None:
    """Catches a hidden test of a handed-out notebook that is listed as passed, one whose hidden
    part is forgotten, and "Run all cells" that stops at the first test that fails."""
    source, release = (made.read(small_course.notebook(s, "boxes")) for s in ("source", "release"))
    wrong = {"think": "iou_shifted = 0.9\niou_grown = 0.9"}  # the rest as handed out
    path = tmp_path / "boxes.ipynb"
    path.write_text(json.dumps(made.with_answers(release, wrong)), encoding="utf-8")
    outcomes = {outcome.name: outcome for outcome in validate(path)}
    for name, outcome in outcomes.items():
        whole = made.cell(source, name)["source"]
        seen = whole.split("### BEGIN HIDDEN")[0]
        assert outcome.hidden == ("check(" not in seen and "check.that(" not in seen), name
        assert outcome.hidden or outcome.more == ("BEGIN HIDDEN" in whole), name
    passed = [o.name for o in outcomes.values() if not o.problem and not o.hidden]
    assert passed == ["think-shifted", "think-grown"]
    assert outcomes["think-grown"].more and outcomes["giou-pairs"].hidden
    for cell in release["cells"]:
        role = role_of(cell)
        goes_on = "raises-exception" in cell["metadata"].get("tags", ())
        assert goes_on == (bool(role) and cell["cell_type"] == "code")
