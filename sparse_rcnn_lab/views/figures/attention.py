"""Whom a proposal looks at, and the whole attention matrix."""

from __future__ import annotations

from matplotlib.axes import Axes
from torch import Tensor

from sparse_rcnn_lab.core.trace import Trace
from sparse_rcnn_lab.views import style
from sparse_rcnn_lab.views.figures.canvas import (
    HEAD,
    HEAT,
    Page,
    fitted,
    outline,
    rim,
    show_picture,
    stretched_note,
)
from sparse_rcnn_lab.views.figures.matrix import bar, matrix_axes
from sparse_rcnn_lab.views.figures.words import write_labels
from sparse_rcnn_lab.views.measures import (
    Links,
    attention_links,
    centres,
    check_stage,
    mean_attention,
    ranked,
)
from sparse_rcnn_lab.views.selection import best, describe
from sparse_rcnn_lab.views.style import Theme

_BARS = 2.6  # inches for the list of the strongest
_ROW = 0.26  # least inches a row of it takes


def attention_map(
    trace: Trace,
    proposal: int | None = None,
    stage: int | None = None,
    *,
    top: int = 8,
    head: int | None = None,
    width: float = 8.5,
    theme: Theme = "light",
    title: str | None = None,
) -> Page:
    """Whom a proposal looks at in a stage's self-attention, strongest first, on the picture.

    Boxes are those that entered the stage; width and opacity of a line are its weight, relative
    to the strongest, also given as bars in per cent. All weights of a proposal sum to 100 %,
    less what went to proposals dropped later.

    proposal: its id; default the one with the best final score.  stage: 1..S, default the last.
    top: how many others.  head: one head (0-based) in place of the mean over all.  width: inches.
    title: in place of the usual one. Raises LabError when attention is not recorded.
    """
    proposal = best(trace) if proposal is None else proposal
    stage = check_stage(trace, stage)
    links = attention_links(trace, proposal, stage, top, head)
    w, h = fitted(trace, width - _BARS - 0.36, 7.0)
    high = max(h, _ROW * (len(links.proposals) + 2))
    page = Page(width, high + HEAD + 0.12, theme)
    which = "mean of all heads" if head is None else f"head {head}"
    even = f"an even share would be {100 / trace.num_proposals:.3g} %"
    page.write_title(
        title or f"Proposal {describe(trace, proposal)} looks at …",
        " · ".join([*stretched_note(trace), f"self-attention of stage {stage}", which, even]),
    )
    axes = page.place(0.12 + (width - _BARS - 0.36 - w) / 2, 0.12 + (high - h), w, h)
    show_picture(axes, trace, fade=0.45)
    _lines(axes, trace, proposal, stage, links, w)
    _bars(page, page.place(width - _BARS - 0.12, 0.12, _BARS, high), links)
    return page


def _lines(
    axes: Axes, trace: Trace, proposal: int, stage: int, links: Links, inches: float
) -> None:
    boxes, at = trace.boxes[stage - 1], centres(trace)[stage - 1]
    own, others = trace.row(proposal), links.proposals.tolist()
    rows = [trace.row(other) for other in others]
    color = style.line_color(stage - 1, trace.num_stages)
    strongest = max([*links.weights.tolist(), 1e-6])
    for row, weight in reversed(list(zip(rows, links.weights.tolist(), strict=True))):
        opacity = style.score_opacity(weight / strongest, 0.25)
        outline(axes, boxes[row], color, opacity=opacity, line=1.2)
        ends = at[[own, row]]
        line = 0.6 + 3.0 * weight / strongest
        (drawn,) = axes.plot(ends[:, 0], ends[:, 1], color=color, linewidth=line, alpha=opacity)
        drawn.set_path_effects(rim(line, opacity))
        _dot(axes, at[row], color)
    outline(axes, boxes[own], style.ACCENT, line=2.2)
    _dot(axes, at[own], style.ACCENT)
    named = [(own, proposal, style.ACCENT)]
    named += [(row, other, color) for row, other in zip(rows, others, strict=True)]
    named = [one for one in named if boxes[one[0]].isfinite().all()]
    places = boxes[[row for row, _, _ in named]].tolist()
    texts, colors = [str(name) for _, name, _ in named], [color for _, _, color in named]
    write_labels(axes, trace, places, texts, colors, inches, 7.5)


def _dot(axes: Axes, point: Tensor, color: str) -> None:
    axes.plot(
        *point.tolist(), "o", color=color, markersize=4, markeredgecolor=style.DARK,
        markeredgewidth=0.6,
    )  # fmt: skip


def _bars(page: Page, axes: Axes, links: Links) -> None:
    """Weights in per cent, strongest first; then the proposal's own, and what is left."""
    names = [str(p) for p in links.proposals.tolist()] + ["itself", "all others"]
    values = [*links.weights.tolist(), links.itself, links.rest]
    rows = max(len(names), min(axes.bbox.height / page.dpi / (1.6 * _ROW), 3 * len(names)))
    axes.set(xlim=(0, 1), ylim=(rows - 0.5, -0.5))
    axes.set_axis_off()
    left, room = 0.33, 0.42
    longest = max([*values[:-1], 1e-6])
    for i, (name, value) in enumerate(zip(names, values, strict=True)):
        color = page.ink if i < len(links.proposals) else page.faded
        # The rest is many proposals together: a number, since its bar would dwarf the others.
        length = 0 if i == len(names) - 1 else value / longest * room
        axes.barh(i, length, left=left, height=0.62, color=color, alpha=0.75)
        axes.text(left - 0.03, i, name, ha="right", va="center", size=8.5, color=color)
        axes.text(
            left + length + 0.02, i, f"{100 * value:.1f} %", va="center", size=8.5, color=color
        )


def attention_matrix(
    trace: Trace,
    stage: int | None = None,
    *,
    head: int | None = None,
    width: float = 5.5,
    theme: Theme = "light",
    title: str | None = None,
) -> Page:
    """Who looks at whom in a stage's self-attention: rows look at columns, best scored first.

    stage: 1..S, default the last.  head: one head (0-based) in place of the mean over all.
    width: inches.  title: in place of the usual one. Raises LabError when attention is not
    recorded.
    """
    stage = check_stage(trace, stage)
    weights = mean_attention(trace, stage, head)
    order = ranked(trace)
    rows = [trace.row(proposal) for proposal in order]
    page, axes = matrix_axes(
        width, theme, list(map(str, order)), "looked at", "proposal that looks"
    )
    which = "mean of all heads" if head is None else f"head {head}"
    page.write_title(
        title or f"Self-attention of stage {stage}", f"{which} · in order of the final score"
    )
    shown = weights[rows][:, rows] * 100
    image = axes.imshow(shown.numpy(), cmap=HEAT, vmin=0, aspect="equal", interpolation="nearest")
    bar(page, image, "weight (per cent; a row sums to 100)")
    return page
