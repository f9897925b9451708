"""Figures of the boxes: all stages side by side, the path of each box, the learned boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.patheffects import Normal, Stroke
from torch import Tensor

from sparse_rcnn_lab.core.detections import Detections
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.trace import Trace
from sparse_rcnn_lab.views import style
from sparse_rcnn_lab.views.draw import DETECTED, best_scores, strengths
from sparse_rcnn_lab.views.figures.canvas import (
    HEAD,
    HEAT,
    Page,
    aspect,
    dot,
    fitted,
    outline,
    outlines,
    rim,
    shorten,
    show_image,
    stage_key,
    stretched_note,
    text_width,
    write_labels,
)
from sparse_rcnn_lab.views.measures import (
    broken_note,
    centres,
    end_color,
    need_image,
    select,
)
from sparse_rcnn_lab.views.style import Theme

Layout = Literal["hero", "strip"]

_GAP = 0.07  # between panels, inches
_PANEL_HEAD = 0.27  # room for a panel's title
_FOOT = 0.12


def stage_grid(
    trace: Trace,
    threshold: float = 0.3,
    *,
    layout: Layout = "hero",
    width: float = 11.0,
    theme: Theme = "light",
    trails: bool = True,
    chosen: int | None = None,
    title: str | None = None,
) -> Page:
    """One image through all stages: the learned proposals, then what each stage made of them.

    Every proposal is drawn at every stage, in the colour of the stage, with its best class score as
    opacity and line width (the learned proposals have no score yet). The last panel adds the
    detections, labelled and in the colour of their class.

    threshold: lowest score of a detection, 0..1.  layout: "hero" gives the last stage a panel four
    times as large, "strip" puts all in one row.  trails: draw the paths of the centres of detected
    proposals.  title: replaces the one that names model, proposals, image size and threshold; ""
    for none.  For the rest see :mod:`~sparse_rcnn_lab.views.figures`.
    Raises LabError when the trace has no image, or a proposal, layout or theme does not exist.

    >>> import sparse_rcnn_lab as srl
    >>> trace = srl.load("nano-shapes").trace(srl.open_data("shapes", "val")[6])
    >>> stage_grid(trace, threshold=0.5, theme="dark")
    <Page size 1760x837.12 with 7 Axes>
    """
    need_image(trace)
    if layout not in ("hero", "strip"):
        raise LabError(f'layout must be "hero" or "strip", found {layout!r}.')
    row = None if chosen is None else trace.row(chosen)
    found = trace.detections(threshold=threshold)
    height, rects = _panels(trace, layout, width, 0.42 if title != "" else 0.05)
    page = Page(width, height, theme)
    if title != "":
        _title(page, trace, found, threshold, title)
    for stage, (x, y, w, h) in enumerate(rects):
        axes = page.place(x, y, w, h)
        _panel(axes, trace, stage, found, w, trails, row)
        name = "learned proposals" if stage == 0 else f"stage {stage}"
        color = style.stage_color(stage, trace.num_stages)
        _panel_title(axes, name, color, page.ink, w, h)
    return page


def _panels(
    trace: Trace, layout: Layout, width: float, head: float
) -> tuple[float, list[tuple[float, float, float, float]]]:
    """The height of the figure and (left, bottom, width, height) of each panel, in inches."""
    ratio = aspect(trace)
    small = trace.num_stages  # the states before the last
    if layout == "strip":
        w = (width - _GAP * (small + 2)) / (small + 1)
        h = w * ratio
        places = [(_GAP + (w + _GAP) * i, _FOOT, w, h) for i in range(small + 1)]
        return _FOOT + h + _PANEL_HEAD + head, places
    columns = -(-small // 2)
    # The large panel is as high as two small ones with the title between them.
    w = (width - _GAP * (columns + 2) - _PANEL_HEAD / ratio) / (columns + 2)
    h = w * ratio
    places = []
    for i in range(small):
        row, column = divmod(i, columns)
        places.append((_GAP + (w + _GAP) * column, _FOOT + (1 - row) * (h + _PANEL_HEAD), w, h))
    large = 2 * h + _PANEL_HEAD
    places.append((_GAP + (w + _GAP) * columns, _FOOT, large / ratio, large))
    return _FOOT + large + _PANEL_HEAD + head, places


def _title(
    page: Page, trace: Trace, found: Detections, threshold: float, title: str | None
) -> None:
    """Writes title and details on one line."""
    model = trace.model_name or "Sparse R-CNN"
    said = title or f"{model}: {trace.num_proposals} proposals, {trace.num_stages} stages, no NMS"
    width, height = page.get_size_inches()
    h, w = trace.size
    size = 13.0 if width >= 8 else 10.0
    top, edge = 1 - 0.12 / height, _GAP / width
    count = f"{len(found)} detection{'s' * (len(found) != 1)}"
    notes = [stretched_note(trace) or f"image {w}×{h} px", broken_note(trace)]
    detail = " · ".join([*filter(None, notes), f"{count} with a score of at least {threshold:g}"])
    room = (width - 2 * _GAP) * 72 - text_width(said, size) * 1.2 - 12
    page.text(edge, top, said, color=page.ink, size=size, weight="bold", va="top")
    page.text(
        1 - edge, top, shorten(detail, size * 0.75, room), color=page.faded, size=size * 0.75,
        va="top", ha="right",
    )  # fmt: skip


def _panel_title(axes: Axes, name: str, color: str, ink: str, w: float, h: float) -> None:
    axes.add_patch(
        Rectangle(
            (0, 1 + 0.085 / h), 0.1 / w, 0.1 / h, transform=axes.transAxes, color=color,
            clip_on=False, linewidth=0,
        )
    )  # fmt: skip
    axes.text(
        0.16 / w, 1 + 0.135 / h, name, transform=axes.transAxes, color=ink, size=10, va="center"
    )


def _panel(
    axes: Axes,
    trace: Trace,
    stage: int,
    found: Detections,
    inches: float,
    trails: bool,
    chosen: int | None,
) -> None:
    """Draws all proposals at a stage; at the last one also the detections. chosen: its row."""
    show_image(axes, trace)
    last = stage == trace.num_stages
    full = 1.6 + 0.25 * inches  # points
    detected = {trace.row(proposal) for proposal in found.proposals.tolist()}
    scores = best_scores(trace, stage)
    opacities, widths = strengths(trace, stage)
    # At the last stage detections are drawn later, in the colour of their class.
    rows = [n for n in range(trace.num_proposals) if not (last and n in detected)]
    rows.sort(key=scores.__getitem__)
    color = style.line_color(stage, trace.num_stages)
    lines = [full * 0.8 * widths[n] for n in rows]
    outlines(axes, trace.boxes[stage, rows], color, [opacities[n] for n in rows], lines)
    ways = sorted(detected) if trails else []
    for n in ways + ([chosen] if chosen is not None and chosen not in ways else []):
        _trail(axes, trace, n, stage, style.ACCENT if n == chosen else style.LIGHT)
    if chosen is not None:
        outline(axes, trace.boxes[stage, chosen], style.ACCENT, line=full * 1.2)
    if last:
        _detections(axes, trace, found, inches, full, chosen)


def _trail(axes: Axes, trace: Trace, n: int, stage: int, color: str) -> None:
    way = centres(trace)[: stage + 1, n]
    (line,) = axes.plot(
        way[:, 0], way[:, 1], color=color, linewidth=1.0, alpha=0.9,
        solid_capstyle="round", solid_joinstyle="round",
    )  # fmt: skip
    line.set_path_effects([Stroke(linewidth=2.2, foreground=style.DARK, alpha=0.6), Normal()])
    dot(axes, way[-1], style.stage_color(stage, trace.num_stages))


def _detections(
    axes: Axes, trace: Trace, found: Detections, inches: float, full: float, chosen: int | None
) -> None:
    scores = found.scores.tolist()
    rows = map(trace.row, found.proposals.tolist())
    colors = [
        style.ACCENT if row == chosen else style.class_color(label)
        for row, label in zip(rows, found.labels.tolist(), strict=True)
    ]
    for i in reversed(range(len(found))):
        opacity, line = style.score_opacity(scores[i], DETECTED), full * (0.5 + 0.5 * scores[i])
        outline(axes, found.boxes[i], colors[i], opacity=opacity, line=line)
    texts = [f"{n} {style.score_text(s)}" for n, s in zip(found.names(), scores, strict=True)]
    write_labels(axes, found.boxes.tolist(), texts, colors, 10.0 if inches > 2.5 else 6.5)


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
    """The boxes of some proposals at every state, and the paths of their centres, on the image.

    Colour shows the stage; the last box has the colour and name of its class. Ground truth, where
    the trace has one, is dashed. For the arguments see :mod:`~sparse_rcnn_lab.views.figures`.
    Raises LabError for a proposal that is not in the trace.

    >>> import sparse_rcnn_lab as srl
    >>> trace = srl.load("nano-shapes").trace(srl.open_data("shapes", "val")[6])
    >>> page = box_trails(trace, threshold=0.5)
    >>> page.texts[0].get_text()
    'From learned box to object: 3 of 20 proposals'
    """
    shown = select(trace, proposals, threshold, chosen)
    rows = shown.rows
    w, h = fitted(trace, width - 0.24)
    page = Page(width, h + HEAD + 0.5, theme)
    page.write_title(
        title or f"From learned box to object: {len(rows)} of {trace.num_proposals} proposals",
        stretched_note(trace),
        shown.note,
    )
    axes = page.place((width - w) / 2, 0.42, w, h)
    show_image(axes, trace, fade=0.45)
    for box in () if trace.gt_boxes is None else trace.gt_boxes:
        outline(axes, box, style.GROUND_TRUTH_COLOR, dashed=True, line=1.2)
    # All states but the last; those in between are faint where many boxes overlap.
    between = max(0.35, 0.9 - 0.05 * len(rows))
    for stage in range(trace.num_stages):
        opacity = between if stage else style.learned_opacity(len(rows))
        color = style.line_color(stage, trace.num_stages)
        for row in rows:
            outline(axes, trace.boxes[stage, row], color, opacity=opacity, line=1.3)
    colors = [end_color(trace, proposal, chosen) for proposal in shown.proposals]
    for row, color in reversed(list(zip(rows, colors, strict=True))):
        _way(axes, trace, centres(trace)[:, row], color if color == style.ACCENT else style.LIGHT)
        outline(axes, trace.boxes[-1, row], color, line=2.2)
    write_labels(axes, trace.boxes[-1, rows].tolist(), shown.texts, colors, 8.5)
    stage_key(page, trace.num_stages, (width - w) / 2, 0.12)
    return page


def _way(axes: Axes, trace: Trace, points: Tensor, color: str) -> None:
    """Draws the line of the centres, with a dot in the stage's colour at each state."""
    (line,) = axes.plot(points[:, 0], points[:, 1], color=color, linewidth=1.3, zorder=3)
    line.set_path_effects(rim(1.3))
    for stage, point in enumerate(points):
        size = 5 if stage == trace.num_stages else 3.5
        dot(axes, point, style.stage_color(stage, trace.num_stages), size, zorder=3)


