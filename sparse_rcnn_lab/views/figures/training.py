"""What changes while a model trains: starting boxes, matches."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import mean

from matplotlib.axes import Axes

from sparse_rcnn_lab.analysis.flips import proposals_of_objects
from sparse_rcnn_lab.analysis.table import Table
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.trace import Trace
from sparse_rcnn_lab.views import style
from sparse_rcnn_lab.views.figures.canvas import (
    HEAD,
    Page,
    aspect,
    outline,
    shorten,
    show_image,
    write_labels,
)
from sparse_rcnn_lab.views.figures.series import (
    MARKERS,
    name_ends,
    need_rows,
    series_color,
    unit_axis,
)
from sparse_rcnn_lab.views.style import Theme

_PANELS = (
    ("AP", "AP at the last stage (0 to 1)"),
    ("moved", "mean way of the centres (sides)"),
    ("width", "mean width (of the image's)"),
)


def start_curves(
    table: Table,
    *,
    width: float = 10.5,
    theme: Theme = "light",
    title: str | None = None,
) -> Page:
    """How a training goes from different starting boxes: AP, and what becomes of the boxes.

    table: of :func:`sparse_rcnn_lab.analysis.initialisation_lab`. One line a start, dashed where
    the boxes are frozen; the mean over the seeds.
    """
    need_rows(table, "training")
    starts = list(dict.fromkeys(table["start"]))
    last = max(stage for stage in table["stage"] if stage is not None)
    seeds = len(set(table["seed"]))
    high = 0.29 * width + 0.3
    page = Page(width, high + 0.3, theme)
    said = f"stage {last} · dashed: frozen boxes" + (f" · mean of {seeds} seeds" * (seeds > 1))
    page.write_title(title or "Where learned boxes start", f"{table.title} · {said}")
    room = (width - 0.6 - 2 * 0.65 - 0.15) / 3
    for place, (column, label) in enumerate(_PANELS):
        axes = page.place(0.6 + place * (room + 0.65), 0.82, room, high - 0.52 - HEAD)
        page.dress(axes)
        axes.set(xlabel="step", ylabel=label)
        most = 0.0
        for index, start in enumerate(starts):
            for boxes in ("learned", "frozen"):
                if boxes == "frozen" and column != "AP":
                    continue
                x, y = _means(table.where(start=start, boxes=boxes), column, last)
                if not x:
                    continue
                most = max([most, *y])
                axes.plot(
                    x, y, color=series_color(index), marker=MARKERS[index], markersize=4.5,
                    linewidth=1.8, linestyle="--" if boxes == "frozen" else "-", gid="series",
                )  # fmt: skip
        unit_axis(axes, most)
    _key(page, starts)
    return page


def _means(rows: Table, column: str, stage: int) -> tuple[list[int], list[float]]:
    """Steps and the mean over seeds; box columns are the same at every stage."""
    found: dict[int, list[float]] = {}
    for row in rows.rows():
        if row["stage"] in (stage, None) and row[column] is not None:
            found.setdefault(row["step"], []).append(row[column])
    return sorted(found), [mean(found[step]) for step in sorted(found)]


def _key(page: Page, starts: list[str]) -> None:
    axes = page.place(0.6, 0.08, 8.0, 0.24)
    axes.set(xlim=(0, 8.0), ylim=(0, 0.24))
    axes.set_axis_off()
    x = 0.05
    words = {"image": "whole image", "kmeans": "k-means of the objects"}
    for index, start in enumerate(starts):
        axes.plot(x, 0.12, MARKERS[index], color=series_color(index), markersize=6)
        text = words.get(start, start)
        axes.text(x + 0.1, 0.115, text, size=8.5, color=page.ink, va="center")
        x += 0.4 + 0.075 * len(text)


def flip_curves(
    table: Table,
    *,
    column: str = "flipped",
    width: float = 7.0,
    theme: Theme = "light",
    title: str | None = None,
) -> Page:
    """The share of objects that change their proposal, one line a stage, over the training.

    table: of :func:`sparse_rcnn_lab.analysis.matching_flips`.  column: "flipped" (since the
    snapshot before) or "handed_on" (since the stage before).
    """
    need_rows(table, "flip")
    if column not in ("flipped", "handed_on"):
        raise LabError(f'column must be "flipped" or "handed_on", found {column!r}.')
    words = {"flipped": "since the snapshot before", "handed_on": "since the stage before"}
    page = Page(width, 0.52 * width + 0.2, theme)
    page.write_title(
        title or "How often an object changes its proposal",
        f"{words[column]} · {table['objects'][0]} objects",
    )
    axes = page.place(0.6, 0.52, width - 0.6 - 1.0, 0.52 * width + 0.2 - 0.52 - HEAD)
    page.dress(axes)
    stages = sorted(set(table["stage"]))
    ends, names, most = [], [], 0.0
    for stage in stages:
        rows = [row for row in table.where(stage=stage).rows() if row[column] is not None]
        if not rows:
            continue
        values = [row[column] for row in rows]
        axes.plot(
            [row["step"] for row in rows], values, color=style.stage_color(stage, stages[-1]),
            marker="o", markersize=4.5, markeredgecolor=page.ink, markeredgewidth=0.5,
            linewidth=1.8, gid="series",
        )  # fmt: skip
        ends.append(values[-1])
        names.append(f"stage {stage}")
        most = max([most, *values])
    unit_axis(axes, most)
    axes.set(xlabel="step", ylabel="share of the objects (0 to 1)")
    name_ends(page, axes, ends, names)
    return page


def match_film(
    traces: Mapping[int, Trace],
    *,
    stage: int | None = None,
    columns: int = 4,
    side: float = 2.2,
    theme: Theme = "light",
    title: str | None = None,
) -> Page:
    """One picture over a training: the proposal that each object is matched with, and its box.

    A box is in the colour of its object's class and bears the proposal's id; in the accent colour
    where the object had another proposal at the snapshot before. Ground truth is dashed.

    traces: step -> trace of this picture, as one entry each of
    :func:`sparse_rcnn_lab.analysis.matching_film`.  stage: 1..S, default the last.  side: inches.
    """
    if not traces:
        raise LabError("There are no traces for a film.")
    steps = sorted(traces)
    first = traces[steps[0]]
    stage = first.check_stage(stage)
    columns = min(columns, len(steps))
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
        now = proposals_of_objects(traces[step])[stage - 1].tolist()
        _frame(axes, traces[step], stage, now, before)
        text = shorten(f"step {step}", 8.5, side * 72)
        axes.set_title(text, size=8.5, color=page.ink, loc="left", pad=3)
        before = now
    return page


def _frame(
    axes: Axes,
    trace: Trace,
    stage: int,
    now: list[int],
    before: list[int] | None,
) -> None:
    show_image(axes, trace, fade=0.45)
    assert trace.gt_boxes is not None and trace.gt_labels is not None
    boxes, texts, colors = [], [], []
    for number, proposal in enumerate(now):
        outline(axes, trace.gt_boxes[number], style.GROUND_TRUTH_COLOR, dashed=True, line=1.0)
        if proposal < 0:
            continue
        flipped = before is not None and before[number] != proposal
        color = style.ACCENT if flipped else style.class_color(int(trace.gt_labels[number]))
        box = trace.boxes[stage, trace.row(proposal)]
        outline(axes, box, color, line=1.6)
        if box.isfinite().all():
            boxes.append(box.tolist())
            texts.append(str(proposal))
            colors.append(color)
    write_labels(axes, boxes, texts, colors, 6.5)
