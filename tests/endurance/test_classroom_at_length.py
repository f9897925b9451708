"""A whole class through all steps; a student in a real JupyterLab, from the file to the mark."""

from __future__ import annotations

import csv
import os
import re
import time
from pathlib import Path

import classroom_class as made
import pytest
from browser import Watched, keep_shot, open_browser
from jupyter_lab import QUERY, jupyter_lab

pytest.importorskip("jupyterlab", reason="needs the classroom extra: JupyterLab")
pytest.importorskip("nbgrader", reason="needs the classroom extra: nbgrader")
pytest.importorskip("jupytext", reason="needs the classroom extra: jupytext")
pytest.importorskip("playwright", reason="needs the dev extra: playwright")

from sparse_rcnn_lab.course.classroom.build import build
from sparse_rcnn_lab.course.classroom.cells import name_of
from sparse_rcnn_lab.course.classroom.collect import collect
from sparse_rcnn_lab.course.classroom.course_folder import ASSIGNMENTS, chosen
from sparse_rcnn_lab.course.classroom.feedback import feedback
from sparse_rcnn_lab.course.classroom.grade import grade
from sparse_rcnn_lab.course.classroom.marks import write_marks


@pytest.fixture
def desk(tmp_path):
    """A course, a student's folder with the handed-out notebook, a JupyterLab that serves it."""
    course = build(tmp_path / "course", made.SOURCES, chosen(["boxes"]), "2026")
    folder = tmp_path / "ada"
    folder.mkdir()
    (folder / "boxes.ipynb").write_bytes((course.root / "hand-out" / "boxes.ipynb").read_bytes())
    with jupyter_lab(folder, tmp_path / "home") as files:
        yield course, folder, f"{files}boxes.ipynb?{QUERY}"


class Hands:
    """What a student does with keyboard and mouse. Cells go by the first words of their text."""

    def __init__(self, page, path: Path) -> None:
        self.page = page
        cells = made.read(path)["cells"]
        self.order = [name_of(c) for c in cells]

    def cell(self, name: str):
        """The cell called so, on screen. Lab draws only what is near the view."""
        place = self.page.locator(
            f'.jp-Notebook .jp-Cell[data-windowed-list-index="{self.order.index(name)}"]'
        )
        self.page.mouse.move(800, 500)  # the wheel turns what is under the mouse
        for _ in range(60):
            if place.count() and place.locator(".cm-content").count():
                place.scroll_into_view_if_needed()
                return place
            self.page.mouse.wheel(0, 300)
            self.page.wait_for_timeout(80)
        raise AssertionError(f"cell {name} is not to be found")

    def top(self) -> None:
        self.page.keyboard.press("Escape")
        self.page.keyboard.press("Control+Home")
        self.page.mouse.move(800, 500)
        self.page.mouse.wheel(0, -100_000)
        self.page.wait_for_timeout(300)

    def write(self, name: str, text: str) -> None:
        """Replaces the text of a cell; inserted, as Lab would indent and close brackets."""
        self.cell(name).locator(".cm-content").click()
        self.page.keyboard.press("Control+a")
        self.page.keyboard.insert_text(text)

    def run(self, name: str) -> str:
        """Runs a cell, and what it then shows."""
        cell = self.cell(name)
        before = cell.locator(".jp-InputPrompt").first.inner_text()
        cell.locator(".cm-content").click()
        self.page.keyboard.press("Control+Enter")
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            now = cell.locator(".jp-InputPrompt").first.inner_text()
            if now != before and re.search(r"\[\d+\]", now):
                break
            self.page.wait_for_timeout(100)
        self.page.wait_for_timeout(150)
        return "\n".join(cell.locator(".jp-OutputArea-output").all_inner_texts())


