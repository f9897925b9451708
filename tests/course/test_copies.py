"""Code that is alike beyond names, comments, layout and order."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import classroom_class as made
import pytest
from classroom_writings import a_class

from sparse_rcnn_lab.cli.main import main
from sparse_rcnn_lab.course.classroom.copies import compare, fingerprints
from sparse_rcnn_lab.course.classroom.course_folder import Course


@pytest.mark.parametrize("seed", range(5))
def test_all_pairs_of_a_class(seed: int) -> None:
    """Catches a copy that is renamed, reordered or reformatted and not found, and a class whose
    honest pairs hide it."""
    texts, planted = a_class(seed)
    found = [pair.students for pair in compare("boxes", texts, set())]
    assert len(texts) == 30 and planted <= set(found) and len(found) <= 5, found


@pytest.mark.parametrize("seed", range(2))
def test_the_made_class_is_right(seed: int) -> None:
    """Catches a way of writing, or of copying, that is no right answer: its pairs show nothing."""
    source = made.source_of("boxes")
    texts, _ = a_class(seed)
    for student in sorted(texts)[::6] + sorted(texts)[-3:]:
        cells = {name: "" for name in ("iou", "giou", "deltas")}
        cells["formats"] = f"LIMIT = 4.135166556742356\n{texts[student]}"
        notebook = made.with_answers(made.solved(source, source), cells)
        assert made.rehearse(notebook) == frozenset(), student


def test_what_counts_as_the_same() -> None:
    """Catches a fingerprint that hangs on a name, an import, a comment or a bracket, or that
    another call or number does not change, and code too deep to be read that ends the step."""

    def same(one: str, other: str) -> bool:
        return fingerprints(one).keys() == fingerprints(other).keys()

    code = "def f(a):\n    b = a.clamp(min=0)\n    return torch.stack([b, b * 2], dim=-1)\n"
    renamed = code.replace("b", "xx").replace("def f(a", "def g(q").replace("a.clamp", "q.clamp")
    assert same(code, renamed)
    assert same(code, code.replace("(a):", '(a: int) -> int:\n    """Text."""  # and more'))
    assert same(code, code.replace("b * 2", "(\n        b * 2\n    )"))
    assert same(code, f"import torch\n{code}")
    assert same(code, "import torch as t\n" + code.replace("torch", "t"))
    assert same(code.replace("* 2", "% 2"), code.replace(" * 2", "\n        % 2"))
    assert not same(code, code.replace("clamp", "clip"))
    assert not same(code, code.replace("* 2", "* 3"))
    deep = "".join(f"x = {'-' * n}1\n" for n in (1000, 10**5))
    broken = fingerprints(f"def g(:\n    pass\n\n{code}\n%matplotlib inline\n{deep}")
    assert fingerprints(code).keys() <= broken.keys()
    lines = [broken[run] for run, _ in fingerprints(code).items()]
    assert {line for found in lines for line in found} <= {4, 5, 6}


def test_the_table_and_the_page(
    small_course: Course, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a hand-out that is alike with itself, and a pair that the teacher is not told of."""
    release = made.read(small_course.notebook("release", "boxes"))
    texts, planted = a_class(1, honest=5)
    texts |= {"empty-1": "", "empty-2": ""}
    for student, text in texts.items():
        notebook = made.with_answers(release, {"formats": text}) if text else release
        path = small_course.notebook("submitted", "boxes", student)
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(notebook), encoding="utf-8")
    assert main(["classroom", "copies", "--course", str(small_course.root)]) == 0
    with (small_course.root / "copies.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert planted <= {(row["student"], row["other"]) for row in rows}
    assert not any("empty" in row["student"] + row["other"] for row in rows)
    assert all(0 <= int(row["others_have_percent"]) <= 100 for row in rows)
    page = (small_course.root / "copies.html").read_text(encoding="utf-8")
    assert page.count("<details") == len(rows) and "rgb(240 140 0" in page
    assert "http" not in page
    assert "copies.html" in capsys.readouterr().out