def learned_boxes(
    trace: Trace, *, width: float = 8.5, theme: Theme = "light", title: str | None = None
) -> Page:
    """The learned boxes in an empty frame, and how many of them cover each place in it.

    For the arguments see :mod:`~sparse_rcnn_lab.views.figures`.

    >>> import sparse_rcnn_lab as srl
    >>> trace = srl.load("nano-shapes").trace(srl.open_data("shapes", "val")[6])
    >>> learned_boxes(trace).texts[0].get_text()
    '20 learned boxes'
    """
    gap = 0.16
    height, wide = trace.size
    boxes = trace.boxes[0] / torch.tensor([wide, height, wide, height])
    panel = (width - 3 * gap - 0.6) / 2
    page = Page(width, panel + HEAD + 0.34, theme)
    page.write_title(
        title or f"{len(boxes)} learned boxes",
        "the same for every image; sides relative to the image's",
    )
    left = page.place(gap, gap, panel, panel)
    right = page.place(2 * gap + panel, gap, panel, panel)
    for axes, name in ((left, "boxes, with their centres"), (right, "boxes over each place")):
        axes.set(xlim=(0, 1), ylim=(1, 0), xticks=[], yticks=[])
        axes.set_facecolor(page.paper)
        for side in axes.spines.values():
            side.set_color(page.line)
        axes.text(0, 1.015, name, size=9, color=page.ink, transform=axes.transAxes, va="bottom")
    for i, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        color = style.class_color(i)
        left.add_patch(
            Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=color, linewidth=1.3,
                      alpha=0.85)
        )  # fmt: skip
        left.plot((x1 + x2) / 2, (y1 + y2) / 2, "o", color=color, markersize=4)
    image = right.imshow(coverage(boxes).numpy(), extent=(0, 1, 1, 0), cmap=HEAT, vmin=0)
    page.color_bar(image, 2 * panel + 2 * gap + 0.1, gap, panel)
    return page


def coverage(boxes: Tensor, cells: int = 64) -> Tensor:
    """``[cells, cells]``: how many boxes ``[N, 4]`` (xyxy, 0..1) cover each cell, top row first."""
    middle = (torch.arange(cells) + 0.5) / cells
    inside_x = (middle >= boxes[:, :1]) & (middle < boxes[:, 2:3])
    inside_y = (middle >= boxes[:, 1:2]) & (middle < boxes[:, 3:4])
    return (inside_y[:, :, None] & inside_x[:, None, :]).sum(0).float()
