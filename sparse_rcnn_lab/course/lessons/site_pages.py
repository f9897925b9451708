"""The project's web site as a static folder: lessons, playgrounds, docs; ``make site``."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from sparse_rcnn_lab.course.lessons.lesson_pages import entry, make_gallery, shell
from sparse_rcnn_lab.course.lessons.lesson_setup import DATA
from sparse_rcnn_lab.detect.files import write_text
from sparse_rcnn_lab.models.load import load, shipped_models
from sparse_rcnn_lab.views.playground.playground_page import playground

_REPOSITORY_LINK = re.compile(r'href="(?:\.\./)+(?:[^"]*?/)?(docs/[\w/-]+|\w+)\.md(#[^"]*)?"')
_PAGE_LINK = re.compile(r'href="(?!\w+:)([^"#]+)\.md(#[^"]*)?"')
_HEADING = re.compile(r'<h\d id="([^"]+)"')
_OUTSIDE = re.compile(r'<a href="(?:\.\./)+(?!docs/)[^"]*">(.*?)</a>', re.S)


def make_site(
    folder: Path, out: Path, *, fast: bool = False, models: Sequence[str] | None = None
) -> Path:
    """Writes ``out/index.html``, ``lessons/``, ``play/`` and ``docs/``; returns the first page.

    folder: that of the lessons, beside ``docs/``.  fast: lessons on toy amounts.  models: those
    with a playground; default: all shipped ones. The site works from disk and below any address.
    """
    docs = folder.parent / "docs"
    lessons = make_gallery(folder, out / "lessons", fast=fast)
    for page in lessons:
        text = page.read_text(encoding="utf-8")
        write_text(page, _REPOSITORY_LINK.sub(_lesson_link, text))
    pages = make_docs(docs, out / "docs")
    played = []
    for name in shipped_models() if models is None else models:
        detector = load(name)
        file = playground(detector, out / "play" / f"{name}.html")
        size = f"{file.stat().st_size / 1e6:.0f} MB"
        played.append(
            entry(f"play/{name}.html", name, f"{', '.join(detector.class_names)}; {size}")
        )
    entries = [entry(f"docs/{page.name}", title, "") for page, title in pages]
    body = (DATA / "site.html").read_text(encoding="utf-8")
    body = body.format(played="".join(played), docs="".join(entries))
    shutil.copy(out / "lessons" / "lessons.css", out / "lessons.css")
    write_text(out / "index.html", shell("Sparse R-CNN lab", body))
    write_text(out / ".nojekyll", "")
    return out / "index.html"


def make_docs(docs: Path, out: Path) -> list[tuple[Path, str]]:
    """Writes ``docs/`` as HTML with its figures; returns (page, title) of those at its top."""
    from nbconvert.filters import markdown2html

    made = []
    for source in sorted(docs.rglob("*.md")):
        text = source.read_text(encoding="utf-8")
        title = next(line for line in text.splitlines() if line.startswith("# "))[2:]
        body = _PAGE_LINK.sub(r'href="\1.html\2"', markdown2html(text))
        body = _OUTSIDE.sub(r"\1", body)
        for name in _HEADING.findall(body):
            slug = re.sub(r"[^\w-]", "", name.lower())  # as on GitHub, which the links refer to
            body = body.replace(f'id="{name}"', f'id="{slug}"')
            body = body.replace(f'href="#{name}"', f'href="#{slug}"')
        page = out / source.relative_to(docs).with_suffix(".html")
        up = "../" * (len(source.relative_to(docs).parts))
        nav = f'<a href="{up}index.html">Sparse R-CNN lab</a>'
        page.parent.mkdir(parents=True, exist_ok=True)
        write_text(page, shell(title, body, nav=nav, css=f"{up}lessons.css"))
        if source.parent == docs:
            made.append((page, title))
    shutil.copytree(docs / "figures", out / "figures", dirs_exist_ok=True)
    return made


def _lesson_link(found: re.Match[str]) -> str:
    name, anchor = found[1].removeprefix("docs/"), found[2] or ""
    return f'href="../docs/{name}.html{anchor}"' if "docs/" in found[0] else 'href="../index.html"'
