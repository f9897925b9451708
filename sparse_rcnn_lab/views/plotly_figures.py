"""Plotly figures of a trace, for the browser: the values are there to be pointed at.

The same figures and arguments as in :mod:`sparse_rcnn_lab.views.figures`. Plotly is optional; a
figure without it raises LabError saying how to install it. Nothing is loaded from the network by
``figure.write_html("page.html", include_plotlyjs=True)``.
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
from sparse_rcnn_lab.views.draw import as_image, data_uri, display_size, encoded
from sparse_rcnn_lab.views.feature_similarity import FeaturePlane, compared
from sparse_rcnn_lab.views.measures import (
    attention_links,
    best,
    broken_note,
    centres,
    describe,
    end_color,
    head_name,
    score_by_stage,
    select,
)
from sparse_rcnn_lab.views.style import Theme

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

__all__ = ["attention_map", "feature_pca", "score_curves", "similarity", "stage_slider"]

BALANCE = [[0.5 * place, color] for place, color in enumerate(style.BALANCE_COLORS)]
_LONG_SIDE = 1200  # pixels of the embedded image
_WIDEST, _TALLEST = 0.25, 2.0  # height / width; thinner images are stretched to be seen at all


def score_curves(
    trace: Trace,
    proposals: int | Sequence[int] | None = None,
    *,
    threshold: float = 0.3,
    chosen: int | None = None,
    theme: Theme = "light",
    title: str | None = None,
) -> Figure:
    """The best class score of each proposal at every stage; point at a line for its proposal.

    proposals: ids to name; default those that end with a score of ``threshold`` (at most 12).
    chosen: one to draw in the accent colour.  title: in place of the usual one.

    >>> import sparse_rcnn_lab as srl
    >>> trace = srl.load("nano-shapes").trace(srl.open_data("shapes", "val")[6])
    >>> [line.name for line in score_curves(trace, threshold=0.5).data][1]
    '6 · star .88'
    """
    shown = select(trace, proposals, threshold)
    scores, _ = score_by_stage(trace)
    figure = page(title or "Score by stage", shown.note, theme)
    stages = list(range(1, trace.num_stages + 1))
    named = [trace.row(proposal) for proposal in shown.proposals]
    others = [row for row in range(trace.num_proposals) if row not in named]
    figure.add_scatter(
        x=gaps([stages for _ in others]), y=gaps([numbers(scores[:, row]) for row in others]),
        mode="lines", line={"color": "#8b949e", "width": 1}, opacity=0.4, name="all others",
        text=gaps([[plain(describe(trace, int(trace.proposal_ids[row])))] * len(stages)
                   for row in others]),
        hovertemplate="proposal %{text}<br>stage %{x}: %{y:.2f}<extra></extra>",
    )  # fmt: skip
    for proposal, row in zip(shown.proposals, named, strict=True):
        color = end_color(trace, proposal, chosen)
        figure.add_scatter(
            x=stages, y=numbers(scores[:, row]), mode="lines+markers",
            name=plain(describe(trace, proposal)), line={"color": color, "width": 2.5},
            marker={"size": 8, "line": {"color": style.DARK, "width": 1}},
            hovertemplate="stage %{x}: %{y:.2f}",
        )  # fmt: skip
    figure.add_hline(y=threshold, line={"color": "#8b949e", "width": 1, "dash": "dash"})
    figure.update_xaxes(title="stage", dtick=max(1, trace.num_stages // 10))
    return figure.update_yaxes(title="best class score (0 to 1)", range=[-0.02, 1.02])


def feature_pca(
    trace: Trace,
    proposals: int | Sequence[int] | None = None,
    *,
    threshold: float = 0.3,
    chosen: int | None = None,
    theme: Theme = "light",
    title: str | None = None,
) -> Figure:
    """All proposal features at all states on their two axes of largest variance, with paths.

    proposals: ids to draw a way for; default those that end with a score of ``threshold`` (at
    most 12).  chosen: one to draw in the accent colour.  title: in place of the usual one.

    >>> import sparse_rcnn_lab as srl
    >>> trace = srl.load("nano-shapes").trace(srl.open_data("shapes", "val")[6])
    >>> [line.name for line in feature_pca(trace).data][:3]
    ['learned', 'stage 1', 'stage 2']
    """
    shown = select(trace, proposals, threshold)
    plane = FeaturePlane.fit(trace.features)
    places = plane.place(trace.features)
    note = f"{trace.num_proposals} × {trace.num_stages + 1} features (proposals × states)"
    figure = page(
        title or "Proposal features through the stages (PCA)",
        " · ".join(filter(None, [note, broken_note(trace)])),
        theme,
    )
    ids = trace.proposal_ids.tolist()
    for stage, points in enumerate(places):
        figure.add_scatter(
            x=numbers(points[:, 0]), y=numbers(points[:, 1]), mode="markers", opacity=0.8,
            name=f"stage {stage}" if stage else "learned", legendgroup="stages",
            text=[plain(describe(trace, proposal, stage)) for proposal in ids],
            marker={"color": style.stage_color(stage, trace.num_stages), "size": 7,
                    "line": {"color": style.DARK, "width": 0.5}},
            hovertemplate="proposal %{text}",
        )  # fmt: skip
    for proposal in shown.proposals:
        way = places[:, trace.row(proposal)]
        figure.add_scatter(
            x=numbers(way[:, 0]), y=numbers(way[:, 1]), mode="lines",
            name=plain(describe(trace, proposal)), hoverinfo="skip",
            line={"color": end_color(trace, proposal, chosen), "width": 2.5},
        )  # fmt: skip
    first, second = (100 * plane.explained).tolist()
    figure.update_xaxes(title=f"axis 1 ({first:.0f} % of the variance)")
    return figure.update_yaxes(title=f"axis 2 ({second:.0f} % of the variance)")


def similarity(
    trace: Trace,
    proposal: int | None = None,
    *,
    stage: int | None = None,
    theme: Theme = "light",
    title: str | None = None,
) -> Figure:
    """Cosine similarity of features: of one proposal between states, else of all at a state.

    proposal: an id.  stage: state 0..S for all proposals, default the last; not both.
    title: in place of the usual one.

    >>> import sparse_rcnn_lab as srl
    >>> trace = srl.load("nano-shapes").trace(srl.open_data("shapes", "val")[6])
    >>> similarity(trace, proposal=3).data[0].x
    ('learned', '1', '2', '3', '4', '5', '6')
    """
    found = compared(trace, proposal, stage)
    note = " · ".join(filter(None, ["cosine similarity", broken_note(trace)]))
    figure = page(title or plain(found.title), note, theme, square=True)
    figure.add_heatmap(
        z=[numbers(line) for line in found.values], x=found.names, y=found.names, zmin=-1, zmax=1,
        colorscale=BALANCE, colorbar={"title": "cosine"},
        hovertemplate=f"{found.what} %{{y}} and %{{x}}: %{{z:.2f}}<extra></extra>",
    )  # fmt: skip
    axis = {"title": found.what, "type": "category", "constrain": "domain"}
    figure.update_xaxes(**axis)
    return figure.update_yaxes(**axis, autorange="reversed", scaleanchor="x")


def attention_map(
    trace: Trace,
    proposal: int | None = None,
    stage: int | None = None,
    *,
    top: int = 8,
    head: int | None = None,
    theme: Theme = "light",
    title: str | None = None,
) -> Figure:
    """Whom a proposal looks at in a stage, strongest first, as lines on the image.

    proposal: its id; default the one with the best final score.  stage: 1..S, default the last.
    top: how many others.  head: one head in place of the mean.  title: in place of the usual one.
    Raises LabError when attention is not recorded.

    >>> import sparse_rcnn_lab as srl
    >>> trace = srl.load("nano-shapes").trace(srl.open_data("shapes", "val")[6])
    >>> attention_map(trace, stage=2, top=3).layout.title.text[:33]
    '<b>Proposal 6 · star .88 looks at'
    """
    proposal = best(trace) if proposal is None else proposal
    stage = trace.check_stage(stage)
    links = attention_links(trace, proposal, stage, top, head)
    figure = page_of_image(
        trace,
        title or f"Proposal {plain(describe(trace, proposal))} looks at …",
        f"self-attention of stage {stage} · {head_name(head)} · an even share would be "
        f"{100 / trace.num_proposals:.3g} %",
        theme,
    )
    boxes, at = trace.boxes[stage - 1], centres(trace)[stage - 1]
    own = trace.row(proposal)
    color = style.line_color(stage - 1, trace.num_stages)
    strongest = max([*links.weights.tolist(), 1e-6])
    for other, weight in zip(links.proposals.tolist(), links.weights.tolist(), strict=True):
        row, share = trace.row(other), weight / strongest
        x, y = box_lines(boxes[[row]])
        figure.add_traces(
            _edged(
                [*x, None, *numbers(at[[own, row], 0])], [*y, None, *numbers(at[[own, row], 1])],
                f"{other}: {100 * weight:.1f} %", color, style.score_opacity(share, 0.25),
                0.8 + 3 * share, "name",
            )
        )  # fmt: skip
    x, y = box_lines(boxes[[own]])
    figure.add_scatter(
        x=x, y=y, mode="lines", line={"color": style.ACCENT, "width": 3}, hoverinfo="name",
        name=f"{proposal}, itself: {100 * links.itself:.1f} %",
    )  # fmt: skip
    return figure


# Boxes are drawn in groups of like score: one line of plotly has one opacity.
_GROUPS = ((0.6, 1.01, "score of .60 and more"), (0.3, 0.6, ".30 to .60"),
           (0.1, 0.3, ".10 to .30"), (-1.0, 0.1, "below .10"))  # fmt: skip


def stage_slider(trace: Trace, *, theme: Theme = "light", title: str | None = None) -> Figure:
    """All boxes on the image, with a slider over the states and a button that plays them.

    Colour is the stage, opacity and width the score. Point at the middle of a box for its class.
    title: in place of the usual one.

    >>> import sparse_rcnn_lab as srl
    >>> trace = srl.load("nano-shapes").trace(srl.open_data("shapes", "val")[6])
    >>> len(stage_slider(trace).frames)
    7
    """
    said = title or f"{trace.num_proposals} proposals through {trace.num_stages} stages"
    figure = page_of_image(trace, said, broken_note(trace), theme, below=110)
    states = range(trace.num_stages + 1)
    figure.frames = [go().Frame(data=_state(trace, stage), name=str(stage)) for stage in states]
    figure.add_traces(_state(trace, trace.num_stages))
    # No smooth moves: from state to state a box may change its group, and with it its line.
    play = {"frame": {"duration": 900, "redraw": False}, "transition": {"duration": 0}}
    still = {**play, "frame": {"duration": 0, "redraw": False}, "mode": "immediate"}
    steps = [
        {"label": str(stage) if stage else "learned", "method": "animate",
         "args": [[str(stage)], still]}
        for stage in states
    ]  # fmt: skip
    figure.update_layout(
        sliders=[{"active": trace.num_stages, "steps": steps, "x": 0.12, "len": 0.88, "y": 0,
                  "currentvalue": {"prefix": "stage "}}],
        updatemenus=[{"type": "buttons", "x": 0.08, "y": 0, "yanchor": "top", "pad": {"t": 30},
                      "buttons": [{"label": "▶", "method": "animate",
                                   "args": [[str(stage) for stage in states], play]}]}],
    )  # fmt: skip
    return figure


def _state(trace: Trace, stage: int) -> list[Any]:
    """Boxes of one state, group by group, and a point in the middle of each to ask for its name."""
    color = style.stage_color(stage, trace.num_stages)
    line = style.line_color(stage, trace.num_stages)
    if stage:
        scores = score_by_stage(trace)[0][stage - 1].nan_to_num()
    else:
        scores = trace.logits.new_full((trace.num_proposals,), 0.5)
    drawn = []
    for low, high, name in _GROUPS:
        x, y = box_lines(trace.boxes[stage][(scores >= low) & (scores < high)])
        opacity, width = style.score_opacity(min(high, 1.0), 0.2), 1 + 2 * min(high, 1.0)
        if stage == 0:
            opacity, width = style.learned_opacity(trace.num_proposals), style.MIN_LINE
        # An empty group keeps its place in the key.
        drawn += _edged(x or [None], y or [None], name, line, opacity, width, "skip")
    middle: Tensor = centres(trace)[stage]
    drawn.append(
        go().Scatter(
            x=numbers(middle[:, 0]), y=numbers(middle[:, 1]), mode="markers", name="middle",
            marker={"color": color, "size": 5, "line": {"color": style.DARK, "width": 1}},
            text=[plain(describe(trace, p, stage)) for p in trace.proposal_ids.tolist()],
            hovertemplate="proposal %{text}<extra></extra>", opacity=0.6,
        )
    )  # fmt: skip
    return drawn


def _edged(
    x: list[Any], y: list[Any], name: str, color: str, opacity: float, width: float, hover: str
) -> list[Any]:
    """A line with a dark edge below it, as all lines on an image have; width: pixels."""
    shared = {"x": x, "y": y, "mode": "lines", "name": name, "legendgroup": name}
    return [
        go().Scatter(
            **shared, showlegend=False, hoverinfo="skip", opacity=style.EDGE * opacity,
            line={"color": style.DARK, "width": width + min(1.6, width)},
        ),
        go().Scatter(
            **shared, hoverinfo=hover, opacity=opacity, line={"color": color, "width": width}
        ),
    ]  # fmt: skip


def go() -> Any:
    """``plotly.graph_objects``. Raises LabError, saying how to install it, where there is none."""
    try:
        import plotly.graph_objects
    except ImportError:
        raise LabError(
            'Plotly is not installed. Install it with pip install "sparse-rcnn-lab[notebooks]", or '
            "use sparse_rcnn_lab.views.figures, which needs only matplotlib."
        ) from None
    return plotly.graph_objects


def page(title: str, detail: str, theme: Theme, square: bool = False) -> Figure:
    """An empty figure in one of the two themes, with a title and a line of detail."""
    paper, ink, _, line = style.paper(theme)
    figure = go().Figure()
    small = f"<br><sup>{detail}</sup>" if detail else ""
    figure.update_layout(
        title={"text": f"<b>{title}</b>{small}", "x": 0.02, "font": {"size": 18}},
        paper_bgcolor=paper, plot_bgcolor=paper, font={"color": ink}, height=620 if square else 460,
        margin={"l": 60, "r": 20, "t": 80, "b": 55}, hoverlabel={"font": {"size": 13}},
    )  # fmt: skip
    axis = {"gridcolor": line, "zeroline": False, "linecolor": line}
    figure.update_xaxes(**axis, showgrid=not square)
    figure.update_yaxes(**axis, showgrid=not square)
    return figure


def page_of_image(trace: Trace, title: str, detail: str, theme: Theme, below: int = 10) -> Figure:
    """A page whose axes are the image's pixels, with the image, where the trace has kept it.

    below: pixels kept free under the image.
    """
    height, width = trace.size
    shown = min(max(height / width, _WIDEST), _TALLEST)
    figure = page(title, detail, theme)
    if trace.image is not None:
        figure.add_layout_image(
            source=_source(trace), x=0, y=0, sizex=width, sizey=height, xref="x", yref="y",
            sizing="stretch", layer="below",
        )  # fmt: skip
    own = math.isclose(shown, height / width)
    figure.update_xaxes(range=[0, width], showgrid=False, showticklabels=False, constrain="domain")
    figure.update_yaxes(
        range=[height, 0], showgrid=False, showticklabels=False, constrain="domain",
        scaleanchor="x" if own else None,
    )  # fmt: skip
    across = 700 if shown <= 1 else 700 / shown
    return figure.update_layout(
        height=round(across * shown) + 90 + below, margin={"l": 10, "r": 10, "t": 80, "b": below},
        legend={"tracegroupgap": 0},  # a line and its edge are a group, and no gap parts groups
    )  # fmt: skip


def _source(trace: Trace) -> str:
    assert trace.image is not None
    image = as_image(trace.image)
    image = image.resize(display_size(*image.size, min_side=480, max_side=_LONG_SIDE))
    return data_uri(encoded(image, quality=88))


def box_lines(boxes: Tensor) -> tuple[list[float | None], list[float | None]]:
    """x and y of one line around all boxes ``[K, 4]``, with gaps; without those not finite."""
    x: list[Sequence[float | None]] = []
    y: list[Sequence[float | None]] = []
    for x1, y1, x2, y2 in boxes[boxes.isfinite().all(-1)].tolist():
        x.append([x1, x2, x2, x1, x1])
        y.append([y1, y1, y2, y2, y1])
    return gaps(x), gaps(y)


def gaps(lines: Iterable[Sequence[Any]]) -> list[Any]:
    """Several lines as one, with None between them."""
    joined: list[Any] = []
    for line in lines:
        joined += [*([None] if joined else []), *line]
    return joined


def numbers(values: Tensor) -> list[float | None]:
    """``[K]`` as JSON can hold it: what is not finite becomes None."""
    return [value if math.isfinite(value) else None for value in values.tolist()]


def plain(text: str) -> str:
    """Text that plotly shows as it is, whatever a class is called."""
    return html.escape(text, quote=False).replace("$", "&#36;")
