"""Figures of AP and its cost, by proposals and stages, ablation, pruning and early exit, and of the
AP of one stage's features under the heads of another.
"""

from __future__ import annotations

from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator

from sparse_rcnn_lab.analysis.table import Table
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.views import style
from sparse_rcnn_lab.views.figures.canvas import HEAD, HEAT, Page, label_ends, plain
from sparse_rcnn_lab.views.figures.named_lines import (
    MARKERS,
    SERIES,
    key,
    need_rows,
    unit_axis,
)
from sparse_rcnn_lab.views.style import Theme

_READINGS = {
    "both": "class and box read with them",
    "class": "class read with them, own box",
    "box": "box read with them, own class",
}
_AXES = {
    "stages": "stages run (mean over the images)",
    "stages_ms": "milliseconds in the stages, an image",
    "ms": "milliseconds an image",
    "work": "proposals through stages, relative to all",
}


def ap_curves(
    curve: Table, *, width: float = 9.5, theme: Theme = "light", title: str | None = None
) -> Page:
    """AP by the number of proposals, one line per order; and against work, one line per stage.

    Work is proposals x stages, as the times of small models say more about the machine.

    curve: the result of :func:`sparse_rcnn_lab.analysis.ap_curve`. Orders named "random ..." are
    drawn thin. The right panel shows the first order.  width: inches.  title: replaces the usual
    one.

    >>> from sparse_rcnn_lab.analysis import Table
    >>> rows = [{"order": "own", "n": n, "stage": 6, "AP": n / 20, "ms": n} for n in (1, 10, 20)]
    >>> page = ap_curves(Table.of("AP", rows, dict.fromkeys(rows[0], "")))
    """
    need_rows(curve, "curve", "order", "stage", "n", "AP")
    orders = list(curve.order.unique())
    stages = sorted(curve.stage.unique())
    page = Page(width, 0.42 * width + 0.3, theme)
    page.write_title(
        title or "AP by proposals and stages",
        f"{curve.title} · left: after stage {stages[-1]} · right: order {orders[0]}",
    )
    room, height = (width - 1.2 - 0.95 - 0.2) / 2, 0.42 * width + 0.3 - 0.52 - HEAD
    left = page.place(0.6, 0.52, room, height)
    right = page.place(1.2 + room + 0.2, 0.52, room, height)
    for axes, label in ((left, "proposals kept"), (right, "work: proposals × stages")):
        page.dress(axes)
        axes.set(xlabel=label, ylabel="AP (0 to 1)")
        unit_axis(axes, curve.AP.max())
    left.set_xscale("log")
    numbers = sorted(curve.n.unique())
    left.xaxis.set_major_locator(FixedLocator(_apart(numbers)))
    left.xaxis.set_minor_locator(NullLocator())
    left.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    named = [order for order in orders if not order.startswith("random ")]
    marks = list(zip(named, cycle(MARKERS), cycle(SERIES)))
    for order in orders:
        rows = curve[(curve.order == order) & (curve.stage == stages[-1])].sort_values("n")
        blind = order not in named
        _, marker, color = marks[0 if blind else named.index(order)]
        left.plot(
            rows.n, rows.AP, color=page.faded if blind else color, marker=marker,
            markersize=3.0 if blind else 5.0, linewidth=0.9 if blind else 1.9,
            alpha=0.5 if blind else 1.0, zorder=2 if blind else 3, gid="series",
        )  # fmt: skip
    left.set_xlim(numbers[0] * 0.9, numbers[-1] * 1.08)
    if len(orders) > len(named):
        marks.append(("random orders", MARKERS[0], page.faded))
    key(page, marks, left)
    ends = []
    for stage in stages:
        rows = curve[(curve.order == orders[0]) & (curve.stage == stage)].sort_values("n")
        right.plot(
            rows.n * stage, rows.AP, color=style.stage_color(stage, stages[-1]), marker="o",
            markersize=4.5, markeredgecolor=page.ink, markeredgewidth=0.5, linewidth=1.8,
            gid="series",
        )  # fmt: skip
        ends.append(rows.AP.iloc[-1])
    right.margins(x=0.04)
    label_ends(page, right, ends, [f"stage {stage}" for stage in stages])
    return page


