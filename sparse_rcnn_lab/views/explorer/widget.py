"""The explorer's widget: the link between the page in the browser and the kernel."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from sparse_rcnn_lab.views.explorer.page import css, script

Message = dict[str, Any]


@cache
def widget_class() -> type[Any]:
    """The anywidget class. Made at first use: importing this package needs no notebook extra.

    Traits that the page and the kernel share: ``payload`` and ``edited`` (payload.py), ``answer``
    (what became of the last change), ``options`` (how it starts), and what is shown: ``stage``,
    ``chosen``, ``threshold``, ``show``, ``color``, ``tab``.
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
        show = traitlets.Unicode("all").tag(sync=True)
        color = traitlets.Unicode("class").tag(sync=True)
        tab = traitlets.Unicode("attention").tag(sync=True)

        def __repr__(self) -> str:
            """What is read where no widget is shown, as on a site that shows notebooks."""
            return "The explorer: run this cell to see it."

    return ExplorerWidget


def make_widget(
    payload: Message, options: Message, answer: Message, receive: Callable[[Message], None]
) -> Any:
    """A widget that shows ``payload``; ``receive`` is called with each message of the page."""
    shared = {name: options[name] for name in SHARED if options.get(name) is not None}
    widget = widget_class()(payload=payload, edited=None, options=options, answer=answer, **shared)
    widget.on_msg(lambda _, content, __: receive(content))
    return widget


SHARED = ("stage", "chosen", "threshold", "show", "color", "tab")
