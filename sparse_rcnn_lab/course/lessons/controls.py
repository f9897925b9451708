"""Controls that need the kernel, and what stands in their place where there is none."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from sparse_rcnn_lab.views.figures.canvas import Page
from sparse_rcnn_lab.views.static import is_static

NEEDS_KERNEL = "In a running notebook there are controls here; this page shows how they start."
Show = Callable[..., Page]
Choice = tuple[str, Sequence[tuple[str, Any]], Any]


def dial(show: Show, **ranges: tuple[float, float, float]) -> Any:
    """Sliders over a picture: ``dial(lambda n: figure(n), n=(1, 20, 5))``.

    ranges: (least, most, first) of each argument; whole numbers step by 1, others by a fiftieth of
    the way.  show: is called with their values and gives a figure of :mod:`views.figures`. It runs
    when a slider is let go. In a page without a kernel the first picture stands alone.
    """
    if not _has_widgets():
        return _still(show(**{name: first for name, (_, _, first) in ranges.items()}))
    import ipywidgets

    sliders = {}
    for name, (low, high, first) in ranges.items():
        whole = all(isinstance(value, int) for value in (low, high, first))
        kind = ipywidgets.IntSlider if whole else ipywidgets.FloatSlider
        sliders[name] = kind(
            value=first, min=low, max=high, step=1 if whole else (high - low) / 50,
            description=name.replace("_", " "), continuous_update=False,
            style={"description_width": "initial"}, layout={"width": "420px"},
        )  # fmt: skip
    return _joined(show, sliders)


def panel(show: Show, choices: Mapping[str, Choice]) -> Any:
    """Drop-down lists over a picture; ``choices``: argument -> (label, (text, value)..., first)."""
    if not _has_widgets():
        return _still(show(**{name: first for name, (_, _, first) in choices.items()}))
    import ipywidgets

    lists = {
        name: ipywidgets.Dropdown(
            options=list(options), value=first, description=label,
            style={"description_width": "initial"}, layout={"width": "170px"},
        )
        for name, (label, options, first) in choices.items()
    }  # fmt: skip
    return _joined(show, lists)


def _joined(show: Show, controls: dict[str, Any]) -> Any:
    import ipywidgets

    # An image rather than an Output: nothing jumps when it changes, and it runs without a browser.
    # No taller than most of the window: the controls stay in sight of what they change.
    fit = {"max_height": "75vh", "object_fit": "contain", "object_position": "left top"}
    image = ipywidgets.Image(format="png", layout={"max_width": "100%"} | fit)

    def redraw(_: Any = None) -> None:
        image.value = _png(show(**{name: control.value for name, control in controls.items()}))

    for control in controls.values():
        control.observe(redraw, "value")
    redraw()
    row = ipywidgets.HBox(list(controls.values()), layout={"flex_flow": "row wrap"})
    return ipywidgets.VBox([row, image])


def _png(page: Page) -> bytes:
    file = io.BytesIO()
    page.savefig(file, format="png")
    return file.getvalue()


class _Still:
    """A picture with a line that says what a kernel would add."""

    def __init__(self, picture: Any) -> None:
        self.picture = picture

    def _ipython_display_(self) -> None:
        from IPython.display import Markdown, display

        display(Markdown(f"*{NEEDS_KERNEL}*"))
        display(self.picture)


def _still(picture: Any) -> Any:
    return _Still(picture) if is_static() else picture


def _has_widgets() -> bool:
    return not is_static() and find_spec("ipywidgets") is not None