def _apart(numbers: list[int]) -> list[int]:
    """The numbers that leave room for their names on a log axis."""
    kept: list[int] = []
    for number in reversed(numbers):
        if not kept or number <= kept[-1] * 0.8 or (number == numbers[0] and number < kept[-1]):
            kept.append(number)
    return kept


def ablation_bars(
    table: Table,
    *,
    stage: int | None = None,
    width: float = 8.0,
    theme: Theme = "light",
    title: str | None = None,
) -> Page:
    """AP with each part switched off, and duplicate detections per object found.

    table: the result of :func:`sparse_rcnn_lab.analysis.ablation_costs`.  stage: default: the last
    one in it.

    >>> from sparse_rcnn_lab.analysis import Table
    >>> rows = [{"ablation": "no self-attention", "stage": 6, "AP": 0.1, "duplicates": 0.2}]
    >>> page = ablation_bars(Table.of("Ablations", rows, dict.fromkeys(rows[0], "")))
    """
    need_rows(table, "ablation", "ablation", "stage", "AP", "duplicates")
    stage = table.stage.max() if stage is None else stage
    rows = table[table.stage == stage]
    if not len(rows):
        raise LabError(f"The table has no stage {stage}; it has {sorted(set(table.stage))}.")
    high = 0.36 * len(rows)
    page = Page(width, high + HEAD + 0.7, theme)
    page.write_title(title or "What each part is worth", f"{table.title} · stage {stage}")
    names = 1.55  # inches
    room = (width - names - 0.75) / 2
    places = range(len(rows))
    for column, x, color, digits, label in (
        ("AP", names, SERIES[0], 3, "AP (0 to 1)"),
        ("duplicates", names + room + 0.4, SERIES[3], 2, "duplicates for each object found"),
    ):
        axes = page.place(x, 0.55, room, high)
        page.dress(axes)
        axes.grid(axis="y", visible=False)
        values = rows[column].fillna(0.0)
        axes.barh(places, values, 0.62, color=color, gid=column)
        most = max(values.max(), 0.1)
        for place, value in enumerate(rows[column]):
            text = "–" if np.isnan(value) else f"{value:.{digits}f}"
            end = values.iloc[place] + 0.02 * most
            axes.text(end, place, text, size=8, color=page.ink, va="center")
        axes.set(xlim=(0, most * 1.2), ylim=(len(rows) - 0.5, -0.5), xlabel=label)
        axes.set_yticks(places, [plain(name) if column == "AP" else "" for name in rows.ablation])
        for tick in axes.get_yticklabels():
            tick.set(color=page.ink, size=9)
    return page


def trade_off(
    table: Table,
    *,
    across: str | None = None,
    width: float = 7.0,
    theme: Theme = "light",
    title: str | None = None,
) -> Page:
    """AP against its cost, one named point per row.

    table: the result of :func:`sparse_rcnn_lab.analysis.proposal_pruning` or
    :func:`sparse_rcnn_lab.analysis.early_exit`.  across: the column of the cost; default:
    "stages" (mean number of stages) where there is one, else "stages_ms".

    >>> from sparse_rcnn_lab.analysis import Table
    >>> rows = [{"schedule": "20 10", "AP": 0.8, "stages_ms": 3.0}]
    >>> page = trade_off(Table.of("Pruning", rows, dict.fromkeys(rows[0], "")))
    """
    need_rows(table, "trade-off", "AP")
    across = across or ("stages" if "stages" in table else "stages_ms")
    if across not in table:
        raise LabError(f'"{table.title}" has no column {across!r}. It has {", ".join(table)}.')
    name = "schedule" if "schedule" in table else "rule"
    page = Page(width, 0.55 * width + 0.2, theme)
    page.write_title(title or "What it costs, what it brings", table.title)
    axes = page.place(0.6, 0.52, width - 0.6 - 1.75, 0.55 * width + 0.2 - 0.52 - HEAD)
    page.dress(axes)
    table = table.assign(AP=table.AP.fillna(0.0)).sort_values(across)
    fixed = table[name].str.startswith("always")
    for index, rows in enumerate((table[fixed], table[~fixed])):
        axes.plot(
            rows[across], rows.AP, marker="so"[index], color=SERIES[index],
            linestyle="-" if name == "rule" else "", markersize=6, linewidth=1.6, zorder=3,
            gid="points",
        )  # fmt: skip
    unit_axis(axes, table.AP.max())
    axes.margins(x=0.06)
    axes.set(xlabel=_AXES.get(across, across), ylabel="AP (0 to 1)")
    if name == "rule":
        _tolerances(page, axes, table[~fixed], across)
    else:
        columns = table.AP, table[name], table[across]
        ends, names, starts = map(list, columns)
        label_ends(page, axes, ends, names, starts=starts, size=8.0)
    return page


