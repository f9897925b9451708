"""How proposal features change from stage to stage, and how alike they are."""

from __future__ import annotations

from collections.abc import Sequence

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.trace import Trace
from sparse_rcnn_lab.views import style
from sparse_rcnn_lab.views.figures.canvas import BALANCE, HEAD, Page, rim, text_width
from sparse_rcnn_lab.views.figures.matrix import bar, matrix_axes
from sparse_rcnn_lab.views.figures.words import stage_key
from sparse_rcnn_lab.views.labels import place_labels
from sparse_rcnn_lab.views.measures import (
    check_stage,
    comparable,
    pca,
    proposal_similarity,
    stage_similarity,
)
from sparse_rcnn_lab.views.selection import broken_note, describe, final_label, select
from sparse_rcnn_lab.views.style import Theme


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

    A dot is a proposal at a state, in the colour of the stage; lines are the ways of some
    proposals, in the colour of the class they end with.

    proposals: ids to draw a way for; default those that end with a score of ``threshold`` (at
    most 12).  chosen: one to draw in the accent colour.  width: inches.  title: in place of the
    usual one. Raises LabError for a proposal that is not in the trace.
    """
    shown = select(trace, proposals, threshold)
    found = pca(trace.features)
    height = 0.8 * width
    page = Page(width, height, theme)
    note = f"{trace.num_proposals} × {trace.num_stages + 1} features (proposals × states)"
    page.write_title(
        title or "Proposal features through the stages (PCA)",
        " · ".join([note, *broken_note(trace)]),
    )
    w, h = width - 0.9, height - 0.95 - HEAD
    axes = page.place(0.75, 0.85, w, h)
    page.dress(axes)
    for stage, points in enumerate(found.points):
        axes.scatter(
            points[:, 0], points[:, 1], s=16 if trace.num_proposals <= 100 else 6, linewidth=0.3,
            color=style.stage_color(stage, trace.num_stages), edgecolor=page.ink,
            alpha=0.8 if trace.num_proposals <= 100 else 0.5,
        )  # fmt: skip
    first, second = (100 * found.explained).tolist()
    axes.set(xlabel=f"axis 1 ({first:.0f} % of the variance)")
    axes.set(ylabel=f"axis 2 ({second:.0f} % of the variance)")
    axes.margins(0.08)
    ends, texts, colors = [], [], []
    for proposal in shown.proposals:
        way = found.points[:, trace.row(proposal)]
        accent = proposal == chosen
        color = style.ACCENT if accent else style.class_color(final_label(trace, proposal))
        line = 2.4 if accent else 1.5
        (drawn,) = axes.plot(way[:, 0], way[:, 1], color=color, linewidth=line, gid="way")
        drawn.set_path_effects(rim(line))
        for stage, point in enumerate(way.tolist()):
            axes.plot(
                *point, "o", color=style.stage_color(stage, trace.num_stages), markersize=5.5,
                markeredgecolor=page.ink, markeredgewidth=0.6, zorder=4,
            )  # fmt: skip
        if way[-1].isfinite().all():
            ends.append(way[-1].tolist())
            texts.append(describe(trace, proposal))
            colors.append(color)
    _name(page, w, h, ends, texts, colors)
    stage_key(page, trace.num_stages, 0.75, 0.12)
    return page


def _name(
    page: Page,
    w: float,
    h: float,
    ends: list[list[float]],
    texts: Sequence[str],
    colors: Sequence[str],
) -> None:
    """Labels at the ends of the ways, none over another."""
    (axes,) = page.axes[:1]
    (x0, x1), (y0, y1) = axes.get_xlim(), axes.get_ylim()
    size = 8.0
    boxes, sizes = [], []
    for (x, y), text in zip(ends, texts, strict=True):
        px, py = (x - x0) / (x1 - x0) * w * 72, (y1 - y) / (y1 - y0) * h * 72
        boxes.append((px - 4, py - 4, px + 4, py + 4))
        sizes.append((text_width(text, size) + 6, round(size * 1.5)))
    places = place_labels(boxes, sizes, int(w * 72), int(h * 72))
    for place, (tw, th), text, color in zip(places, sizes, texts, colors, strict=True):
        if place is None:
            continue
        x = x0 + (place[0] + tw / 2) / (w * 72) * (x1 - x0)
        y = y1 - (place[1] + th / 2) / (h * 72) * (y1 - y0)
        axes.text(
            x, y, text, size=size, ha="center", va="center", zorder=6,
            color=style.text_color(color), gid="label",
            bbox={"facecolor": color, "edgecolor": "none", "pad": 1.5},
        )  # fmt: skip


def similarity(
    trace: Trace,
    proposal: int | None = None,
    *,
    stage: int | None = None,
    width: float = 5.5,
    theme: Theme = "light",
    title: str | None = None,
) -> Page:
    """Cosine similarity of proposal features, -1 to 1.

    With a proposal: its own feature between each two states; which stage changes it most. Without
    one: all proposals with each other at one state, best scored first; duplicates are alike.

    proposal: an id.  stage: state 0..S for the second kind, default the last.  width: inches.
    title: in place of the usual one. Raises LabError when both, or none that exists, are given.
    """
    if proposal is not None and stage is not None:
        raise LabError(
            "Give a proposal (its states with each other) or a stage (the proposals with each "
            "other), not both."
        )
    if proposal is not None:
        values = stage_similarity(trace, proposal)
        names = ["learned", *map(str, range(1, trace.num_stages + 1))]
        page, axes = matrix_axes(width, theme, names, "stage", "stage")
        said = f"Feature of proposal {describe(trace, proposal)}"
        note = "cosine similarity between states"
    else:
        stage = check_stage(trace, stage, 0)
        order = comparable(trace, stage)
        rows = [trace.row(p) for p in order]
        values = proposal_similarity(trace, stage)[rows][:, rows]
        page, axes = matrix_axes(width, theme, list(map(str, order)), "proposal", "proposal")
        said = "Features of the proposals " + (f"after stage {stage}" if stage else "as learned")
        note = "cosine similarity · in order of the final score"
    page.write_title(title or said, " · ".join([note, *broken_note(trace)]))
    image = axes.imshow(values.numpy(), cmap=BALANCE, vmin=-1, vmax=1, interpolation="nearest")
    if len(values) <= 9:
        for i, line in enumerate(values.tolist()):
            for j, value in enumerate(line):
                color = style.LIGHT if abs(value) > 0.7 else style.DARK
                axes.text(j, i, f"{value:.2f}", size=8, color=color, ha="center", va="center")
    bar(page, image, "cosine similarity")
    return page
