"""What changes while a model trains: starting boxes, matches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from matplotlib.axes import Axes

from sparse_rcnn_lab.analysis.outcomes import matched_proposals
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
from sparse_rcnn_lab.views.figures.named_lines import (
    MARKERS,
    key,
    name_ends,
    need_rows,
    series_color,
    stage_line,
    unit_axis,
)
from sparse_rcnn_lab.views.style import Theme

if TYPE_CHECKING:
    from sparse_rcnn_lab.analysis.table import Table

_PANELS = (
    ("AP", "AP at the last stage (0 to 1)"),
    ("moved", "mean way of the centres (sides)"),
    ("width", "mean width (of the image's)"),
)
_STARTS = {"image": "whole image", "kmeans": "k-means of the objects"}
_COLUMNS = {"since_snapshot": "since the snapshot before", "since_stage": "since the stage before"}


def initialisation_curves(
    table: Table,
    *,
    width: float = 10.5,
    theme: Theme = "light",
    title: str | None = None,
) -> Page:
    """How a training goes from different starting boxes: AP, and what becomes of the boxes.

    table: of :func:`sparse_rcnn_lab.analysis.initialisation_lab`. One line a start, dashed where
    the boxes are frozen; the mean over the seeds.

    >>> from sparse_rcnn_lab.analysis import Table
    >>> row = {"start": "grid", "boxes": "learned", "seed": 0, "step": 9, "stage": 6, "AP": 0.5}
    >>> row |= {"moved": 0.1, "width": 0.3}
    >>> page = initialisation_curves(Table.of("Starts", [row], dict.fromkeys(row, "")))
    """
    need_rows(table, "training")
    starts = list(table.start.unique())
    last = int(table.stage.max())
    seeds = table.seed.nunique()
    high = 0.29 * width + 0.3
    page = Page(width, high + 0.3, theme)
    said = f"stage {last} · dashed: frozen boxes" + (f" · mean of {seeds} seeds" * (seeds > 1))
    page.write_title(title or "Where learned boxes start", f"{table.title} · {said}")
    room = (width - 0.6 - 2 * 0.65 - 0.15) / 3
    # Rows of boxes alone have no stage; box columns are the same at every stage.
    means = table[table.stage.isna() | (table.stage == last)].groupby(
        ["start", "boxes", "step"], sort=False
    )
    means = means[[column for column, _ in _PANELS]].mean()
    for place, (column, label) in enumerate(_PANELS):
        axes = page.place(0.6 + place * (room + 0.65), 0.82, room, high - 0.52 - HEAD)
        page.dress(axes)
        axes.set(xlabel="step", ylabel=label)
        shown = means[column].dropna()
        if column != "AP":
            shown = shown[shown.index.get_level_values("boxes") == "learned"]
        for (start, boxes), line in shown.groupby(level=["start", "boxes"], sort=False):
            index = starts.index(start)
            axes.plot(
                line.index.get_level_values("step"), line, color=series_color(index),
                marker=MARKERS[index], markersize=4.5, linewidth=1.8, gid="series",
                linestyle="--" if boxes == "frozen" else "-",
            )  # fmt: skip
        unit_axis(axes, shown.max() if len(shown) else 0.0)
    key(page, [(_STARTS.get(s, s), MARKERS[i], series_color(i)) for i, s in enumerate(starts)])
    return page


def instability_curves(
    table: Table,
    *,
    column: str = "since_snapshot",
    width: float = 7.0,
    theme: Theme = "light",
    title: str | None = None,
) -> Page:
    """The share of objects that change their proposal, one line a stage, over the training.

    table: of :func:`sparse_rcnn_lab.analysis.matching_instability`.  column: "since_snapshot" or
    "since_stage", the one before.

    >>> from sparse_rcnn_lab.analysis import Table
    >>> row = {"step": 9, "stage": 6, "objects": 3, "since_snapshot": 0.5}
    >>> page = instability_curves(Table.of("Matches", [row], dict.fromkeys(row, "")))
    """
    need_rows(table, "match")
    if column not in _COLUMNS:
        raise LabError(f"column must be {' or '.join(_COLUMNS)}, found {column!r}.")
    page = Page(width, 0.52 * width + 0.2, theme)
    page.write_title(
        title or "How often an object changes its proposal",
        f"{_COLUMNS[column]} · {table.objects.iloc[0]} objects",
    )
    axes = page.place(0.6, 0.52, width - 0.6 - 1.0, 0.52 * width + 0.2 - 0.52 - HEAD)
    page.dress(axes)
    shown = table[table[column].notna()]
    ends, names = [], []
    for stage, rows in shown.groupby("stage"):
        color = style.stage_color(stage, table.stage.max())
        stage_line(page, axes, rows.step, rows[column], color)
        ends.append(rows[column].iloc[-1])
        names.append(f"stage {stage}")
    unit_axis(axes, shown[column].max() if len(shown) else 0.0)
    axes.set(xlabel="step", ylabel="share of the objects (0 to 1)")
    name_ends(page, axes, ends, names)
    return page


def match_frames(
    traces: Mapping[int, Trace],
    *,
    stage: int | None = None,
    columns: int = 4,
    side: float = 2.2,
    theme: Theme = "light",
    title: str | None = None,
) -> Page:
    """One image over a training: the proposal that each object is matched with, and its box.

    A box is in the colour of its object's class and bears the proposal's id; in the accent colour
    where the object had another proposal at the snapshot before. Ground truth is dashed.

    traces: step -> trace of this image, as one entry each of
    :func:`sparse_rcnn_lab.analysis.matches_over_training`.  stage: 1..S, default the last.
    side: inches.

    >>> import sparse_rcnn_lab as srl
    >>> from sparse_rcnn_lab import analysis
    >>> (trace,) = analysis.traces_of(srl.load("nano-shapes"), srl.Shapes(2), [1])
    >>> page = match_frames({0: trace, 100: trace})
    """
    if not traces:
        raise LabError("There are no traces to draw.")
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
        now = matched_proposals(traces[step])[stage - 1].tolist()
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
