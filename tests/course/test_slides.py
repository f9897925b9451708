"""What a lecture needs: slides, and questions to ask."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from browser import Watched, keep_shot, open_browser

from sparse_rcnn_lab.course.classroom import slides
from sparse_rcnn_lab.course.lessons.notebook_files import build

pytest.importorskip("jupytext", reason="needs the notebooks extra: jupytext")
ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "notebooks" / "slides.py"


def test_five_questions_a_lesson() -> None:
    """Catches a lesson that was added or renamed, and a question without its answer."""
    quiz = (ROOT / "docs" / "quiz.md").read_text(encoding="utf-8")
    parts = dict(re.findall(r"^## \d\. (.+)\n((?:(?!^## ).*\n)+)", quiz, re.M))
    lessons = sorted((ROOT / "notebooks").glob("0[1-9]_*.py"))
    titles = [re.search(r"^# # \d\. (.+)$", p.read_text("utf-8"), re.M) for p in lessons]
    assert list(parts) == [title[1] for title in titles if title]
    for part in parts.values():
        assert len(re.findall(r"^\d\. \*[^*]+[?.]\*\s+\S", part, re.M)) == 5, part


def test_code_and_notes_stay_off_the_slides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches code on a slide, a note that the audience reads, and a formula that stays TeX."""

    def not_run(script: Path, **options: Any) -> tuple[Any, float]:
        return build(script), 0.0

    monkeypatch.setattr(slides, "execute", not_run)
    assert slides.make_slides(SCRIPT, tmp_path / "slides.html") == 20
    text = (tmp_path / "slides.html").read_text(encoding="utf-8")
    body = text[text.index("<body>") : text.index("<script>")]
    assert "import" not in body and "$" not in body and "Note:" not in body
    assert body.count("<math") >= 6 and body.count("<aside></aside>") < 10


@pytest.mark.slow  # every cell is run
@pytest.mark.browser
def test_the_deck_in_a_browser(chromium: str, tmp_path: Path) -> None:
    """Catches a cell that stops, a slide without its figure, one whose text runs out of it, and a
    deck that asks the network."""
    page_file = tmp_path / "slides.html"
    count = slides.make_slides(SCRIPT, page_file, fast=True)
    with open_browser(chromium) as browser:
        watched = Watched(browser, 1366, 768)
        page = watched.page
        page.goto(page_file.as_uri())
        for number in range(1, count + 1):
            now = page.locator("section.now")
            assert now.locator("footer").inner_text() == f"{number} / {count}"
            keep_shot(page, f"slide-{number:02}")
            assert now.evaluate("s => s.scrollHeight <= s.clientHeight") is True
            for image in now.locator("img").all():
                assert image.evaluate("i => i.naturalWidth > 300 && i.height > 100") is True
            page.keyboard.press("ArrowRight")
        assert watched.strangers == []
        watched.context.close()
