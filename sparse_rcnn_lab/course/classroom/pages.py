"""The common parts of the classroom's html pages: no network needed, a light and a dark look.

Students' text is shown as text: no tag, script or external image gets into a page.
"""

from __future__ import annotations

import functools
import html
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup
from nbconvert.filters import strip_ansi
from nbconvert.filters.markdown_mistune import (
    IPythonRenderer,
    MarkdownWithMath,
    MathBlockParser,
    MathInlineParser,
)
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from sparse_rcnn_lab.detect.files import write_text

TEMPLATES = Path(__file__).with_name("templates")
_LONGEST = 2000  # characters of a formula: without its end, a search reads no more than these


def write_page(path: Path, template: str, **values: Any) -> None:
    """Fills in a template of this room and writes it."""
    write_text(path, _templates().get_template(template).render(values))


@functools.cache
def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(
        code=code, number="{:g}".format, inline=lambda text: markdown(text, block=False)
    )
    environment.globals["styles"] = _styles
    return environment


def _styles() -> Markup:
    css = (TEMPLATES / "classroom.css").read_text(encoding="utf-8")
    light = HtmlFormatter(style="default").get_style_defs(".code")
    dark = HtmlFormatter(style="github-dark").get_style_defs(".code")
    dark = re.sub(r"background(-color)?: #\w+;?", "", dark)
    light = re.sub(r"^\.code \{.*\}$", "", light, flags=re.M)
    css += f"\n{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}"
    return Markup(re.sub(r" */\*.*?\*/", "", css))


def code(text: str) -> Markup:
    """Python as html, in colours."""
    return Markup(highlight(text, PythonLexer(), HtmlFormatter(cssclass="code")))


class _Renderer(IPythonRenderer):
    """nbconvert's renderer, without external images, and with formulas as MathML."""

    def image(self, text: str, url: str, title: str | None = None) -> str:
        return ""

    def block_math(self, body: str) -> str:
        return _formula(body, "block")

    def inline_math(self, body: str) -> str:
        return _formula(body, "inline")


def markdown(text: str, ours: bool = False, block: bool = True) -> Markup:
    """Markdown as html, its formulas as MathML. ours: its html tags are kept."""
    renderer = _Renderer(not ours, allow_harmful_protocols=False, exclude_anchor_links=True)
    parsers: list[Any] = [MathBlockParser(), MathInlineParser(hard_wrap=False)]
    for parser in parsers:
        for name, rule in parser.specification.items():
            if "math" in name or "latex" in name:
                parser.specification[name] = rule.replace(".*?", f".{{0,{_LONGEST}}}?")
    shown = MarkdownWithMath(renderer, *parsers).render(text).strip()
    return Markup(shown if block else shown.removeprefix("<p>").removesuffix("</p>"))


def _formula(latex: str, display: str) -> str:
    from latex2mathml.converter import convert_to_element

    try:
        formula = convert_to_element(latex.strip(), display=display)
        # Its own ``convert`` lets tags through, as in \text{<img/src=x>}.
        for part in formula.iter():
            part.text = html.unescape(part.text or "")
            for name in ("href", "style", "class"):  # these may lead to other addresses
                part.attrib.pop(name, None)
        return ElementTree.tostring(formula, encoding="unicode")
    except Exception:  # a student's LaTeX may be anything
        return f"<code>{html.escape(latex)}</code>"


def figures_of(cells: Any) -> list[str]:
    """The figures that cells have drawn, as data URIs."""
    return [block["image"] for cell in cells for block in outputs_of(cell) if block.get("image")]


def outputs_of(cell: Any) -> list[dict[str, str]]:
    """The outputs of a cell: dictionaries with ``text``, ``image`` or ``error``."""
    found: list[dict[str, str]] = []
    for output in cell.get("outputs") or ():
        data = output.get("data", {})
        if output.get("output_type") == "error":
            found.append({"error": said(output)})
        elif png := "".join(data.get("image/png", "")):
            found.append({"image": "data:image/png;base64," + re.sub(r"[^\w+/=]", "", png)})
        else:
            text = strip_ansi("".join(output.get("text", "") or data.get("text/plain", "")))
            # What one cell prints may arrive in several parts.
            if found and "text" in found[-1]:
                found[-1]["text"] += text
            elif text.strip():
                found.append({"text": text})
    return found


def said(error: Any) -> str:
    """The message of an error and the line of the notebook it comes from, without a traceback."""
    name, value = error["ename"], strip_ansi(str(error["evalue"])).strip()
    value = re.sub(r" \(\S+, line \d+\)$", "", value)  # a SyntaxError names a file of its own
    if name in ("NotYet", "NotRun"):
        return value
    text = f"{name}: {value}" if value else str(name)
    trace = strip_ansi("\n".join(error.get("traceback", ())))
    frames = re.split(r"^(?=Cell In|File )", trace, flags=re.M)
    lines = [frame for frame in frames if frame.startswith("Cell In")]
    if lines and (arrow := re.findall(r"^-+> *(\d+) (.*)$", lines[-1], re.M)):
        text += f"\nin line {arrow[-1][0]}: {arrow[-1][1].strip()}"
    elif found := re.search(r"line (\d+)\n +(.*)\n", trace):  # of a SyntaxError
        text += f"\nin line {found[1]}: {found[2].strip()}"
    return text
