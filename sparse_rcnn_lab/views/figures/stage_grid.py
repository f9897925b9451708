"""Matplotlib figures of a trace: for pages, slides and papers. :mod:`draw` is the fast one."""

from __future__ import annotations

from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import Normal, Stroke
from matplotlib.textpath import TextPath
from torch import Tensor

from sparse_rcnn_lab.errors import LabError
from sparse_rcnn_lab.trace import Detections, Trace
from sparse_rcnn_lab.views import style
from sparse_rcnn_lab.views.draw import DETECTED, best_scores
from sparse_rcnn_lab.views.labels import place_labels

Layout = Literal["hero", "strip"]
Theme = Literal["light", "dark"]
PAPER = {"light": (style.LIGHT, "#1f2328", "#59636e"), "dark": ("#0d1117", "#f0f6fc", "#9198a1")}

_GAP = 0.07  # between panels, inches
_HEAD = 0.27  # room for a panel's title
_FOOT = 0.12
_DPI = 160


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
) -> Figure:
    """One image through all stages: the learned proposals, then what each stage made of them.

    Every proposal is drawn at every stage, in the colour of the stage, its best class score as
    opacity and width (the learned proposals have no score yet). The last panel adds the
    detections, in the colour of their class and labelled.

    threshold: least score of a detection, 0..1.  layout: "hero" gives the last stage a panel four
    times as large, "strip" puts all in one row.  width: of the figure, inches (at 160 dpi).
    theme: "light" or "dark" page.  trails: the way the centres of the detected proposals took.
    chosen: a proposal (index into the trace) to draw in the accent colour.  title: in place of
    the one that names model, proposals, image size and threshold.

    Returns a figure of its own (not one of pyplot's): ``.savefig("stages.png")``, or the last line
    of a notebook cell. Raises LabError when the trace has no image.
    """
    if trace.image is None:
        raise LabError("This trace was saved without its image, so there is nothing to draw on.")
    if layout not in ("hero", "strip"):
        raise LabError(f'layout must be "hero" or "strip", found {layout!r}.')
    if theme not in PAPER:
        raise LabError(f'theme must be "light" or "dark", found {theme!r}.')
    paper, ink, faded = PAPER[theme]
    found = trace.detections(threshold=threshold)
    height, rects = _panels(trace, layout, width, 0.42 if title != "" else 0.05)
    figure = Figure(figsize=(width, height), facecolor=paper, dpi=_DPI)
    if title != "":
        _title(figure, trace, found, threshold, title, ink, faded, width, height)
    for stage, (x, y, w, h) in enumerate(rects):
        axes = figure.add_axes((x / width, y / height, w / width, h / height))
        _panel(axes, trace, stage, found, w, trails, chosen)
        name = "learned proposals" if stage == 0 else f"stage {stage}"
        _panel_title(axes, name, style.stage_color(stage, trace.num_stages), ink, w, h)
    return figure


