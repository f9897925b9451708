"""The parts that figures of tables share: the lines of several series, the key, the axes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from pandas import DataFrame

from sparse_rcnn_lab.analysis.table import Table
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.views.figures.canvas import Page

# A series has neither a stage's nor a class's colour. These colours are safe for the colour-blind
# and on both themes; markers distinguish them in grey print.
SERIES = ("#2f7ed8", "#c2621b", "#2a9d6f", "#9a5fc0", "#a3822a", "#cf4b6b")
MARKERS = "osD^vP*XhpH<"  # these distinguish lines of the same colour


def unit_axis(axes: Axes, most: float) -> None:
    """Sets a y axis from 0 to a little above ``most``, which is at most 1 (AP and shares)."""
    top = min(1.0, max(0.1, most * 1.08))
    axes.set_ylim(-0.02 * top, top * 1.02)


def key(
    page: Page,
    entries: Iterable[tuple[str, str, Any]],
    axes: Axes | None = None,
    **place: Any,
) -> None:
    """Draws the key of each (name, marker, color) in the axes, or in a line at the page's foot."""
    entries = list(entries)
    marks = [Line2D([], [], marker=m, color=c, linestyle="", markersize=6) for _, m, c in entries]
    options: dict[str, Any] = {
        "frameon": False, "fontsize": 8, "labelcolor": page.ink, "handletextpad": 0.1,
        "columnspacing": 0.9, "labelspacing": 0.35, "borderaxespad": 0.2, "loc": "lower right",
    }  # fmt: skip
    if axes is None:
        options |= {"loc": "lower left", "ncols": len(entries), "bbox_to_anchor": (0.01, 0.0)}
    shown = (axes or page).legend(marks, ["-"] * len(marks), **{**options, **place})
    for text, (name, *_) in zip(shown.get_texts(), entries, strict=True):
        text.set(text=name, parse_math=False)  # exactly as given, whatever it begins with


def need_rows(table: Table, what: str, *columns: str) -> None:
    """Raises LabError when a table is empty or lacks these columns, as another analysis's does."""
    if not isinstance(table, DataFrame):
        raise LabError(f"A {what} is drawn from the table of an analysis, found {table!r:.80}.")
    if lacking := [name for name in columns if name not in table]:
        given = f'"{table.attrs.get("title", "")}" has no column {", ".join(lacking)}'
        raise LabError(f"{given}, so there is no {what} to draw. It has {', '.join(table)}.")
    if not len(table):
        raise LabError(f"The table has no rows, so there is no {what} to draw.")
