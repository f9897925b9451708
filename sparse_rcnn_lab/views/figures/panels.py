"""Detections side by side: of one image under several conditions or during a training, or of
several images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from torch import Tensor

from sparse_rcnn_lab.analysis.outcomes import matched_proposals
from sparse_rcnn_lab.core.detections import Detections
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.trace import Trace
from sparse_rcnn_lab.detect.images import ImageSource, read_image
from sparse_rcnn_lab.views import style
from sparse_rcnn_lab.views.draw import draw_detections
from sparse_rcnn_lab.views.figures.canvas import (
    HEAD,
    TALLEST,
    WIDEST,
    Page,
    aspect,
    outline,
    shorten,
    show_image,
    write_labels,
)
from sparse_rcnn_lab.views.measures import need_image
from sparse_rcnn_lab.views.style import Theme

_GAP = 0.12  # inches
_NAME = 0.26
_LETTERS = 7.0  # smallest font size of labels, points
_SIDE = 720  # pixels of a drawn image's long side, at least


def detection_panels(
    found: Sequence[Detections],
    images: list[Any] | tuple[Any, ...] | ImageSource,
    names: Sequence[str],
    *,
    columns: int = 4,
    gt_boxes: Tensor | None = None,
    width: float = 11.0,
    theme: Theme = "light",
    title: str | None = None,
    detail: str = "",
    word: str = "found",
    scores: bool = True,
) -> Page:
    """Each of ``found`` is drawn on its image, below its name and its number of detections.

    images: a list with one for each, or one for all, as a detector takes them.  names: one for
    each.  gt_boxes: ``[M, 4]`` xyxy, pixels of the image, drawn dashed on every one.  width:
    inches.  word: what the boxes are called beside their number.  scores: write them after the
    classes.  Raises LabError when these numbers differ or there is nothing to show.

    >>> import sparse_rcnn_lab as srl
    >>> image = srl.open_data("shapes", "val")[6].image
    >>> found = [srl.load(name)(image, threshold=0.5) for name in ("nano-shapes", "small-cards")]
    >>> detection_panels(found, image, ["shapes", "cards"]).axes[0].texts[0].get_text()
    'shapes · 3 found'
    """
    if isinstance(images, list | tuple):
        shown = [read_image(image) for image in images]
    else:
        shown = [read_image(images)] * len(found)
    if not found or len(shown) != len(found) or len(names) != len(found):
        raise LabError(
            f"Panels need one image and one name for each result, found {len(found)} results, "
            f"{len(shown)} images and {len(names)} names."
        )
    columns = max(1, min(columns, len(found)))
    rows = -(-len(found) // columns)
    w = (width - _GAP * (columns + 1)) / columns
    text = max(1.0, _LETTERS * 42 / 72 / w)  # labels are 1/42 of the image high
    ratios = [min(max(p.shape[1] / p.shape[2], WIDEST), TALLEST) for p in shown]
    h = w * max(ratios)
    head = 0.08 + 0.28 * bool(title) + 0.26 * bool(detail)
    page = Page(width, head + rows * (h + _NAME) + _GAP, theme)
    if title or detail:
        page.write_title(title or detail, detail if title else "")
    for i, (detections, image, name) in enumerate(zip(found, shown, names, strict=True)):
        row, column = divmod(i, columns)
        drawn = draw_detections(
            image, detections, gt_boxes=gt_boxes, min_side=_SIDE, scores=scores, text=text
        )
        left, high = _GAP + column * (w + _GAP), w * ratios[i]
        top = _GAP + (rows - row) * (h + _NAME) - _NAME
        axes = page.place(left, top - high, w, high)
        axes.imshow(drawn, aspect="auto")
        axes.set_axis_off()
        count = f" · {len(detections)} {word}"
        axes.text(
            0, 1 + 0.06 / high, shorten(name, 9.5, w * 72 - 58) + count, size=9.5, color=page.ink,
            transform=axes.transAxes, va="bottom",
        )  # fmt: skip
    return page


def trace_panels(
    traces: Sequence[Trace],
    names: Sequence[str],
    *,
    threshold: float = 0.5,
    stages: Sequence[int] | int | None = None,
    columns: int = 4,
    width: float = 11.0,
    theme: Theme = "light",
    title: str | None = None,
) -> Page:
    """The detections of several traces side by side; see :func:`detection_panels`.

    threshold: lowest score of a detection, 0..1.  stages: one for each trace, or one for all, 1..S;
    default: the last.  Raises LabError for a trace that was saved without its image, and when the
    numbers of stages and traces differ.

    >>> import sparse_rcnn_lab as srl
    >>> trace = srl.load("nano-shapes").trace(srl.open_data("shapes", "val")[6])
    >>> page = trace_panels([trace] * 2, ["first", "last"], stages=[2, 6])
    >>> [axes.texts[0].get_text() for axes in page.axes]
    ['first · 0 found', 'last · 3 found']
    """
    for_all = stages is None or isinstance(stages, int)
    at: Any = [stages] * len(traces) if for_all else stages
    if len(at) != len(traces):
        raise LabError(f"Give one stage per trace, found {len(at)} for {len(traces)} traces.")
    found = [trace.detections(s, threshold) for trace, s in zip(traces, at, strict=True)]
    return detection_panels(
        found, [need_image(trace) for trace in traces], names, columns=columns, width=width,
        theme=theme, title=title, detail=f"detections with a score of at least {threshold:g}",
    )  # fmt: skip


def match_frames(
    traces: Mapping[int, Trace],
    *,
    stage: int | None = None,
    columns: int = 4,
    side: float = 2.2,
    theme: Theme = "light",
    title: str | None = None,
) -> Page:
    """One image during a training: the proposal that each object is matched to, and its box.

    A box has the proposal's id and the colour of its object's class, or the accent colour where the
    object had another proposal at the snapshot before. Ground truth is dashed.

    traces: step -> trace of this image, as in the entries of
    :func:`sparse_rcnn_lab.analysis.matches_over_training`.  stage: 1..S, default: the last.
    side: inches.

    >>> import sparse_rcnn_lab as srl
    >>> from sparse_rcnn_lab import analysis
    >>> (trace,) = analysis.traces_of(srl.load("nano-shapes"), srl.Shapes(2), [1])
    >>> page = match_frames({0: trace, 100: trace})
    """
    if not isinstance(traces, Mapping) or not traces:
        raise LabError("There are no traces to draw: give them by their steps, as {0: trace}.")
    steps = sorted(traces)
    first = traces[steps[0]]
    stage = first.check_stage(stage)
    columns = max(1, min(columns, len(steps)))
    rows = -(-len(steps) // columns)
    tall = side * aspect(first)
    page = Page(max(3.4, 0.24 + columns * (side + 0.08)), HEAD + rows * (tall + 0.3) + 0.1, theme)
    page.write_title(
        title or "Who is matched, over a training",
        f"stage {stage} · number: the proposal · accent: another one than before",
    )
    total = page.get_size_inches()[1]
    before: list[int] | None = None
    for place, step in enumerate(steps):
        line, column = divmod(place, columns)
        x, y = 0.12 + column * (side + 0.08), total - HEAD - (line + 1) * (tall + 0.3) + 0.06
        axes = page.place(x, y, side, tall)
        now = matched_proposals(traces[step])[traces[step].check_stage(stage) - 1].tolist()
        _matches(axes, traces[step], stage, now, before)
        text = shorten(f"step {step}", 8.5, side * 72)
        axes.set_title(text, size=8.5, color=page.ink, loc="left", pad=3)
        before = now
    return page


def _matches(
    axes: Axes, trace: Trace, stage: int, now: list[int], before: list[int] | None
) -> None:
    show_image(axes, trace, fade=0.45)
    truth, labels = trace.truth()
    boxes, texts, colors = [], [], []
    for number, proposal in enumerate(now):
        outline(axes, truth[number], style.GROUND_TRUTH_COLOR, dashed=True, line=1.0)
        if proposal < 0:
            continue
        flipped = before is not None and before[number] != proposal
        color = style.ACCENT if flipped else style.class_color(int(labels[number]))
        box = trace.boxes[stage, trace.row(proposal)]
        outline(axes, box, color, line=1.6)
        if box.isfinite().all():
            boxes.append(box.tolist())
            texts.append(str(proposal))
            colors.append(color)
    write_labels(axes, boxes, texts, colors, 6.5)
