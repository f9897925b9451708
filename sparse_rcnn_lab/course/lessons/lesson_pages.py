"""The lessons as pages with outputs, which open from disk without a kernel or a network."""

from __future__ import annotations

import html
import json
import os
import re
from pathlib import Path
from typing import Any

from sparse_rcnn_lab.course.lessons.lesson_setup import DATA
from sparse_rcnn_lab.course.lessons.notebook_files import execute, lesson_scripts
from sparse_rcnn_lab.detect.files import write_text

_FRAME = re.compile(r'(<iframe[^>]*?\ssrcdoc="([^"]*)")')
_LESSON_LINK = re.compile(r'href="(\d\d_\w+)\.ipynb"')
_PLOTLY = "application/vnd.plotly.v1+json"
_WIDGET = "application/vnd.jupyter.widget-view+json"


def make_gallery(folder: Path, out: Path, *, fast: bool = False) -> list[Path]:
    """Runs every lesson of ``folder`` and writes its page to ``out``, with a page of contents.

    Explorers are in their lesson's page and in pages of their own. fast: on toy amounts.
    Returns the pages. Raises LabError where a lesson fails.
    """
    import plotly.offline
    from pygments.formatters import HtmlFormatter

    out.mkdir(parents=True, exist_ok=True)
    scripts = lesson_scripts(folder)
    write_text(out / "plotly.js", plotly.offline.get_plotlyjs())
    css = (DATA / "page.css").read_text(encoding="utf-8")
    css += HtmlFormatter(style="default").get_style_defs(".highlight")
    write_text(out / "lessons.css", css)
    pages, entries = [], []
    for index, script in enumerate(scripts):
        notebook, seconds = execute(script, fast=fast, static=True)
        title, aim = _headline(notebook)
        body = _body(notebook)
        frames = _FRAME.findall(body)
        for number, (frame, text) in enumerate(frames, 1):
            alone = out / f"{script.stem}_explorer_{number}.html"
            write_text(alone, html.unescape(text))
            pages.append(alone)
            link = f'<p class="alone"><a href="{alone.name}">This explorer alone</a></p>\n'
            body = body.replace(frame, link + frame, 1)
        body = _LESSON_LINK.sub(r'href="\1.html"', body)
        body = body.replace('href="../', f'href="{_way_to(folder.parent, out)}/')
        nav = _nav(scripts, index)
        head = '<script src="plotly.js"></script>\n' if "Plotly.newPlot" in body else ""
        page = out / f"{script.stem}.html"
        write_text(page, shell(title, body, nav=nav, head=head))
        pages.append(page)
        entries.append(entry(page.name, title, aim))
        print(f"{page.name}: {seconds:.0f} s", flush=True)
    contents = f"<h1>Sparse R-CNN, to touch</h1>\n<ul>\n{''.join(entries)}\n</ul>"
    index_page = out / "index.html"
    write_text(index_page, shell("Sparse R-CNN: lessons", contents, nav="<b>Lessons</b>"))
    return [index_page, *pages]


def entry(address: str, name: str, about: str) -> str:
    """A line of a page of contents."""
    return f'<li><a href="{address}">{html.escape(name)}</a><br>{html.escape(about)}</li>\n'


def shell(title: str, body: str, *, nav: str = "", head: str = "", css: str = "lessons.css") -> str:
    """A page in the lessons' style."""
    page = (DATA / "page.html").read_text(encoding="utf-8")
    return page.format(title=html.escape(title), body=body, nav=nav, head=head, css=css)


def _way_to(folder: Path, start: Path) -> str:
    """The ``href`` of a folder for a page in ``start``, with slashes on every system."""
    try:
        return Path(os.path.relpath(folder, start)).as_posix()
    except ValueError:  # on another drive
        return folder.resolve().as_uri()


def _body(notebook: Any) -> str:
    from nbconvert import HTMLExporter

    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = with_mathml(cell.source)
            continue
        # Drops what no longer has a kernel: finished progress bars.
        outputs = cell.get("outputs", [])
        cell.outputs = [one for one in outputs if _WIDGET not in one.get("data", {})]
        for output in cell.outputs:
            data = output.get("data", {})
            if _PLOTLY in data:
                figure = data.pop(_PLOTLY)
                data.clear()
                data["text/html"] = _plotly_html(figure)
    notebook.metadata.pop("widgets", None)
    exporter = HTMLExporter(template_name="basic")
    body, _ = exporter.from_notebook_node(notebook)
    return body


def _plotly_html(figure: dict[str, Any]) -> str:
    import plotly.io

    text = json.dumps({"data": figure["data"], "layout": figure["layout"]})
    shown = plotly.io.from_json(text, skip_invalid=True)
    if figure.get("frames"):
        shown.frames = [plotly.graph_objects.Frame(frame) for frame in figure["frames"]]
    return plotly.io.to_html(shown, full_html=False, include_plotlyjs=False, auto_play=False)


_MATH = re.compile(r"(```.*?```|`[^`\n]*`)|\$\$(.+?)\$\$|\$([^$\n]+?)\$", re.S)


def with_mathml(text: str) -> str:
    """Markdown with its LaTeX formulas as MathML, which browsers display; code stays as it is."""
    import latex2mathml.converter

    def formula(found: re.Match[str]) -> str:
        if found[1]:
            return found[1]
        display = "block" if found[2] else "inline"
        latex = found[2] or found[3]
        return latex2mathml.converter.convert(latex.strip(), display=display).replace("\n", "")

    return _MATH.sub(formula, text)


def _headline(notebook: Any) -> tuple[str, str]:
    """The title and the first sentence of a lesson."""
    lines = [line for line in notebook.cells[0].source.splitlines() if line.strip()]
    text = " ".join(lines[1:])
    plain = re.sub(r"[*`]|\[([^\]]*)\]\([^)]*\)", r"\1", text)
    return lines[0].lstrip("# "), plain.split(". ")[0].rstrip(".") + "."


def _nav(scripts: list[Path], index: int) -> str:
    links = ['<a href="index.html">All lessons</a>']
    if index:
        links.append(f'<a href="{scripts[index - 1].stem}.html">← {_name(scripts[index - 1])}</a>')
    if index + 1 < len(scripts):
        links.append(f'<a href="{scripts[index + 1].stem}.html">{_name(scripts[index + 1])} →</a>')
    return "\n".join(links)


def _name(script: Path) -> str:
    return script.stem.replace("_", " ")