@pytest.mark.slow  # a JupyterLab, a browser, and a student who takes their time
@pytest.mark.browser
@pytest.mark.timeout(1800)
def test_a_student_solves_the_first_assignment(chromium, desk):
    """Catches cells that cannot be edited, messages that do not help, a last cell that cannot run
    the file, and a notebook that Lab saves in a form that cannot be collected."""
    course, folder, address = desk
    path = folder / "boxes.ipynb"
    source, release = (made.read(course.notebook(s, "boxes")) for s in ("source", "release"))
    perfect = made.solved(source, release)
    with open_browser(chromium) as browser:
        watched = Watched(browser, 1300, 1000)
        page = watched.page
        page.goto(address)
        page.wait_for_selector(".jp-Notebook .jp-Cell")
        page.wait_for_function(
            "() => document.querySelector('#jp-main-statusbar')?.innerText.includes(') | Idle')"
        )
        hands = Hands(page, path)
        page.wait_for_timeout(1500)
        keep_shot(page, "student-1-opened")

        # Run all goes on below a test that fails: the last one has its say.
        page.locator(".lm-MenuBar-itemLabel", has_text=re.compile("^Run$")).click()
        page.locator(".lm-Menu-itemLabel", has_text=re.compile("^Run All Cells$")).click()
        last = hands.cell("think-grown").locator(".jp-OutputArea-output")
        last.first.wait_for()
        assert "iou_grown" in last.first.inner_text()
        hands.top()

        hands.run("imports")
        hands.run("formats")
        assert "no code so far" in hands.run("formats-to-cxcywh")
        keep_shot(page, "student-2-first-run")

        # Locked cells are locked.
        hands.cell("formats-to-cxcywh").locator(".cm-content").click()
        page.keyboard.type("x")
        text = hands.cell("formats-to-cxcywh").locator(".cm-content").inner_text()
        assert "x#" not in text and not text.startswith("x")

        # A mistake, the hint, the right answer.
        wrong = made.cell(perfect, "formats")["source"].replace(
            "[cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]", "[cx, cy, cx + w, cy + h]"
        )
        hands.write("formats", wrong)
        hands.run("formats")
        assert "is the centre" in hands.run("formats-to-xyxy")
        keep_shot(page, "student-3-hint")
        for name in ("formats", "iou", "giou", "deltas", "think"):
            hands.write(name, made.cell(perfect, name)["source"])
            hands.run(name)
            if name == "giou":
                hands.run("limit")
            tests = [t for t in hands.order if t.startswith(f"{name}-")]
            for test in tests:
                said = hands.run(test)
                assert "Not yet" not in said and "Error" not in said, said
            keep_shot(page, f"student-4-{name}")

        page.keyboard.press("Control+s")
        page.wait_for_timeout(2000)
        said = hands.run("hand-in")
        keep_shot(page, "student-5-hand-in")
        assert "12 of 12 visible tests pass" in said and "8 hidden tests" in said, said

        # nbgrader's own button, where a teacher has installed it.
        button = page.locator(".validate-button, [title*=alidate], button:has-text('Validate')")
        if button.count():
            button.first.click()
            page.wait_for_timeout(8000)
            keep_shot(page, "student-6-validate")
        assert watched.strangers == []
        watched.context.close()

    saved = made.read(path)
    assert saved["metadata"]["sparse_rcnn_lab"]["assignment"] == "boxes"
    handed_in = folder.parent / "handed-in" / "ada" / "boxes.ipynb"
    handed_in.parent.mkdir(parents=True)
    handed_in.write_bytes(path.read_bytes())  # as Lab has saved it
    result = collect(course, handed_in.parent.parent)
    assert len(result.taken) == 1 and result.refused == []
    grade(course, progress=False)
    (result,) = write_marks(course)
    assert (result.score, result.notes) == (20, ())


@pytest.mark.slow  # each catalogue twenty times over
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_every_seed_is_fair(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches numbers that make a mistake harmless, or a right answer wrong, for some students."""
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    found = {s: made.unfair(name, f"seed {s}", training=name == "stage") for s in range(20)}
    assert {s: wrong for s, wrong in found.items() if wrong} == {}


@pytest.mark.slow  # some sixty notebooks in kernels of their own
def test_a_whole_class(tmp_path: Path) -> None:
    """The round trip of all four assignments, every trouble in it."""
    names = chosen(None)
    folder = Path(os.environ.get("CLASSROOM_FOLDER", tmp_path))
    course = build(folder / "course", made.SOURCES, names, "2026")
    class_of = {name: made.made_class(course, name) for name in names}
    course, rows = made.round_trip(folder, class_of)
    assert rows["experiment", "perfect"]["by_hand_open"] == "9"

    # Words are marked in a table, read back at the next step, and shown on the page.
    path = course.root / "by_hand.csv"
    with path.open(encoding="utf-8-sig") as file:
        table = list(csv.DictReader(file))
    for row in table:
        if row["student"] == "perfect":
            row["marks"], row["comment"] = row["out_of"], "Well said."
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    pages = {(p.parent.parent.name, p.stem): p for p in feedback(course, progress=False)}
    text = pages["perfect", "experiment"].read_text(encoding="utf-8")
    assert "data:image/png" in text, "the figure is gone"
    assert "Well said." in text and "<b>20</b> of 20 marks" in text
