"""One image through all stages, side by side."""

from __future__ import annotations

from typing import Literal

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.patheffects import Normal, Stroke

from sparse_rcnn_lab.core.detections import Detections
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.trace import Trace
from sparse_rcnn_lab.views import style
from sparse_rcnn_lab.views.draw import DETECTED, best_scores, strengths
from sparse_rcnn_lab.views.figures.canvas import (
    Page,
    aspect,
    outline,
    outlines,
    shorten,
    show_picture,
    stretched_note,
    text_width,
)
from sparse_rcnn_lab.views.figures.words import write_labels
from sparse_rcnn_lab.views.measures import centres
from sparse_rcnn_lab.views.selection import broken_note
from sparse_rcnn_lab.views.style import Theme

Layout = Literal["hero", "strip"]

_GAP = 0.07  # between panels, inches
_HEAD = 0.27  # room for a panel's title
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

    Every proposal is drawn at every stage, in the colour of the stage, its best class score as
    opacity and width (the learned proposals have no score yet). The last panel adds the
    detections, in the colour of their class and labelled.

    threshold: least score of a detection, 0..1.  layout: "hero" gives the last stage a panel four
    times as large, "strip" puts all in one row.  width: of the figure, inches (at 160 dpi).
    theme: "light" or "dark" page.  trails: the way the centres of the detected proposals took.
    chosen: a proposal (id) to draw in the accent colour.  title: in place of
    the one that names model, proposals, image size and threshold; "" for none.

    Raises LabError when the trace has no image, or a proposal, layout or theme does not exist.
    """
    if trace.image is None:
        raise LabError("This trace was saved without its image, so there is nothing to draw on.")
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
        _panel_title(axes, name, style.stage_color(stage, trace.num_stages), page.ink, w, h)
    return page


def _panels(
    trace: Trace, layout: Layout, width: float, head: float
) -> tuple[float, list[tuple[float, float, float, float]]]:
    """Height of the figure and (left, bottom, width, height) of each panel, inches."""
    ratio = aspect(trace)
    small = trace.num_stages  # the states before the last
    if layout == "strip":
        w = (width - _GAP * (small + 2)) / (small + 1)
        h = w * ratio
        places = [(_GAP + (w + _GAP) * i, _FOOT, w, h) for i in range(small + 1)]
        return _FOOT + h + _HEAD + head, places
    columns = -(-small // 2)
    # The large panel is as high as two small ones with the title between them.
    w = (width - _GAP * (columns + 2) - _HEAD / ratio) / (columns + 2)
    h = w * ratio
    places = []
    for i in range(small):
        row, column = divmod(i, columns)
        places.append((_GAP + (w + _GAP) * column, _FOOT + (1 - row) * (h + _HEAD), w, h))
    large = 2 * h + _HEAD
    places.append((_GAP + (w + _GAP) * columns, _FOOT, large / ratio, large))
    return _FOOT + large + _HEAD + head, places


def _title(
    page: Page, trace: Trace, found: Detections, threshold: float, title: str | None
) -> None:
    model = trace.model_name or "Sparse R-CNN"
    said = title or f"{model}: {trace.num_proposals} proposals, {trace.num_stages} stages, no NMS"
    width, height = page.get_size_inches()
    h, w = trace.size
    size = 13.0 if width >= 8 else 10.0
    top, edge = 1 - 0.12 / height, _GAP / width
    count = f"{len(found)} detection{'s' * (len(found) != 1)}"
    notes = stretched_note(trace) or [f"image {w}×{h} px"]
    notes += [*broken_note(trace), f"{count} with a score of at least {threshold:g}"]
    detail = " · ".join(notes)
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
    show_picture(axes, trace)
    last = stage == trace.num_stages
    full = 1.6 + 0.25 * inches  # points
    detected = {trace.row(proposal) for proposal in found.proposals.tolist()}
    scores = best_scores(trace, stage)
    opacities, widths = strengths(trace, stage)
    # At the last stage detections are drawn further down, in the colour of their class.
    rows = [n for n in range(trace.num_proposals) if not (last and n in detected)]
    rows.sort(key=scores.__getitem__)
    outlines(
        axes,
        trace.boxes[stage, rows],
        style.line_color(stage, trace.num_stages),
        [opacities[n] for n in rows],
        [full * 0.8 * widths[n] for n in rows],
    )
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
    now = style.stage_color(stage, trace.num_stages)
    axes.plot(
        *way[-1].tolist(), "o", color=now, markersize=4, markeredgecolor=style.DARK,
        markeredgewidth=0.6,
    )  # fmt: skip


def _detections(
    axes: Axes, trace: Trace, found: Detections, inches: float, full: float, chosen: int | None
) -> None:
    scores = found.scores.tolist()
    labels = found.labels.tolist()
    colors = [
        style.ACCENT if chosen is not None and trace.row(proposal) == chosen else class_color
        for proposal, class_color in zip(
            found.proposals.tolist(), map(style.class_color, labels), strict=True
        )
    ]
    for i in reversed(range(len(found))):
        opacity, line = style.score_opacity(scores[i], DETECTED), full * (0.5 + 0.5 * scores[i])
        outline(axes, found.boxes[i], colors[i], opacity=opacity, line=line)
    texts = [f"{n} {style.score_text(s)}" for n, s in zip(found.names(), scores, strict=True)]
    size = 10.0 if inches > 2.5 else 6.5
    write_labels(axes, trace, found.boxes.tolist(), texts, colors, inches, size)
