"""The charts of the lessons: small plotly charts, and figures with sliders or lists.

Sliders need a kernel; a page without one shows the first figure alone, and a line says so.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from itertools import cycle
from typing import TYPE_CHECKING, Any

from sparse_rcnn_lab.views import style
from sparse_rcnn_lab.views.figures.canvas import Page
from sparse_rcnn_lab.views.plotly_figures import page, plain
from sparse_rcnn_lab.views.static import is_static

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

NEEDS_KERNEL = "In a running notebook there are controls here; this page shows how they start."
_SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
Values = Sequence[float | None]
Show = Callable[..., Page]
Choice = tuple[str, Sequence[tuple[str, Any]], Any]


def lines(
    series: Mapping[str, Values], x: Sequence[Any], *, title: str, across: str, up: str,
    detail: str = "", top: float | None = None,
) -> Figure:  # fmt: skip
    """One line per series over ``x``; hover over it for its values.

    across, up: what the axes show, with units.  detail: a line below the title.  top: end of the
    vertical axis, which starts at 0; by default chosen by the values.

    >>> lines({"AP": [0.2, 0.6]}, [1, 6], title="AP", across="stage", up="AP").data[0].y
    (0.2, 0.6)
    """
    return _chart("lines", series, x, _SERIES, title, across, up, detail, top)


def stage_lines(
    by_stage: Sequence[Values], x: Sequence[Any], *, title: str, across: str, up: str,
    detail: str = "", top: float | None = None,
) -> Figure:  # fmt: skip
    """One line per stage, in the stage's colour; ``by_stage[s - 1]`` holds stage s over ``x``.

    >>> stage_lines([[0.1], [0.3]], [9], title="AP", across="step", up="AP").data[1].name
    'stage 2'
    """
    series = {f"stage {stage}": values for stage, values in enumerate(by_stage, 1)}
    colors = [style.stage_color(stage, len(series)) for stage in range(1, len(series) + 1)]
    figure = _chart("lines", series, x, colors, title, across, up, detail, top)
    return figure.update_traces(marker={"size": 7, "line": {"color": style.DARK, "width": 0.6}})


def bars(
    series: Mapping[str, Values], x: Sequence[Any], *, title: str, across: str, up: str,
    detail: str = "", top: float | None = None,
) -> Figure:  # fmt: skip
    """Bars side by side, one colour per series; see :func:`lines`.

    >>> bars({"loss": [3, 2]}, ["cls", "l1"], title="Loss", across="part", up="loss").data[0].y
    (3, 2)
    """
    return _chart("bars", series, x, _SERIES, title, across, up, detail, top)


def _chart(
    kind: str, series: Mapping[str, Values], x: Sequence[Any], colors: Sequence[str], title: str,
    across: str, up: str, detail: str, top: float | None,
) -> Figure:  # fmt: skip
    figure = page(plain(title), plain(detail), "light")
    for (name, values), color in zip(series.items(), cycle(colors)):
        shown = {"x": list(x), "y": list(values), "name": plain(name)}
        shown["hovertemplate"] = "%{x}: %{y:.3g}"
        if kind == "bars":
            figure.add_bar(**shown, marker={"color": color})
        else:
            figure.add_scatter(
                **shown, mode="lines+markers", cliponaxis=False,
                line={"color": color, "width": 2.5}, marker={"size": 8},
            )  # fmt: skip
    figure.update_layout(height=400, showlegend=len(series) > 1)
    figure.update_xaxes(title=across)
    limits = {"rangemode": "tozero"} if top is None else {"range": [0, top]}
    return figure.update_yaxes(title=up, **limits)


def surface(
    heights: Sequence[Values], x: Sequence[Any], y: Sequence[Any], *, title: str, across: str,
    deep: str, up: str,
) -> Figure:  # fmt: skip
    """A surface to rotate with the mouse; ``heights[j][i]`` is the value at ``x[i]``, ``y[j]``.

    >>> shown = surface([[1, 2]], [5, 10], [1], title="AP", across="N", deep="stage", up="AP")
    >>> shown.layout.scene.xaxis.title.text
    'N'
    """
    figure = page(plain(title), "", "light")
    figure.add_surface(
        z=[list(row) for row in heights], x=list(x), y=list(y), colorscale="Viridis",
        colorbar={"title": plain(up)},
        hovertemplate=f"{plain(across)} %{{x}}, {plain(deep)} %{{y}}: %{{z:.3f}}<extra></extra>",
    )  # fmt: skip
    axes = {"xaxis": across, "yaxis": deep, "zaxis": up}
    # Far enough away that no number at the axes is cut off.
    camera = {"eye": {"x": -1.6, "y": -1.6, "z": 0.95}, "center": {"x": 0, "y": 0, "z": -0.12}}
    return figure.update_layout(
        height=520, margin={"l": 0, "r": 0, "t": 70, "b": 0},
        scene={name: {"title": plain(text)} for name, text in axes.items()}
        | {"camera": camera},
    )  # fmt: skip


def sliders(show: Show, **ranges: tuple[float, float, float]) -> Any:
    """Sliders above a figure: ``sliders(lambda n: figure(n), n=(1, 20, 5))``.

    ranges: (min, max, first) of each argument; whole numbers step by 1, others by a fiftieth of
    the range.  show: called with their values when a slider is released; returns a figure of
    :mod:`views.figures`.

    >>> import torch
    >>> from sparse_rcnn_lab.views.figures import cost_matrix
    >>> box = sliders(lambda n: cost_matrix(torch.ones(n, 1), ["a"]), n=(1, 9, 5))
    >>> box.children[0].children[0].value
    5
    """

    def control(name: str, low: float, high: float, first: float) -> Any:
        import ipywidgets

        whole = all(isinstance(value, int) for value in (low, high, first))
        kind = ipywidgets.IntSlider if whole else ipywidgets.FloatSlider
        return kind(
            value=first, min=low, max=high, step=1 if whole else (high - low) / 50,
            description=name.replace("_", " "), continuous_update=False,
            style={"description_width": "initial"}, layout={"width": "420px"},
        )  # fmt: skip

    first = {name: values[-1] for name, values in ranges.items()}
    return _with_controls(show, first, lambda: {n: control(n, *v) for n, v in ranges.items()})


def panel(show: Show, choices: Mapping[str, Choice]) -> Any:
    """Drop-down lists above a figure; ``choices``: argument -> (label, (text, value)..., first)."""

    def control(label: str, options: Sequence[tuple[str, Any]], first: Any) -> Any:
        import ipywidgets

        return ipywidgets.Dropdown(
            options=list(options), value=first, description=label,
            style={"description_width": "initial"}, layout={"width": "170px"},
        )  # fmt: skip

    first = {name: values[-1] for name, values in choices.items()}
    return _with_controls(show, first, lambda: {n: control(*v) for n, v in choices.items()})


def _with_controls(show: Show, first: Mapping[str, Any], make: Callable[[], dict[str, Any]]) -> Any:
    if is_static():
        return _Still(show(**first))
    if find_spec("ipywidgets") is None:
        return show(**first)
    import ipywidgets

    # An image rather than an Output, so that nothing jumps and no browser is needed. It is lower
    # than the window, so that the controls stay in view.
    fit = {"max_height": "75vh", "object_fit": "contain", "object_position": "left top"}
    image = ipywidgets.Image(format="png", layout={"max_width": "100%"} | fit)
    controls = make()

    def redraw(_: Any = None) -> None:
        file = io.BytesIO()
        show(**{name: control.value for name, control in controls.items()}).savefig(
            file, format="png"
        )
        image.value = file.getvalue()

    for control in controls.values():
        control.observe(redraw, "value")
    redraw()
    row = ipywidgets.HBox(list(controls.values()), layout={"flex_flow": "row wrap"})
    return ipywidgets.VBox([row, image])


class _Still:
    """A figure with a line that says what a kernel would add."""

    def __init__(self, figure: Page) -> None:
        self.figure = figure

    def _ipython_display_(self) -> None:
        from IPython.display import Markdown, display

        display(Markdown(f"*{NEEDS_KERNEL}*"))
        display(self.figure)
