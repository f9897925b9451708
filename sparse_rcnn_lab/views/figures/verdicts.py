"""What each stage finds, loses and gets wrong; and a gallery of the pictures they disagree on."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from matplotlib.axes import Axes

from sparse_rcnn_lab.analysis.outcomes import ERRORS, RIGHT, THRESHOLD, outcome
from sparse_rcnn_lab.analysis.verdict import Verdicts
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.trace import Trace
from sparse_rcnn_lab.views import style
from sparse_rcnn_lab.views.figures.canvas import HEAD, Page, aspect, outline, show_image
from sparse_rcnn_lab.views.figures.series import SERIES, need_rows
from sparse_rcnn_lab.views.style import Theme

# One colour a kind of error, the same in bars and gallery.
KIND_COLORS = {
    "class": SERIES[0],
    "place": SERIES[1],
    "both": SERIES[4],
    "duplicate": SERIES[3],
    "background": "#7d8590",
    "missed": SERIES[5],
}
KIND_WORDS = {
    "class": "wrong class",
    "place": "badly placed",
    "both": "class and place",
    "duplicate": "duplicate",
    "background": "nothing there",
    "missed": "missed",
}
_RIGHT_COLOR = "#35b779"
# What a stage does to objects: colour and opacity.
_EVENTS = {
    "new": (_RIGHT_COLOR, 1.0),
    "improved": (_RIGHT_COLOR, 0.55),
    "gone": (SERIES[5], 1.0),
    "worsened": (SERIES[5], 0.55),
}


def verdict_stages(
    verdicts: Verdicts,
    *,
    width: float = 9.5,
    theme: Theme = "light",
    title: str | None = None,
) -> Page:
    """Left: what each stage does to the objects (finds, improves; loses, worsens). Right: its
    errors by kind, for a hundred objects.

    verdicts: of :func:`sparse_rcnn_lab.analysis.verdicts`.  width: inches.
    """
    stages = verdicts.stages
    need_rows(stages, "stage")
    page = Page(width, 0.4 * width + 0.3, theme)
    objects = stages["objects"][0]
    detail = [f"{objects} objects"]
    if "AP" in stages.columns:
        values = " ".join(f"{ap:.2f}" if ap is not None else "–" for ap in stages["AP"])
        detail.append(f"AP by stage: {values}")
    page.write_title(title or "What each stage does", " · ".join(detail))
    room, height = (width - 0.6 - 0.75 - 1.35) / 2, 0.4 * width + 0.3 - 0.52 - HEAD
    left = page.place(0.6, 0.52, room, height)
    page.dress(left)
    per = 100 / max(1, objects)
    numbers = stages["stage"]
    for sign, parts in ((1, ("new", "improved")), (-1, ("gone", "worsened"))):
        base = [0.0] * len(stages)
        for name in parts:
            color, shade = _EVENTS[name]
            heights = [sign * per * count for count in stages[name]]
            left.bar(numbers, heights, 0.7, bottom=base, color=color, alpha=shade, gid=name)
            base = [a + b for a, b in zip(base, heights, strict=True)]
    left.axhline(0, color=page.faded, linewidth=0.8)
    left.set(xlabel="stage", ylabel="of 100 objects")
    left.set_xticks(numbers)
    left.grid(axis="x", visible=False)
    _events(page, left)
    right = page.place(0.6 + room + 0.75, 0.52, room, height)
    page.dress(right)
    base = [0.0] * len(stages)
    for kind, color in KIND_COLORS.items():
        heights = [per * count for count in stages[kind]]
        right.bar(numbers, heights, 0.7, bottom=base, color=color, gid=kind)
        base = [a + b for a, b in zip(base, heights, strict=True)]
    right.set(xlabel="stage", ylabel="errors for 100 objects")
    right.set_xticks(numbers)
    right.grid(axis="x", visible=False)
    _key(page, width - 1.3, 0.52 + height)
    return page


def _events(page: Page, axes: Axes) -> None:
    """The key of the left panel, in its upper right corner."""
    for line, (name, (color, shade)) in enumerate(_EVENTS.items()):
        y = 0.96 - 0.07 * line
        axes.plot(0.6, y, "s", color=color, alpha=shade, markersize=7, transform=axes.transAxes)
        axes.text(0.64, y, name, size=8.5, color=page.ink, va="center", transform=axes.transAxes)


def _key(page: Page, x: float, top: float) -> None:
    height = 0.21 * len(KIND_COLORS)
    axes = page.place(x, top - height, 1.25, height)
    axes.set(xlim=(0, 1.25), ylim=(len(KIND_COLORS), 0))
    axes.set_axis_off()
    for line, (kind, color) in enumerate(reversed(KIND_COLORS.items())):
        axes.plot(0.08, line + 0.5, "s", color=color, markersize=7)
        axes.text(0.2, line + 0.5, KIND_WORDS[kind], size=8, color=page.ink, va="center")


def gallery(
    traces: Iterable[Trace],
    *,
    threshold: float = THRESHOLD,
    side: float = 1.45,
    theme: Theme = "light",
    title: str | None = None,
) -> Page:
    """Pictures in rows, stages in columns: right detections green, errors in the colour of their
    kind, missed objects dashed white. Opacity is the score.

    traces: with ground truth, of models with the same number of stages, twelve at most.
    side: inches of a picture's width. Raises LabError without traces.
    """
    shown = list(islice(traces, 12))
    if not shown:
        raise LabError("There are no pictures for a gallery.")
    stages = min(trace.num_stages for trace in shown)
    heights = [side * aspect(trace) for trace in shown]
    width = max(7.2, 0.24 + stages * (side + 0.07))  # room for the key
    foot, head = 0.36, HEAD + 0.2
    page = Page(width, head + sum(heights) + 0.07 * len(shown) + foot, theme)
    page.write_title(
        title or "Where the stages disagree", f"detections with a score of {threshold:g} or more"
    )
    total = page.get_size_inches()[1]
    top = total - head
    for trace, height in zip(shown, heights, strict=True):
        for stage in range(1, stages + 1):
            axes = page.place(0.12 + (stage - 1) * (side + 0.07), top - height, side, height)
            show_image(axes, trace, fade=0.35)
            _outcome(axes, trace, stage, threshold)
        top -= height + 0.07
    for stage in range(1, stages + 1):
        x = 0.12 + (stage - 1) * (side + 0.07)
        color = style.stage_color(stage, stages)
        page.text(
            (x + 0.03) / width, 1 - (head - 0.03) / total, f" stage {stage} ", size=8,
            color=style.text_color(color), va="bottom", backgroundcolor=color,
            bbox={"facecolor": color, "linewidth": 0, "pad": 1.0},
        )  # fmt: skip
    _gallery_key(page, width)
    return page


def _outcome(axes: Axes, trace: Trace, stage: int, threshold: float) -> None:
    result = outcome(trace, stage, threshold)
    assert trace.gt_boxes is not None
    for box in trace.gt_boxes[result.found < 0]:
        outline(axes, box, style.GROUND_TRUTH_COLOR, dashed=True, line=1.2)
    seen = result.detections
    for i in reversed(range(len(seen))):
        right = result.kinds[i] == RIGHT
        color = _RIGHT_COLOR if right else KIND_COLORS[result.kinds[i]]
        opacity = style.score_opacity(float(seen.scores[i]), 0.4)
        outline(axes, seen.boxes[i], color, opacity=opacity, line=1.3)


def _gallery_key(page: Page, width: float) -> None:
    axes = page.place(0.12, 0.04, width - 0.24, 0.24)
    axes.set(xlim=(0, width - 0.24), ylim=(0, 0.24))
    axes.set_axis_off()
    x = 0.05
    words = {"right": "right", **{kind: KIND_WORDS[kind] for kind in ERRORS}}
    for kind, word in words.items():
        color = _RIGHT_COLOR if kind == "right" else KIND_COLORS[kind]
        axes.plot(x, 0.12, "s", color=color, markersize=6)
        axes.text(x + 0.09, 0.115, word, size=8, color=page.ink, va="center")
        x += 0.28 + 0.065 * len(word)
    axes.text(x, 0.115, "dashed: not found", size=8, color=page.faded, va="center")
