"""What a check counts as right: every mistake costs what it should, nothing more."""

from __future__ import annotations

import functools
import importlib
import operator
import re
import subprocess
import sys
import time
import warnings
from typing import Any

import classroom_class as made
import pytest
import torch

import sparse_rcnn_lab as srl
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.course.classroom import practice
from sparse_rcnn_lab.course.classroom.checks import Check, NotYet, difference
from sparse_rcnn_lab.course.classroom.course_folder import ASSIGNMENTS
from sparse_rcnn_lab.course.classroom.reference_solutions import _ANSWERS
from sparse_rcnn_lab.course.classroom.vary import Variation, fill_in

pytest.importorskip("jupytext", reason="needs the classroom extra: jupytext")
pytest.importorskip("nbgrader", reason="needs the classroom extra: nbgrader")

SHORT = ("boxes", "matching")
NAMES = list(ASSIGNMENTS)


@pytest.fixture
def fast_cells(monkeypatch):
    """Data and trainings are as short as in grading; nothing is loaded or evaluated twice."""
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    evaluate, known = srl.evaluate, {}

    def once(detector: Any, data: Any, **options: Any) -> Any:
        key = (detector.name, data.seed, len(data), str(options))
        if key not in known:
            known[key] = evaluate(detector, data, **options)
        return known[key]

    monkeypatch.setattr(srl, "evaluate", once)
    monkeypatch.setattr(srl, "load", functools.cache(srl.load))


@pytest.mark.parametrize("name", SHORT)
@pytest.mark.parametrize("secret", ["2026", "ada"])
def test_each_mistake_costs_what_it_should(name: str, secret: str) -> None:
    """Catches a test that a plausible mistake passes, a mistake that costs twice, and a right
    answer in another style that loses marks; twenty seeds of it are in tests/endurance."""
    assert made.unfair(name, secret) == {}


@pytest.mark.parametrize("name", [n for n in NAMES if n not in SHORT])
def test_each_mistake_costs_what_it_should_with_a_model(name: str, fast_cells: None) -> None:
    """The same for the assignments that run the real model; also catches a training that nobody
    gets marks for, as when ``run_stages`` hands on more than the student's stage takes."""
    assert made.unfair(name, "2026", training=True) == {}


GIOU = ("giou-inside", "giou-apart", "giou-pairs", "giou-gradient")
IOU = ("iou-area", "iou-values", "iou-same", "iou-apart", "iou-pairs", "iou-empty")
AREA = "def area(boxes):\n    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])\n"


@pytest.mark.parametrize(
    ("cell", "text", "lost"),
    [
        ("iou", AREA + "def mine(a, b):\n    return torch.zeros(7)\niou = mine\n", IOU[1:]),
        ("iou", AREA + "iou = lambda a, b: torch.zeros(7)\n", IOU[1:]),
        ("iou", "def area(boxes)\n    return 0\n", IOU),
        ("iou", "import nothing_of_this_name\n" + AREA, IOU),
        ("giou", "from sparse_rcnn_lab.core.boxes import giou\n", GIOU),
    ],
    ids=["alias", "lambda", "does-not-parse", "does-not-import", "the-package's"],
)
def test_functions_are_known_by_themselves(cell: str, text: str, lost: tuple[str, ...]) -> None:
    """Catches hidden tests that grade the reference where a function has another name, an answer
    of the package's that passes, and a cell that stops and costs the next task, which calls what
    it should have made."""
    source = made.source_of("boxes")
    notebook = made.with_answers(made.solved(source, source), {cell: text})
    assert made.rehearse(notebook) == frozenset(lost)


