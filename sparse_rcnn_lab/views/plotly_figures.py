"""The score curves in plotly, which show values on hover, and the layout of all plotly charts.

The other interactive views of a trace are in the explorer. Plotly is optional; without it a figure
raises a LabError that says how to install it. ``figure.write_html("page.html",
include_plotlyjs=True)`` makes a page that loads nothing from the network.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.trace import Trace
from sparse_rcnn_lab.views import style
from sparse_rcnn_lab.views.measures import describe, end_color, score_by_stage, select
from sparse_rcnn_lab.views.style import Theme

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["score_curves"]


def score_curves(
    trace: Trace,
    proposals: int | Sequence[int] | None = None,
    *,
    threshold: float = 0.3,
    chosen: int | None = None,
    theme: Theme = "light",
    title: str | None = None,
) -> Figure:
    """The best class score of each proposal at every stage; hover over a line for its proposal.

    proposals: ids to name; default: those that end with a score of ``threshold`` (at most 12).
    chosen: one to draw in the accent colour.  title: replaces the usual one.

    >>> import sparse_rcnn_lab as srl
    >>> trace = srl.load("nano-shapes").trace(srl.open_data("shapes", "val")[6])
    >>> [line.name for line in score_curves(trace, threshold=0.5).data][1]
    '6 · star .88'
    """
    shown = select(trace, proposals, threshold, chosen)
    scores, _ = score_by_stage(trace)
    figure = page(title or "Score by stage", shown.note, theme)
    stages = list(range(1, trace.num_stages + 1))
    others = [row for row in range(trace.num_proposals) if row not in shown.rows]
    figure.add_scatter(
        x=gaps([stages for _ in others]), y=gaps([numbers(scores[:, row]) for row in others]),
        mode="lines", line={"color": "#8b949e", "width": 1}, opacity=0.4, name="all others",
        text=gaps([[plain(describe(trace, int(trace.proposal_ids[row])))] * len(stages)
                   for row in others]),
        hovertemplate="proposal %{text}<br>stage %{x}: %{y:.2f}<extra></extra>",
    )  # fmt: skip
    for proposal, row, text in zip(shown.proposals, shown.rows, shown.texts, strict=True):
        color = end_color(trace, proposal, chosen)
        figure.add_scatter(
            x=stages, y=numbers(scores[:, row]), mode="lines+markers",
            name=plain(text), line={"color": color, "width": 2.5},
            marker={"size": 8, "line": {"color": style.DARK, "width": 1}},
            hovertemplate="stage %{x}: %{y:.2f}",
        )  # fmt: skip
    figure.add_hline(y=threshold, line={"color": "#8b949e", "width": 1, "dash": "dash"})
    figure.update_xaxes(title="stage", dtick=max(1, trace.num_stages // 10))
    return figure.update_yaxes(title="best class score (0 to 1)", range=[-0.02, 1.02])


def go() -> Any:
    """``plotly.graph_objects``. Raises LabError, saying how to install it, where it is missing."""
    try:
        import plotly.graph_objects
    except ImportError:
        raise LabError(
            'Plotly is not installed. Install it with pip install "sparse-rcnn-lab[notebooks]", or '
            "use sparse_rcnn_lab.views.figures, which needs only matplotlib."
        ) from None
    return plotly.graph_objects


def page(title: str, detail: str, theme: Theme) -> Figure:
    """An empty figure in one of the two themes, with a title and a line of details."""
    paper, ink, _, line = style.paper(theme)
    figure = go().Figure()
    small = f"<br><sup>{detail}</sup>" if detail else ""
    figure.update_layout(
        title={"text": f"<b>{title}</b>{small}", "x": 0.02, "font": {"size": 18}},
        paper_bgcolor=paper, plot_bgcolor=paper, font={"color": ink}, height=460,
        margin={"l": 60, "r": 20, "t": 80, "b": 55}, hoverlabel={"font": {"size": 13}},
    )  # fmt: skip
    axis = {"gridcolor": line, "zeroline": False, "linecolor": line}
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)
    return figure


def gaps(lines: Iterable[Sequence[Any]]) -> list[Any]:
    """Several lines joined into one, with None between them."""
    joined: list[Any] = []
    for line in lines:
        joined += [*([None] if joined else []), *line]
    return joined


def numbers(values: Tensor) -> list[float | None]:
    """``[K]`` as a list for JSON, in which numbers that are not finite become None."""
    return [value if math.isfinite(value) else None for value in values.tolist()]


def plain(text: str) -> str:
    """Text that plotly shows exactly as given, whatever a class is called."""
    return html.escape(text, quote=False).replace("$", "&#36;")
