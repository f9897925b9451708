"""Words on a figure, none over another: labels of boxes and lines, the key of the stages."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from sparse_rcnn_lab.core.trace import Trace
from sparse_rcnn_lab.views import style
from sparse_rcnn_lab.views.figures.canvas import Page, aspect, text_width
from sparse_rcnn_lab.views.labels import Box, place_labels


def write_labels(
    axes: Axes,
    trace: Trace,
    boxes: Sequence[Sequence[float]],
    texts: Sequence[str],
    colors: Sequence[str],
    inches: float,
    size: float,
) -> None:
    """One label beside each box, none over another or outside; ``inches`` is the axes' width.

    Laid out in points, the unit of text: a picture may be shown stretched.
    """
    height, width = trace.size
    right = inches * 72 / width
    down = inches * aspect(trace) * 72 / height
    high = round(size * 1.5)
    sizes = [(text_width(text, size) + 6, high) for text in texts]
    scaled: list[Box] = [(a * right, b * down, c * right, d * down) for a, b, c, d in boxes]
    places = place_labels(scaled, sizes, int(width * right), int(height * down))
    for text, color, (w, h), place in zip(texts, colors, sizes, places, strict=True):
        if place is None:
            continue
        x, y, wide, tall = place[0] / right, place[1] / down, w / right, h / down
        axes.add_patch(Rectangle((x, y), wide, tall, color=color, linewidth=0, zorder=4))
        axes.text(
            x + wide / 2, y + tall / 2, text, size=size, zorder=5, color=style.text_color(color),
            ha="center", va="center_baseline",
        ).set_gid("label")  # fmt: skip


def spread(values: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places as near as possible to ``values``, at least ``gap`` apart, from ``low`` to ``high``,
    in the same order; closer together where there is no room.
    """
    order = sorted(range(len(values)), key=values.__getitem__)
    gap = min(gap, (high - low) / max(1, len(values) - 1))
    # Less its rank's share, a place must not fall below the one before: clumps take their mean.
    clumps: list[list[float]] = []
    for rank, index in enumerate(order):
        clumps.append([values[index] - rank * gap])
        while len(clumps) > 1 and _mean(clumps[-2]) > _mean(clumps[-1]):
            last = clumps.pop()
            clumps[-1] += last
    level = [_mean(clump) for clump in clumps for _ in clump]
    result = [0.0] * len(values)
    for rank, index in enumerate(order):
        result[index] = min(max(level[rank], low), high - gap * (len(order) - 1)) + rank * gap
    return result


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def label_ends(
    page: Page,
    axes: Axes,
    ends: Sequence[float],
    texts: Sequence[str],
    low: float,
    high: float,
) -> None:
    """Names lines at their right ends, in a column that keeps the names apart.

    ends: where each line ends, in data units; low, high: the y range of the axes.
    """
    x = axes.get_xlim()[1]
    size = 8.5 if len(ends) <= 14 else 6.5
    place = axes.get_position()
    inches = place.height * page.get_size_inches()[1]
    gap = size * 1.35 / 72 * (high - low) / inches
    kept = [i for i, end in enumerate(ends) if math.isfinite(end)]
    for i, y in zip(kept, spread([ends[i] for i in kept], gap, low, high), strict=True):
        axes.annotate(
            texts[i], (x, ends[i]), (x + (axes.get_xlim()[1] - axes.get_xlim()[0]) * 0.05, y),
            size=size, color=page.ink, va="center", annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": page.faded, "linewidth": 0.6, "shrinkA": 0,
                        "shrinkB": 1, "relpos": (0, 0.5)},
        ).set_gid("label")  # fmt: skip


def stage_key(page: Page, num_stages: int, x: float, y: float) -> None:
    """The colours of the states with their numbers, from (x, y) inches to the right."""
    axes = page.place(x, y, 3.4, 0.2)
    axes.set(xlim=(0, 3.4), ylim=(0, 0.2))
    axes.set_axis_off()
    step = max(1, math.ceil((num_stages + 1) / 12))
    shown = sorted({*range(0, num_stages + 1, step), num_stages})
    axes.text(0, 0.1, "stage", size=8.5, color=page.faded, va="center")
    for place, stage in enumerate(shown):
        left = 0.42 + 0.22 * place
        color = style.stage_color(stage, num_stages)
        axes.add_patch(Rectangle((left, 0.0), 0.2, 0.2, color=color, linewidth=0))
        axes.text(
            left + 0.1, 0.095, str(stage), size=7.5, color=style.text_color(color),
            ha="center", va="center_baseline",
        )  # fmt: skip
    end = 0.42 + 0.22 * len(shown)
    axes.text(end + 0.05, 0.1, "(0: learned)", size=8, color=page.faded, va="center")