def _tolerances(page: Page, axes: Axes, settled: Table, across: str) -> None:
    """Writes each tolerance below its point where there is room, and the key of the two lines."""
    left, right = axes.get_xlim()
    last = None
    for x, y, tolerance in settled[[across, "AP", "tolerance"]].itertuples(index=False):
        if last is not None and x - last < 0.06 * (right - left):
            continue
        last = x
        axes.annotate(
            f"{tolerance:g}", (x, y), (0, -13), textcoords="offset points", size=8,
            color=page.ink, ha="center",
        ).set_gid("label")  # fmt: skip
    entries = [
        ("numbers: tolerance, what may still change", "", page.faded),
        ("every image stops at the same stage", "s", SERIES[0]),
        ("stops when settled", "o", SERIES[1]),
    ]
    key(page, entries, axes)


def readout_matrices(
    table: Table,
    *,
    metric: str = "AP",
    width: float = 9.5,
    theme: Theme = "light",
    title: str | None = None,
) -> Page:
    """Three square tables: a row is the stage of the features, a column the stage of the heads.

    table: the result of :func:`sparse_rcnn_lab.analysis.cross_stage_readout`.  metric: "AP" or
    "AP50".

    >>> from sparse_rcnn_lab.analysis import Table
    >>> rows = [{"features": 1, "heads": 1, "reading": "both", "AP": 0.5}]
    >>> page = readout_matrices(Table.of("Readout", rows, dict.fromkeys(rows[0], "")))
    """
    need_rows(table, "readout", "reading", "features", "heads", metric)
    readings = list(table.reading.unique())
    side = (width - 0.55 - 0.25 - 0.3 * (len(readings) - 1)) / len(readings)
    page = Page(width, side + HEAD + 0.85, theme)
    page.write_title(
        title or "Features of one stage under the heads of another", f"{table.title} · {metric}"
    )
    for place, reading in enumerate(readings):
        axes = page.place(0.55 + place * (side + 0.3), 0.52, side, side)
        page.dress(axes)
        axes.grid(visible=False)
        rows = table[table.reading == reading]
        grid = rows.pivot(index="features", columns="heads", values=metric)
        image = axes.imshow(grid, cmap=HEAT, vmin=0, vmax=max(0.01, table[metric].max()))
        for (i, j), value in np.ndenumerate(grid.to_numpy()):
            color = image.cmap(image.norm(value))
            shade = "#" + "".join(f"{round(255 * part):02x}" for part in color[:3])
            text = "–" if np.isnan(value) else style.score_text(float(value))
            axes.text(j, i, text, size=8, color=style.text_color(shade), ha="center", va="center")
        axes.set_xticks(range(len(grid.columns)), grid.columns)
        axes.set_yticks(range(len(grid)), grid.index)
        axes.set(xlabel="heads of stage", ylabel="" if place else "features of stage")
        axes.set_title(_READINGS[reading], size=8.5, color=page.ink, loc="left", pad=4)
    return page
