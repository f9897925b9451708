"""Pages that students and teachers read: what they say, and that they need no network."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import classroom_class as made
import pytest
from browser import Watched, keep_shot, open_browser

from sparse_rcnn_lab.cli.main import main
from sparse_rcnn_lab.course.classroom.by_hand import take_by_hand
from sparse_rcnn_lab.course.classroom.cells import name_of, role_of
from sparse_rcnn_lab.course.classroom.course_folder import ASSIGNMENTS, NOTES, Course
from sparse_rcnn_lab.course.classroom.feedback import QUESTIONS, feedback
from sparse_rcnn_lab.course.classroom.pages import markdown, said

# Of sqlalchemy, about nbgrader.
pytestmark = pytest.mark.filterwarnings("ignore:Object of type <Submitted")
APART = "iou[0, 0] should be 0.0000, yours is -0.5000."
DOT = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAA"
    "AABJRU5ErkJggg=="
)


def error(name: str, value: str, *trace: str) -> dict[str, Any]:
    return {"output_type": "error", "ename": name, "evalue": value, "traceback": list(trace)}


@pytest.fixture
def marked(small_course: Course) -> Course:
    """Zoë has lost iou-apart, and giou's cell does not parse; think-grown is to be marked by hand,
    and has a figure. All in one attempt: nothing is run here."""
    course = small_course
    source, release = (made.read(course.notebook(s, "boxes")) for s in ("source", "release"))
    notebook = made.with_hidden_tests(made.solved(source, release), source)
    outputs = {
        "iou-apart": error("NotYet", APART, "\x1b[31mTraceback (most recent call last)"),
        "giou": error(
            "SyntaxError",
            "expected ':' (4117.py, line 1)",
            "  Cell In[9], line 1\n    def giou(a, b)\n                  ^\nSyntaxError",
        ),
        **{
            name: error("NameError", "name 'giou' is not defined")
            for name in ("giou-inside", "giou-apart", "giou-pairs", "giou-gradient")
        },
    }
    for name, output in outputs.items():
        made.cell(notebook, name)["outputs"] = [output]
    made.cell(notebook, "giou")["source"] = "def giou(a, b)\n    # <script>alert(1)</script>\n"
    drawn = {"output_type": "display_data", "data": {"image/png": DOT}, "metadata": {}}
    made.cell(notebook, "think")["outputs"] = [drawn]
    notebook["metadata"][NOTES] = []
    for step in ("submitted", "autograded"):
        made.hand_in(course.root / step / "zoe", "boxes", "boxes", notebook)
    (course.root / "roster.csv").write_text("name\nzoe\n", encoding="utf-8")
    with course.gradebook() as gradebook:
        gradebook.update_or_create_student("zoe")
        for grade in gradebook.update_or_create_submission("boxes", "zoe").notebooks[0].grades:
            grade.auto_score = 0 if grade.name in outputs else grade.max_score
            grade.needs_manual_grade = grade.name == "think-grown"
        gradebook.db.commit()
    return course


def test_every_test_has_its_question() -> None:
    """Catches a test that was added or renamed and asks nobody anything."""
    tests = {
        name_of(cell)
        for assignment in ASSIGNMENTS
        for cell in made.source_of(assignment)["cells"]
        if role_of(cell).get("grade")
    }
    assert tests == set(QUESTIONS)
    assert all(question.rstrip().endswith(("?", ".")) for question in QUESTIONS.values())


def test_what_a_student_reads(marked: Course) -> None:
    """Catches a lost mark without what came and a question, one mistake told four times, a bare
    traceback, marks that look lost while nobody has read the answer, and code that runs."""
    (path,) = feedback(marked, progress=False)
    page = path.read_text(encoding="utf-8")
    text = " ".join(re.sub("<[^>]+>", " ", page.split("</style>")[1]).split())
    assert "zoe 14 of 20 marks 1 mark is not given yet :" in text
    first = text[text.index("What to look at again") :][:400]
    assert f"Boxes that do not overlap 0 of 1 · iou-apart What came {APART} Your code iou" in first
    assert "What is the product of two negative sides?" in first
    assert text.count("This cell stopped, so nothing of it could be tested") == 1
    assert "SyntaxError: expected &#39;:&#39; in line 1: def giou(a, b)" in text
    assert "What its 4 tests ask" in text
    assert "Traceback" not in text and "<script" not in page and "4117.py" not in page
    assert text.index("What to look at again") < text.index("What is right")
    overview = (marked.root / "overview.html").read_text(encoding="utf-8")
    assert overview.index("iou-apart") < overview.index("Lost by nobody")
    assert main(["classroom", "solutions", "--course", str(marked.root)]) == 0
    page = (marked.root / "solutions" / "boxes.html").read_text(encoding="utf-8")
    assert "clamp" in page and "SOLUTION" not in page and "product of two negative sides" in page


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("a $x < y$ b", "<math"),
        ("`$x$`", "<code>$x$</code>"),
        ("<script>x</script>", "&lt;script&gt;"),
        ("![pixel](https://example.org/x.png)", ""),
        (r"$\frac{$", "<code>"),
        (r"$\text{<img/src=x>}$", "&lt;img/src=x&gt;"),
        (r"$\href{javascript:alert(1)}{x}$", "<mi>x</mi>"),
        ("[x](javascript:alert(1))", "#harmful-link"),
    ],
)
def test_students_text_is_text(text: str, html: str) -> None:
    """Catches a formula that is not shown, one that stops the page, text that does something."""
    shown = str(markdown(text))
    assert html in shown
    assert not any(bad in shown for bad in ("<script", "<img", "javascript:"))


@pytest.mark.parametrize("opening", [r"\begin{a}", r"\\["])
def test_formulas_without_an_end(opening: str) -> None:
    """Catches time that grows with the square of a text, here to minutes."""
    start = time.process_time()
    markdown(opening * (60_000 // len(opening)))
    assert time.process_time() - start < 3


def test_errors_say_where() -> None:
    """Catches an error without the line it comes from, or with that of a library."""
    trace = (
        "\x1b[31m---------------------------------------------\x1b[39m",
        "Cell In[3], line 2\n      1 def area(b):\n----> 2     return b.nothing\n",
        "File ~/torch/_tensor.py:9\n----> 9     raise\n",
    )
    assert said(error("AttributeError", "no nothing", *trace)) == (
        "AttributeError: no nothing\nin line 2: return b.nothing"
    )


@pytest.mark.browser
def test_pages_in_a_browser(chromium, marked: Course, tmp_path: Path) -> None:
    """Catches a page that asks the network for anything, a formula that stays TeX, one wider than a
    phone, and marks clicked on the page that do not come back."""
    pytest.importorskip("playwright", reason="needs the dev extra: playwright")
    (path,) = feedback(marked, progress=False)
    with open_browser(chromium) as browser:
        watched = Watched(browser, 390, 844)
        page = watched.page
        page.goto(path.as_uri())
        keep_shot(page, "feedback-phone")
        assert page.locator("math").count() >= 2 and "$" not in page.locator("main").inner_text()
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        page.goto((marked.root / "overview.html").as_uri())
        keep_shot(page, "class-overview-phone")
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        page.goto((marked.root / "by_hand.html").as_uri())
        assert page.locator("img").count() == 1
        assert page.locator(".sum").inner_text() == "not marked yet, of 1"
        page.get_by_label("0.5", exact=True).check()
        page.locator("textarea").fill('Well, "almost"')
        page.reload()  # what was clicked is still there
        assert page.locator(".sum").inner_text() == "0.5 of 1"
        keep_shot(page, "by-hand-phone")
        with page.expect_download() as download:
            page.get_by_role("button", name="Save by_hand.csv").click()
        download.value.save_as(tmp_path / "saved.csv")
        assert watched.strangers == []
        watched.context.close()
    with pytest.raises(Exception, match="takes no comment"):  # think-grown is a test, not a text
        take_by_hand(marked, tmp_path / "saved.csv")
    saved = (tmp_path / "saved.csv").read_text(encoding="utf-8-sig")
    (tmp_path / "saved.csv").write_text(saved.replace('"Well, ""almost"""', ""), encoding="utf-8")
    command = ["classroom", "feedback", "--by-hand", str(tmp_path / "saved.csv")]
    assert main([*command, "--course", str(marked.root)]) == 0
    assert "<b>14.5</b> of 20 marks" in path.read_text(encoding="utf-8")
