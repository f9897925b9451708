"""Figures of what each stage finds, loses and gets wrong, and of where the stages disagree."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from math import isnan

from matplotlib.axes import Axes
from matplotlib.colors import to_rgba

from sparse_rcnn_lab.analysis.detection_errors import ERRORS, RIGHT, THRESHOLD, judge_detections
from sparse_rcnn_lab.analysis.outcomes import ObjectOutcomes
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.trace import Trace
from sparse_rcnn_lab.views import style
from sparse_rcnn_lab.views.figures.canvas import HEAD, Page, aspect, outline, show_image
from sparse_rcnn_lab.views.figures.named_lines import SERIES, key, need_rows
from sparse_rcnn_lab.views.style import Theme

# One colour per kind of error, the same in bars and gallery.
KIND_COLORS = {
    "class": SERIES[0],
    "localisation": SERIES[1],
    "both": SERIES[4],
    "duplicate": SERIES[3],
    "background": "#7d8590",
    "missed": SERIES[5],
}
KIND_WORDS = {
    "class": "wrong class",
    "localisation": "badly localised",
    "both": "both of these",
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
MAX_IMAGES = 12


def outcome_stages(
    outcomes: ObjectOutcomes,
    *,
    width: float = 9.5,
    theme: Theme = "light",
    title: str | None = None,
) -> Page:
    """Left: what each stage does to the objects (finds, improves; loses, worsens). Right: its
    errors by kind, per hundred objects.

    outcomes: the result of :func:`sparse_rcnn_lab.analysis.object_outcomes`.  width: inches.

    >>> import sparse_rcnn_lab as srl
    >>> from sparse_rcnn_lab import analysis
    >>> detector, data = srl.load("nano-shapes"), srl.Shapes(2)
    >>> traces = analysis.traces_of(detector, data, [0, 1])
    >>> page = outcome_stages(analysis.object_outcomes_of(traces))
    """
    stages = outcomes.stages
    need_rows(stages, "stage")
    page = Page(width, 0.4 * width + 0.3, theme)
    objects = int(stages.objects.iloc[0])
    detail = f"{objects} objects"
    if "AP" in stages:
        values = " ".join("–" if isnan(ap) else f"{ap:.2f}" for ap in stages.AP)
        detail += f" · AP by stage: {values}"
    page.write_title(title or "What each stage does", detail)
    room, height = (width - 0.6 - 0.75 - 1.35) / 2, 0.4 * width + 0.3 - 0.52 - HEAD
    left = page.place(0.6, 0.52, room, height)
    right = page.place(0.6 + room + 0.75, 0.52, room, height)
    for axes, label in ((left, "of 100 objects"), (right, "errors for 100 objects")):
        page.dress(axes)
        axes.set(xlabel="stage", ylabel=label)
        axes.set_xticks(stages.stage)
        axes.grid(axis="x", visible=False)
    shown = stages.mul(100 / max(1, objects))
    for axes, colors, sign in (
        (left, {name: _EVENTS[name] for name in ("new", "improved")}, 1),
        (left, {name: _EVENTS[name] for name in ("gone", "worsened")}, -1),
        (right, {kind: (color, 1.0) for kind, color in KIND_COLORS.items()}, 1),
    ):
        base = shown.stage * 0.0
        for name, (color, opacity) in colors.items():
            heights = shown[name] * sign
            axes.bar(stages.stage, heights, 0.7, bottom=base, color=color, alpha=opacity, gid=name)
            base = base + heights
    left.axhline(0, color=page.faded, linewidth=0.8)
    events = [(name, "s", to_rgba(*shade)) for name, shade in _EVENTS.items()]
    key(page, events, left, loc="upper right")
    kinds = [(KIND_WORDS[kind], "s", color) for kind, color in reversed(KIND_COLORS.items())]
    key(page, kinds, right, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return page


def gallery(
    traces: Iterable[Trace],
    *,
    threshold: float = THRESHOLD,
    side: float = 1.45,
    theme: Theme = "light",
    title: str | None = None,
) -> Page:
    """Images in rows, stages in columns: right detections are green, errors have the colour of
    their kind, missed objects are dashed white. Opacity shows the score.

    traces: at most twelve with ground truth, of models with the same number of stages.
    side: inches of an image's width. Raises LabError without traces.

    >>> import sparse_rcnn_lab as srl
    >>> from sparse_rcnn_lab import analysis
    >>> page = gallery(analysis.traces_of(srl.load("nano-shapes"), srl.Shapes(2), [1]))
    """
    shown = list(islice(traces, MAX_IMAGES))
    if not shown:
        raise LabError("There are no images for a gallery.")
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
            _judged(axes, trace, stage, threshold)
        top -= height + 0.07
    for stage in range(1, stages + 1):
        x = 0.12 + (stage - 1) * (side + 0.07)
        color = style.stage_color(stage, stages)
        page.text(
            (x + 0.03) / width, 1 - (head - 0.03) / total, f" stage {stage} ", size=8,
            color=style.text_color(color), va="bottom", backgroundcolor=color,
            bbox={"facecolor": color, "linewidth": 0, "pad": 1.0},
        )  # fmt: skip
    kinds = [(KIND_WORDS[kind], "s", KIND_COLORS[kind]) for kind in ERRORS]
    key(page, [("right", "s", _RIGHT_COLOR), *kinds, ("dashed: not found", "", page.faded)])
    return page


def _judged(axes: Axes, trace: Trace, stage: int, threshold: float) -> None:
    judged = judge_detections(trace, stage, threshold)
    for box in trace.truth()[0][judged.found < 0]:
        outline(axes, box, style.GROUND_TRUTH_COLOR, dashed=True, line=1.2)
    seen = judged.detections
    for i in reversed(range(len(seen))):
        kind = judged.kinds[i]
        color = _RIGHT_COLOR if kind == RIGHT else KIND_COLORS[kind]
        opacity = style.score_opacity(float(seen.scores[i]), 0.4)
        outline(axes, seen.boxes[i], color, opacity=opacity, line=1.3)