def test_a_fresh_kernel_refuses_only_the_student() -> None:
    """Catches a first check that guards the package's answers too late and then refuses its own
    reference: after a crash, all that follows would be lost."""
    code = """
import torch
def area(b): return b[..., 0] * 0
def giou(a, b): return area(a)[:, None] + area(b)[None] + iou(a, b)
from sparse_rcnn_lab.course.classroom.checks import boxes as check
b = torch.tensor([[0.0, 0.0, 10.0, 20.0]])
check(giou, b, b, gives=torch.tensor([[401.0]]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.stdout == "ok: giou\n", done.stderr


def test_the_answers_are_where_they_are_refused() -> None:
    """Catches a function of the package that has moved or has another name, and refuses nobody."""
    for answers in _ANSWERS.values():
        for module, names in answers.items():
            home = importlib.import_module(module)
            for name in names.split():
                operator.attrgetter(name)(home)


@pytest.mark.parametrize(
    "part", ["(f[None], r[None])[0][0]", ".condense(r)", ".generate(f)[:, :8]"]
)
def test_a_layer_that_is_the_answer(part: str) -> None:
    """Catches the real model's layer, called by the student, that passes for their own code, and
    one that belongs to the task and is refused."""
    code = f"lambda f, r: practice.small_stage(1).interaction{part}"
    f, r = practice.waves(5, 8, seed=3), practice.waves(5, 4, 8, seed=4)
    own = eval(code, {"practice": practice, "__name__": "__main__"})
    given = own(f, r)
    if "generate" in part:
        Check("stage")(own, f, r, gives=given)
    else:
        with pytest.raises(NotYet, match="Write it yourself"):
            Check("stage")(own, f, r, gives=given)


@pytest.mark.parametrize("name", NAMES)
def test_a_secret_decides_the_numbers(name: str) -> None:
    """Catches last year's results that still pass."""
    one, same, other = ([c["source"] for c in made.source_of(name, s)["cells"]] for s in "112")
    assert one == same and sum(a != b for a, b in zip(one, other, strict=True)) > 4


@pytest.mark.parametrize(
    ("got", "want", "words"),
    [
        (torch.zeros(2, 3), torch.zeros(3, 2), "shape"),
        (None, torch.zeros(2), "return"),
        (torch.tensor([1.0, 2.5]), torch.tensor([1.0, 2.0]), r"\[1\] should be 2.0000"),
        (torch.tensor([float("nan")]), torch.tensor([0.0]), "nan"),
        (1, True, "should be True"),
        ([1, 2], (1, 2, 3), "3 values"),
        ({"a": 1}, {"a": 1, "b": 2}, 'no "b"'),
        ("x", 2.0, "number"),
        (10_001, 10_000, "should be 10000"),
        (torch.tensor([10_001]), torch.tensor([10_000]), "should be 10000"),
    ],
)
def test_a_difference_is_told(got: object, want: object, words: str) -> None:
    """Catches a wrong result that counts as right, or is told in a way that does not help."""
    found = difference(got, want)
    assert found is not None and re.search(words, found)


@pytest.mark.parametrize(
    ("got", "want"),
    [
        (torch.tensor([0.33333]), torch.tensor([0.3333])),
        (torch.ones(2, dtype=torch.float64).numpy(), torch.ones(2)),
        (torch.tensor(2.0), 2.0),
        (1.999999, 2),
        ([torch.tensor(1), 2], (1, 2)),
        (torch.tensor(True), True),
        (torch.zeros(0, 4), torch.zeros(0, 4)),
    ],
)
def test_equal_in_another_type(got: object, want: object) -> None:
    """Catches a right result that fails for its type."""
    assert difference(got, want) is None


def test_check_copies_limits_and_hints(capsys: pytest.CaptureFixture[str]) -> None:
    """Catches an input that one test spoils for the next, a loop that is waited for twice, a hint
    that does not come, and anything on stderr, which nbgrader takes for a failure."""
    check, data = Check("experiment"), torch.ones(2)
    calls = []

    def double(x: torch.Tensor) -> torch.Tensor:

        warnings.warn("careful", stacklevel=1)
        return x.mul_(2)

    def forever() -> None:
        calls.append(1)
        while True:
            try:
                time.sleep(0.01)
            except Exception:
                continue

    check(double, data, gives=torch.full((2,), 2.0))
    check(double, data, gives=torch.full((2,), 2.0))
    with pytest.raises(NotYet, match=r"should be 3.*\nOnce more\?"):
        check(
            double, data, gives=torch.full((2,), 3.0), hints={"Once more?": torch.full((2,), 2.0)}
        )
    for _ in range(2):
        with pytest.raises(NotYet, match="come to an end"):
            check(forever, gives=1, within=0.2)
    assert len(calls) == 1
    double.__name__ = forever.__name__ = "wrapper"  # as a decorator may leave them
    check(double, data, gives=torch.full((2,), 2.0))
    captured = capsys.readouterr()
    assert captured.err == "" and "ok: double" in captured.out


def test_placeholders() -> None:
    """Catches a name that no build cell sets, and a literal that is not the value."""
    dice = Variation(3)
    dice.table = torch.tensor([[1.0, 0.33333333]])
    dice.count = 4
    assert fill_in("f(V.table, V.count)", dice, code=True) == (
        "f(torch.tensor([[1.0, 0.3333]]), 4)"
    )
    assert fill_in("{V.count} boxes", dice, code=False) == "4 boxes"
    with pytest.raises(LabError, match=r"V\.tabel"):
        fill_in("V.tabel", dice, code=True)
