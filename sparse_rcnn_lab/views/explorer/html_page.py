"""The forms of the explorer's page: one file that opens anywhere, without a kernel, server or
network; an ``<iframe>``; the notebook's widget.
"""

from __future__ import annotations

import html
import json
from functools import cache
from pathlib import Path
from string import Template
from typing import Any

from sparse_rcnn_lab.views.bundle import joined

# What the kernel and the page share, and each may set.
CHOICES = {
    "show": ("all", "detections", "one"),
    "color": ("class", "score", "match", "proposal", "stage"),
    "tab": ("attention", "roi", "filters", "similarity"),
}
SHARED = ("stage", "chosen", "threshold", *CHOICES)

HERE = Path(__file__).parent

# In this order each file uses only what is before it.
MODULES = (
    "data", "store", "motion", "dom", "colors", "labels", "marks", "picture", "scatter",
    "proposal", "crops", "among", "tabs", "controls", "status", "theme", "pointer", "keyboard",
    "link", "changes", "drag", "outcome", "editing", "tour", "explorer",
)  # fmt: skip

# The text of a page in place of the controls that need a kernel.
NEEDS_KERNEL = (
    "This page is a recording. To drag boxes, switch attention off and see what follows, open the "
    'image in a notebook: srl.explore("photo.jpg").'
)


@cache
def script() -> str:
    """The ECMAScript module of the explorer: the files of ``js/`` in the order of ``MODULES``."""
    return joined([HERE / "js" / f"{name}.js" for name in MODULES])


@cache
def css() -> str:
    """The explorer's style sheet."""
    return (HERE / "explorer.css").read_text(encoding="utf-8")


def embedded(values: Any) -> str:
    """Values as JSON inside a page, which a class named "</script>" must not end."""
    return json.dumps(values, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def page(
    payload: dict[str, Any],
    options: dict[str, Any],
    edited: dict[str, Any] | None,
    intervention: dict[str, Any],
) -> str:
    """One HTML page with everything in it.

    payload: see :func:`payload.payload`.  options: what is shown at first (``stage``, ``chosen``,
    ``threshold``, ``show``, ``color``, ``tab``, ``theme``, ``fly``).  intervention, edited: what
    was changed and its result, to be compared.
    """
    values = {
        "payload": payload,
        "options": {"needs": NEEDS_KERNEL, **options},
        "edited": edited,
        "answer": {"intervention": intervention},
    }
    title = html.escape(f"{payload['model']}: proposals through the stages")
    shell = Template((HERE / "page.html").read_text(encoding="utf-8"))
    return shell.substitute(title=title, css=css(), data=embedded(values), script=script())


def iframe(text: str, height: int = 900) -> str:
    """A page as an ``<iframe>`` that is isolated from the page around it (nbconvert, Gradio)."""
    return (
        f'<iframe srcdoc="{html.escape(text)}" sandbox="allow-scripts" '
        f'style="width:100%;height:{height}px;border:0" title="explorer"></iframe>'
    )


@cache
def widget_class() -> type[Any]:
    """The anywidget class, created at first use so that importing needs no notebook extra.

    Traits that the page and the kernel share: ``payload`` and ``edited`` (payload.py), ``answer``
    (the result of the last change), ``options`` (how it starts), and those in ``SHARED``.
    """
    import anywidget
    import traitlets

    class ExplorerWidget(anywidget.AnyWidget):
        _esm = script()
        _css = css()
        payload = traitlets.Dict().tag(sync=True)
        edited = traitlets.Dict(None, allow_none=True).tag(sync=True)
        answer = traitlets.Dict().tag(sync=True)
        options = traitlets.Dict().tag(sync=True)
        stage = traitlets.Int(0).tag(sync=True)
        chosen = traitlets.Int(None, allow_none=True).tag(sync=True)
        threshold = traitlets.Float(0.3).tag(sync=True)
        # The page could not show any other value.
        show = traitlets.Enum(CHOICES["show"], "all").tag(sync=True)
        color = traitlets.Enum(CHOICES["color"], "class").tag(sync=True)
        tab = traitlets.Enum(CHOICES["tab"], "attention").tag(sync=True)

        def __repr__(self) -> str:
            """The text where no widget is shown, as on a site that shows notebooks."""
            return "The explorer: run this cell to see it."

    return ExplorerWidget
