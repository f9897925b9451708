"""AP over the two dials, proposals and stages, and what they cost."""

from __future__ import annotations

from matplotlib.ticker import FixedLocator, NullLocator

from sparse_rcnn_lab.analysis.table import Table
from sparse_rcnn_lab.views import style
from sparse_rcnn_lab.views.figures.canvas import HEAD, Page, Theme
from sparse_rcnn_lab.views.figures.series import name_ends, need_rows, plot_series, unit_axis

_LEFT, _BOTTOM, _NAMES, _GAP = 0.6, 0.52, 1.15, 0.75


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
    last = f"after stage {stages[-1]}" if len(orders) > 1 or len(stages) > 1 else ""
    page.write_title(
        title or "The two dials: proposals and stages",
        " · ".join(filter(None, [curve.title, f"left: {last}", f"right: order {orders[0]}"])),
    )
    room = (width - _LEFT - 2 * _NAMES - _GAP) / 2
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
    ends, names = [], []
    for index, order in enumerate(orders):
        rows = curve.where(order=order, stage=stages[-1]).sorted("n")
        blind = order.startswith("random ")
        plot_series(left, index, rows["n"], rows["AP"], faint=blind)
        if not blind:
            # All orders meet at the full number: named where they differ.
            ends.append(rows["AP"][-1])
            names.append(order)
    left.set_xlim(numbers[0] * 0.9, numbers[-1] * 1.08)
    name_ends(page, left, ends, names)
    right = page.place(_LEFT + room + _NAMES + _GAP, _BOTTOM, room, height)
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
