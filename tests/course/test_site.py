"""The web site: a static folder whose links lead somewhere, from disk and below any address."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sparse_rcnn_lab.course.lessons import site_pages

pytest.importorskip("nbconvert", reason="needs the notebooks extra")

ROOT = Path(__file__).resolve().parents[2]
LESSON = '<a href="../../x/docs/models.md#the-shipped-models">m</a> <a href="../../README.md">r</a>'


def links(page):
    for address in re.findall(r'(?:href|src)="([^"]+)"', page.read_text(encoding="utf-8")):
        if not re.match(r"\w+:", address):
            yield address


def leads(page, address, root):
    name, _, heading = address.partition("#")
    file = (page.parent / name).resolve() if name else page
    if not file.is_file() or root not in file.parents:
        return False
    return not heading or f'id="{heading}"' in file.read_text(encoding="utf-8")


def test_every_link_of_the_site_leads_somewhere(tmp_path, monkeypatch):
    """Catches a page that links into the repository, which nobody has who reads it on the web."""

    def gallery(folder, out, *, fast):
        out.mkdir(parents=True)
        (out / "lessons.css").write_text("main {}")
        (out / "index.html").write_text(LESSON)
        return [out / "index.html"]

    def playground(detector, path):
        path.parent.mkdir(exist_ok=True)
        path.write_text("a page")
        return path

    monkeypatch.setattr(site_pages, "make_gallery", gallery)
    monkeypatch.setattr(site_pages, "playground", playground)
    first = site_pages.make_site(ROOT / "notebooks", tmp_path, models=["nano-shapes"])
    (tmp_path / "api").mkdir()
    (tmp_path / "api" / "sparse_rcnn_lab.html").write_text("made by pdoc")
    pages = [page for page in tmp_path.rglob("*.html") if page.parent.name != "api"]
    assert (
        first in pages
        and tmp_path / "docs" / "decisions" / "0002-pooling-is-one-gather.html" in pages
    )
    wrong = [
        f"{page.relative_to(tmp_path)}: {address}"
        for page in pages
        for address in links(page)
        if not leads(page, address, tmp_path)
    ]
    assert not wrong, "\n".join(wrong)
