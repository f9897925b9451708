"""What the figures of tables share: lines of several series, named at their right ends."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.views.figures.canvas import Page, label_ends

# Neither stages' nor classes' colours: a series is something else. Told apart by everyone, and on
# both pages; markers tell them apart in grey print.
SERIES = ("#2f7ed8", "#c2621b", "#2a9d6f", "#9a5fc0", "#a3822a", "#cf4b6b")
MARKERS = "osD^vP*XhpH<"  # lines of one colour are told apart by these


def series_color(index: int) -> str:
    """Colour of the series with this number, from 0; they repeat after six."""
    return SERIES[index % len(SERIES)]


def plot_series(
    axes: Axes,
    index: int,
    x: Sequence[float],
    y: Sequence[float | None],
    color: str | None = None,
) -> None:
    """One line with its markers; a value of None is a gap.

    color: in place of the series' own; the line is then thin, in the background.
    """
    values = [float("nan") if value is None else value for value in y]
    axes.plot(
        x, values, color=color or series_color(index), marker=MARKERS[index % len(MARKERS)],
        markersize=3.0 if color else 5.0, linewidth=0.9 if color else 1.9,
        alpha=0.5 if color else 1.0, zorder=2 if color else 3, gid="series",
    )  # fmt: skip


def name_ends(page: Page, axes: Axes, ends: Sequence[float | None], names: Sequence[str]) -> None:
    """The names of lines beside where they end, inside the y range of the axes."""
    low, high = axes.get_ylim()
    values = [float("nan") if end is None else end for end in ends]
    label_ends(page, axes, values, names, low, high)


def unit_axis(axes: Axes, most: float = 1.0) -> None:
    """A y axis from 0 to a little above ``most``, 1 at most (AP and shares)."""
    top = min(1.0, max(0.1, most * 1.08))
    axes.set_ylim(-0.02 * top, top * 1.02)


def need_rows(table: object, what: str) -> None:
    """Raises LabError when a table is empty."""
    if not len(table):  # type: ignore[arg-type]
        raise LabError(f"The table has no rows, so there is no {what} to draw.")
