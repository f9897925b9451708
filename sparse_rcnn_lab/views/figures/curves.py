"""Figures of proposals from stage to stage: their scores and their features."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.patheffects import Normal, Stroke

from sparse_rcnn_lab.core.trace import Trace
from sparse_rcnn_lab.views import style
from sparse_rcnn_lab.views.feature_similarity import FeaturePlane
from sparse_rcnn_lab.views.figures.canvas import (
    HEAD,
    Page,
    label_ends,
    rim,
    stage_key,
    write_labels,
)
from sparse_rcnn_lab.views.figures.named_lines import MARKERS
from sparse_rcnn_lab.views.measures import (
    broken_note,
    end_color,
    score_by_stage,
    select,
)
from sparse_rcnn_lab.views.style import Theme

RIGHT = 1.55  # inches for the names of the lines


def score_curves(
    trace: Trace,
    proposals: int | Sequence[int] | None = None,
    *,
    threshold: float = 0.3,
    chosen: int | None = None,
    width: float = 7.0,
    theme: Theme = "light",
    title: str | None = None,
) -> Page:
    """The best class score of each proposal at every stage.

    Named lines have the colour of the class they end with; all other proposals are grey. For the
    arguments see :mod:`~sparse_rcnn_lab.views.figures`. Raises LabError for a proposal that is not
    in the trace.

    >>> import sparse_rcnn_lab as srl
    >>> trace = srl.load("nano-shapes").trace(srl.open_data("shapes", "val")[6])
    >>> page = score_curves(trace, threshold=0.5)
    >>> sorted(text.get_text() for text in page.axes[0].texts)
    ['6 · star .88', '7 · heart .67', '9 · cross .71']
    """
    shown = select(trace, proposals, threshold, chosen)
    scores, _ = score_by_stage(trace)
    height = max(3.2, 0.5 * width)
    page = Page(width, height, theme)
    page.write_title(title or "Score by stage", shown.note)
    axes = page.place(0.6, 0.5, width - 0.6 - RIGHT, height - 0.5 - HEAD)
    page.dress(axes)
    axes.grid(axis="x", visible=False)
    last = trace.num_stages
    stages = list(range(1, last + 1))
    ticks = stages[:: max(1, round(last / 10))]
    axes.set_xticks(ticks, list(map(str, ticks)))
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
    pad = 0.04 * max(1, last - 1)
    axes.set(xlim=(1 - pad, last + pad), ylim=(-0.02, 1.02), xlabel="stage")
    axes.set_ylabel("best class score (0 to 1)")
    others = [row for row in range(trace.num_proposals) if row not in shown.rows]
    if others:
        opacity = max(0.06, min(0.5, 12 / len(others)))
        axes.plot(stages, scores[:, others], color=page.faded, linewidth=0.7, alpha=opacity)
    axes.axhline(threshold, color=page.faded, linewidth=0.8, linestyle=(0, (5, 3)))
    label_ends(page, axes, scores[-1, shown.rows].tolist(), shown.texts)
    for i, (proposal, row) in enumerate(zip(shown.proposals, shown.rows, strict=True)):
        (line,) = axes.plot(
            stages, scores[:, row], color=end_color(trace, proposal, chosen),
            marker=MARKERS[i % len(MARKERS)], markersize=5.5, markeredgecolor=page.ink,
            linewidth=2.6 if proposal == chosen else 1.8, markeredgewidth=0.5,
            zorder=4 - i / len(shown.rows), gid="named",
        )  # fmt: skip
        # Yellow on white needs an edge.
        edge = Stroke(linewidth=line.get_linewidth() + 0.9, foreground=page.ink, alpha=0.45)
        line.set_path_effects([edge, Normal()])
    return page


def feature_pca(
    trace: Trace,
    proposals: int | Sequence[int] | None = None,
    *,
    threshold: float = 0.3,
    chosen: int | None = None,
    width: float = 6.5,
    theme: Theme = "light",
    title: str | None = None,
) -> Page:
    """All proposal features at all states on their two axes of largest variance.

    A dot is a proposal at a state, in the colour of the stage; lines are the paths of some
    ``proposals``, in the colour of the class they end with. For the arguments see
    :mod:`~sparse_rcnn_lab.views.figures`. Raises LabError for a proposal that is not in the trace.

    >>> import sparse_rcnn_lab as srl
    >>> trace = srl.load("nano-shapes").trace(srl.open_data("shapes", "val")[6])
    >>> feature_pca(trace).texts[1].get_text()
    '20 × 7 features (proposals × states)'
    """
    shown = select(trace, proposals, threshold, chosen)
    plane = FeaturePlane.fit(trace.features)
    places = plane.place(trace.features)
    height = 0.8 * width
    page = Page(width, height, theme)
    page.write_title(
        title or "Proposal features through the stages (PCA)",
        f"{trace.num_proposals} × {trace.num_stages + 1} features (proposals × states)",
        broken_note(trace),
    )
    axes = page.place(0.75, 0.85, width - 0.9, height - 0.95 - HEAD)
    page.dress(axes)
    many = trace.num_proposals > 100
    for stage, points in enumerate(places):
        axes.scatter(
            points[:, 0], points[:, 1], s=6 if many else 16, linewidth=0.3, edgecolor=page.ink,
            color=style.stage_color(stage, trace.num_stages), alpha=0.5 if many else 0.8,
        )  # fmt: skip
    first, second = (100 * plane.explained).tolist()
    axes.set(xlabel=f"axis 1 ({first:.0f} % of the variance)")
    axes.set(ylabel=f"axis 2 ({second:.0f} % of the variance)")
    axes.margins(0.08)
    colors = [end_color(trace, proposal, chosen) for proposal in shown.proposals]
    for proposal, row, color in zip(shown.proposals, shown.rows, colors, strict=True):
        way = places[:, row]
        line = 2.4 if proposal == chosen else 1.5
        (drawn,) = axes.plot(way[:, 0], way[:, 1], color=color, linewidth=line, gid="way")
        drawn.set_path_effects(rim(line))
        for stage, point in enumerate(way.tolist()):
            axes.plot(
                *point, "o", color=style.stage_color(stage, trace.num_stages), markersize=5.5,
                markeredgecolor=page.ink, markeredgewidth=0.6, zorder=4,
            )  # fmt: skip
    ends = [places[-1, row].tolist() * 2 for row in shown.rows]
    write_labels(axes, ends, shown.texts, colors, 8.0, room=4)
    stage_key(page, trace.num_stages, 0.75, 0.12)
    return page
