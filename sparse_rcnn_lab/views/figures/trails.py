"""The way each box took over the picture."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from torch import Tensor

from sparse_rcnn_lab.core.trace import Trace
from sparse_rcnn_lab.views import style
from sparse_rcnn_lab.views.figures.canvas import (
    HEAD,
    Page,
    fitted,
    outline,
    rim,
    show_picture,
    stretched_note,
)
from sparse_rcnn_lab.views.figures.words import stage_key, write_labels
from sparse_rcnn_lab.views.measures import centres
from sparse_rcnn_lab.views.selection import describe, final_label, select
from sparse_rcnn_lab.views.style import Theme


def box_trails(
    trace: Trace,
    proposals: int | Sequence[int] | None = None,
    *,
    threshold: float = 0.3,
    chosen: int | None = None,
    width: float = 7.0,
    theme: Theme = "light",
    title: str | None = None,
) -> Page:
    """The boxes of some proposals at every state, and the way their centres took, on the picture.

    Colour is the stage; the last box has the colour and name of its class. Ground truth, where
    the trace has one, is dashed.

    proposals: ids; default those that end with a score of ``threshold`` (at most 12).  chosen: one
    to draw in the accent colour.  width: inches.  title: in place of the usual one.
    Raises LabError for a proposal that is not in the trace.
    """
    shown = select(trace, proposals, threshold)
    rows = [trace.row(proposal) for proposal in shown.proposals]
    w, h = fitted(trace, width - 0.24)
    page = Page(width, h + HEAD + 0.5, theme)
    page.write_title(
        title or f"From learned box to object: {len(rows)} of {trace.num_proposals} proposals",
        " · ".join(filter(None, [*stretched_note(trace), shown.note])),
    )
    axes = page.place((width - w) / 2, 0.42, w, h)
    show_picture(axes, trace, fade=0.45)
    if trace.gt_boxes is not None:
        for box in trace.gt_boxes:
            outline(axes, box, style.GROUND_TRUTH_COLOR, dashed=True, line=1.2)
    _boxes_on_the_way(axes, trace, rows)
    colors = [
        style.ACCENT if proposal == chosen else style.class_color(final_label(trace, proposal))
        for proposal in shown.proposals
    ]
    for row, color in reversed(list(zip(rows, colors, strict=True))):
        _way(axes, trace, centres(trace)[:, row], color if color == style.ACCENT else style.LIGHT)
        outline(axes, trace.boxes[-1, row], color, line=2.2)
    drawn = [i for i, row in enumerate(rows) if trace.boxes[-1, row].isfinite().all()]
    texts = [describe(trace, shown.proposals[i]) for i in drawn]
    boxes = [trace.boxes[-1, rows[i]].tolist() for i in drawn]
    write_labels(axes, trace, boxes, texts, [colors[i] for i in drawn], w, 8.5)
    stage_key(page, trace.num_stages, (width - w) / 2, 0.12)
    return page


def _boxes_on_the_way(axes: Axes, trace: Trace, rows: Sequence[int]) -> None:
    """All states but the last; those in between faint where many boxes lie on one another."""
    between = max(0.35, 0.9 - 0.05 * len(rows))
    for stage in range(trace.num_stages):
        color = style.line_color(stage, trace.num_stages)
        opacity = between if stage else style.learned_opacity(len(rows))
        for row in rows:
            outline(axes, trace.boxes[stage, row], color, opacity=opacity, line=1.3)


def _way(axes: Axes, trace: Trace, points: Tensor, color: str) -> None:
    """The line of the centres, with a dot in the stage's colour at each state."""
    (line,) = axes.plot(points[:, 0], points[:, 1], color=color, linewidth=1.3, zorder=3)
    line.set_path_effects(rim(1.3))
    for stage, point in enumerate(points.tolist()):
        axes.plot(
            *point, "o", color=style.stage_color(stage, trace.num_stages), zorder=3,
            markersize=5 if stage == trace.num_stages else 3.5, markeredgecolor=style.DARK,
            markeredgewidth=0.6,
        )  # fmt: skip
