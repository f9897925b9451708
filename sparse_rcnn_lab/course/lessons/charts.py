"""Small plotly charts of the lessons: lines and bars, in the colours of the project."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sparse_rcnn_lab.views import style
from sparse_rcnn_lab.views.plotly_figures import page, plain

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
Values = Sequence[float | None]


def lines(
    series: Mapping[str, Values],
    x: Sequence[Any],
    *,
    title: str,
    across: str,
    up: str,
    detail: str = "",
    top: float | None = None,
) -> Figure:
    """One line a series over ``x``; point at it for its values.

    across, up: what the axes show, with units.  detail: a line below the title.  top: end of the
    upward axis, which starts at 0; default what the values need.
    """
    figure = page(plain(title), plain(detail), "light")
    for i, (name, values) in enumerate(series.items()):
        figure.add_scatter(
            x=list(x), y=list(values), name=plain(name), mode="lines+markers",
            line={"color": _SERIES[i % len(_SERIES)], "width": 2.5}, marker={"size": 8},
            hovertemplate="%{x}: %{y:.3g}", cliponaxis=False,
        )  # fmt: skip
    return _finish(figure, across, up, top, len(series))


def bars(
    series: Mapping[str, Values],
    x: Sequence[Any],
    *,
    title: str,
    across: str,
    up: str,
    detail: str = "",
    top: float | None = None,
) -> Figure:
    """Bars side by side, one colour a series; see :func:`lines`."""
    figure = page(plain(title), plain(detail), "light")
    for i, (name, values) in enumerate(series.items()):
        figure.add_bar(
            x=list(x), y=list(values), name=plain(name),
            marker={"color": _SERIES[i % len(_SERIES)]}, hovertemplate="%{x}: %{y:.3g}",
        )  # fmt: skip
    return _finish(figure, across, up, top, len(series))


def stage_lines(
    by_stage: Sequence[Values], x: Sequence[Any], *, title: str, across: str, up: str,
    detail: str = "", top: float | None = None,
) -> Figure:  # fmt: skip
    """One line a stage, in the stage's colour; ``by_stage[s - 1]`` holds stage s over ``x``."""
    figure = page(plain(title), plain(detail), "light")
    for stage, values in enumerate(by_stage, 1):
        figure.add_scatter(
            x=list(x), y=list(values), name=f"stage {stage}", mode="lines+markers",
            line={"color": style.stage_color(stage, len(by_stage)), "width": 2.5},
            marker={"size": 7, "line": {"color": style.DARK, "width": 0.6}},
            hovertemplate="%{x}: %{y:.3g}", cliponaxis=False,
        )  # fmt: skip
    return _finish(figure, across, up, top, len(by_stage))


def surface(
    heights: Sequence[Values],
    x: Sequence[Any],
    y: Sequence[Any],
    *,
    title: str,
    across: str,
    deep: str,
    up: str,
) -> Figure:
    """A surface to turn with the mouse; ``heights[j][i]`` is the value at ``x[i]``, ``y[j]``."""
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


def _finish(figure: Figure, across: str, up: str, top: float | None, count: int) -> Figure:
    figure.update_layout(height=400, showlegend=count > 1)
    figure.update_xaxes(title=across)
    figure.update_yaxes(title=up, range=None if top is None else [0, top])
    if top is None:
        figure.update_yaxes(rangemode="tozero")
    return figure