def _panels(
    trace: Trace, layout: Layout, width: float, head: float
) -> tuple[float, list[tuple[float, float, float, float]]]:
    """Height of the figure and (left, bottom, width, height) of each panel, inches."""
    aspect = trace.size[0] / trace.size[1]
    small = trace.num_stages  # the states before the last
    if layout == "strip":
        w = (width - _GAP * (small + 2)) / (small + 1)
        h = w * aspect
        places = [(_GAP + (w + _GAP) * i, _FOOT, w, h) for i in range(small + 1)]
        return _FOOT + h + _HEAD + head, places
    columns = -(-small // 2)
    # The large panel is as high as two small ones with the title between them.
    w = (width - _GAP * (columns + 2) - _HEAD / aspect) / (columns + 2)
    h = w * aspect
    places = []
    for i in range(small):
        row, column = divmod(i, columns)
        places.append((_GAP + (w + _GAP) * column, _FOOT + (1 - row) * (h + _HEAD), w, h))
    large = 2 * h + _HEAD
    places.append((_GAP + (w + _GAP) * columns, _FOOT, large / aspect, large))
    return _FOOT + large + _HEAD + head, places


def _title(
    figure: Figure,
    trace: Trace,
    found: Detections,
    threshold: float,
    title: str | None,
    ink: str,
    faded: str,
    width: float,
    height: float,
) -> None:
    model = trace.model_name or "Sparse R-CNN"
    said = title or f"{model}: {trace.num_proposals} proposals, {trace.num_stages} stages, no NMS"
    h, w = trace.size
    size = 13.0 if width >= 8 else 10.0
    top, edge = 1 - 0.12 / height, _GAP / width
    figure.text(edge, top, said, color=ink, size=size, weight="bold", va="top")
    count = f"{len(found)} detection{'s' * (len(found) != 1)}"
    detail = f"image {w}×{h} px · {count} with a score of at least {threshold:g}"
    figure.text(1 - edge, top, detail, color=faded, size=size * 0.75, va="top", ha="right")


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
    assert trace.image is not None
    height, width = trace.size
    last = stage == trace.num_stages
    axes.imshow(trace.image.permute(1, 2, 0).numpy(), extent=(0, width, height, 0))
    axes.set(xlim=(0, width), ylim=(height, 0), aspect="auto")
    axes.set_axis_off()
    full = 1.6 + 0.25 * inches  # points
    detected = set(found.proposals.tolist())
    scores = best_scores(trace, stage)
    for n in sorted(range(trace.num_proposals), key=scores.__getitem__):
        if last and n in detected:
            continue  # drawn below, in the colour of its class
        color = style.stage_color(stage, trace.num_stages)
        opacity = style.score_opacity(scores[n])
        _box(axes, trace.boxes[stage, n], color, opacity, scores[n], full * 0.8)
    ways = sorted(detected) if trails else []
    for n in ways + ([chosen] if chosen is not None and chosen not in ways else []):
        _trail(axes, trace, n, stage, style.ACCENT if n == chosen else style.LIGHT)
    if chosen is not None:
        _box(axes, trace.boxes[stage, chosen], style.ACCENT, 1.0, 1.0, full * 1.2)
    if last:
        _detections(axes, found, inches, full, chosen)


def _box(axes: Axes, box: Tensor, color: str, opacity: float, score: float, full: float) -> None:
    x1, y1, x2, y2 = box.tolist()
    points = style.MIN_LINE * 72 / _DPI
    line = max(points, full * (0.5 + 0.5 * score))
    patch = Rectangle(
        (x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=color, linewidth=line, alpha=opacity,
        joinstyle="miter",
    )  # fmt: skip
    rim = Stroke(linewidth=line + 1.2, foreground=style.DARK, alpha=0.55 * opacity)
    patch.set_path_effects([rim, Normal()])
    axes.add_patch(patch)


def _trail(axes: Axes, trace: Trace, n: int, stage: int, color: str) -> None:
    boxes = trace.boxes[: stage + 1, n]
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    (line,) = axes.plot(
        centres[:, 0], centres[:, 1], color=color, linewidth=1.0, alpha=0.9,
        solid_capstyle="round", solid_joinstyle="round",
    )  # fmt: skip
    line.set_path_effects([Stroke(linewidth=2.2, foreground=style.DARK, alpha=0.6), Normal()])
    now = style.stage_color(stage, trace.num_stages)
    axes.plot(
        *centres[-1].tolist(), "o", color=now, markersize=4, markeredgecolor=style.DARK,
        markeredgewidth=0.6,
    )  # fmt: skip


def _detections(
    axes: Axes, found: Detections, inches: float, full: float, chosen: int | None
) -> None:
    boxes = found.boxes.tolist()
    scores = found.scores.tolist()
    labels = found.labels.tolist()
    colors = [
        style.ACCENT if proposal == chosen else style.class_color(label)
        for proposal, label in zip(found.proposals.tolist(), labels, strict=True)
    ]
    for i in reversed(range(len(found))):
        _box(
            axes,
            found.boxes[i],
            colors[i],
            style.score_opacity(scores[i], DETECTED),
            scores[i],
            full,
        )
    texts = [f"{n} {style.score_text(s)}" for n, s in zip(found.names(), scores, strict=True)]
    size = 10.0 if inches > 2.5 else 6.5
    # Labels are laid out in points, the unit of their text.
    height, width = found.size
    points = inches * 72 / width
    high = round(size * 1.5)
    sizes = [(_text_width(text, size) + 6, high) for text in texts]
    scaled = [(a * points, b * points, c * points, d * points) for a, b, c, d in boxes]
    places = place_labels(scaled, sizes, int(width * points), int(height * points))
    for text, color, (w, h), place in zip(texts, colors, sizes, places, strict=True):
        if place is None:
            continue
        x, y = place[0] / points, place[1] / points
        axes.add_patch(
            Rectangle((x, y), w / points, h / points, color=color, linewidth=0, zorder=4)
        )
        axes.text(
            x + w / points / 2, y + h / points / 2, text, size=size, zorder=5,
            color=style.text_color(color), ha="center", va="center_baseline",
        ).set_gid("label")  # fmt: skip


def _text_width(text: str, size: float) -> int:
    return round(TextPath((0, 0), text, size=size).get_extents().width + 0.5)
