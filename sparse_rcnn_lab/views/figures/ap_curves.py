"""AP over the two dials, proposals and stages, and what they cost."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator

from sparse_rcnn_lab.analysis.table import Table
from sparse_rcnn_lab.views import style
from sparse_rcnn_lab.views.figures.canvas import HEAD, Page
from sparse_rcnn_lab.views.figures.series import (
    MARKERS,
    name_ends,
    need_rows,
    plot_series,
    series_color,
    unit_axis,
)
from sparse_rcnn_lab.views.style import Theme

_LEFT, _BOTTOM, _NAMES, _GAP = 0.6, 0.52, 0.95, 0.2


def dial_curves(
    curve: Table,
    *,
    width: float = 9.5,
    theme: Theme = "light",
    title: str | None = None,
) -> Page:
    """AP by the number of proposals, one line an order; and AP against time, one line a stage.

    curve: of :func:`sparse_rcnn_lab.analysis.ap_curve`. Orders named "random ..." are drawn thin.
    The right panel is that of the first order.  width: inches.  title: in place of the usual one.
    """
    need_rows(curve, "curve")
    orders = list(dict.fromkeys(curve["order"]))
    stages = sorted(set(curve["stage"]))
    page = Page(width, 0.42 * width + 0.3, theme)
    page.write_title(
        title or "The two dials: proposals and stages",
        f"{curve.title} · left: after stage {stages[-1]} · right: order {orders[0]}",
    )
    room = (width - 2 * _LEFT - _NAMES - _GAP) / 2
    height = 0.42 * width + 0.3 - _BOTTOM - HEAD
    top = max(value for value in curve["AP"] if value is not None)
    left = page.place(_LEFT, _BOTTOM, room, height)
    page.dress(left)
    left.set_xscale("log")
    numbers = sorted(set(curve["n"]))
    left.xaxis.set_major_locator(FixedLocator(_apart(numbers)))
    left.xaxis.set_minor_locator(NullLocator())
    left.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    left.set(xlabel="proposals kept", ylabel="AP (0 to 1)")
    unit_axis(left, top)
    named = [order for order in orders if not order.startswith("random ")]
    for order in orders:
        rows = curve.where(order=order, stage=stages[-1]).sorted("n")
        blind = order not in named
        index = 0 if blind else named.index(order)
        plot_series(left, index, rows["n"], rows["AP"], color=page.faded if blind else None)
    left.set_xlim(numbers[0] * 0.9, numbers[-1] * 1.08)
    _legend(page, left, named, len(orders) > len(named))
    right = page.place(2 * _LEFT + room + _GAP, _BOTTOM, room, height)
    page.dress(right)
    right.set(xlabel="milliseconds a picture", ylabel="AP (0 to 1)")
    unit_axis(right, top)
    for stage in stages:
        rows = curve.where(order=orders[0], stage=stage).sorted("n")
        color = style.stage_color(stage, stages[-1])
        right.plot(
            rows["ms"], [v if v is not None else float("nan") for v in rows["AP"]],
            color=color, marker="o", markersize=4.5, markeredgecolor=page.ink,
            markeredgewidth=0.5, linewidth=1.8,
        )  # fmt: skip
    right.margins(x=0.04)
    ends = [curve.where(order=orders[0], stage=s).sorted("n")["AP"][-1] for s in stages]
    name_ends(page, right, ends, [f"stage {stage}" for stage in stages])
    return page


def _apart(numbers: list[int]) -> list[int]:
    """Those that leave room for their names on a log axis."""
    kept: list[int] = []
    for number in reversed(numbers):
        if not kept or number <= kept[-1] * 0.8 or (number == numbers[0] and number < kept[-1]):
            kept.append(number)
    return kept


def _legend(page: Page, axes: Axes, named: list[str], blind: bool) -> None:
    """Which order has which colour: lower right, where few curves go."""
    lines = [(name, series_color(i), MARKERS[i % len(MARKERS)]) for i, name in enumerate(named)]
    if blind:
        lines.append(("random orders", page.faded, MARKERS[0]))
    for line, (name, color, marker) in enumerate(reversed(lines)):
        y = 0.05 + 0.07 * line
        axes.plot(
            0.62, y, marker, color=color, markersize=5, transform=axes.transAxes, clip_on=False
        )
        axes.text(0.66, y, name, size=8.5, color=page.ink, va="center", transform=axes.transAxes)
