"""A deck of slides from a percent script: one html file that needs no network and no kernel.

Each text cell begins a slide, which also shows the output of the code below it, but not the code.
Text after ``Note:`` is for the speaker.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sparse_rcnn_lab.course.classroom.pages import markdown, outputs_of, write_page
from sparse_rcnn_lab.course.lessons.notebook_files import execute


def make_slides(script: Path, out: Path, *, fast: bool = False) -> int:
    """Runs ``script``, writes its slides to ``out`` and returns their number. fast: on toy amounts.

    Raises LabError where one of its cells fails.
    """
    notebook, _ = execute(script, fast=fast, static=True)
    slides: list[dict[str, Any]] = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            text, _, note = cell.source.partition("\n\nNote: ")
            slides.append({"html": markdown(text, ours=True), "note": note, "shown": []})
        else:
            slides[-1]["shown"] += [out for out in outputs_of(cell) if out.get("image")]
    write_page(out, "slides.html.j2", slides=slides)
    return len(slides)
