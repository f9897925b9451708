"""What something costs and what it brings: ablation, funnel, adaptive stop."""

from __future__ import annotations

from matplotlib.axes import Axes

from sparse_rcnn_lab.analysis.table import Table
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.views.figures.canvas import HEAD, Page, plain
from sparse_rcnn_lab.views.figures.series import SERIES, need_rows, unit_axis
from sparse_rcnn_lab.views.style import Theme
from sparse_rcnn_lab.views.text_layout import spread

_NAMES = 1.55  # inches for the names of the bars


def switch_bars(
    table: Table,
    *,
    stage: int | None = None,
    width: float = 8.0,
    theme: Theme = "light",
    title: str | None = None,
) -> Page:
    """AP with each part switched off, and superfluous detections an object.

    table: of :func:`sparse_rcnn_lab.analysis.switch_costs`.  stage: default the last in it.
    """
    need_rows(table, "switch")
    stage = max(table["stage"]) if stage is None else stage
    rows = table.where(stage=stage)
    if not len(rows):
        raise LabError(f"The table has no stage {stage}; it has {sorted(set(table['stage']))}.")
    high = 0.36 * len(rows)
    page = Page(width, high + HEAD + 0.7, theme)
    page.write_title(title or "What each part is worth", f"{table.title} · stage {stage}")
    room = (width - _NAMES - 0.75) / 2
    places = list(range(len(rows)))
    for column, x, color, digits, label in (
        ("AP", _NAMES, SERIES[0], 3, "AP (0 to 1)"),
        ("duplicates", _NAMES + room + 0.4, SERIES[3], 2, "duplicates for each object found"),
    ):
        axes = page.place(x, 0.55, room, high)
        page.dress(axes)
        axes.grid(axis="y", visible=False)
        values = [0.0 if value is None else value for value in rows[column]]
        axes.barh(places, values, 0.62, color=color, gid=column)
        most = max([*values, 0.1])
        for place, value in zip(places, rows[column], strict=True):
            text = "–" if value is None else f"{value:.{digits}f}"
            axes.text(
                (value or 0.0) + 0.02 * most, place, text, size=8, color=page.ink, va="center"
            )
        axes.set(xlim=(0, most * 1.2), ylim=(len(rows) - 0.5, -0.5), xlabel=label)
        names = [plain(name) if column == "AP" else "" for name in rows["switch"]]
        axes.set_yticks(places, names)
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
    """AP against what it costs, one named point a row.

    table: of :func:`sparse_rcnn_lab.analysis.funnel` or
    :func:`sparse_rcnn_lab.analysis.adaptive_stop`.  across: the column of the cost; default
    "stages" (mean number of stages) where there is one, else "stages_ms".
    """
    need_rows(table, "trade-off")
    across = across or ("stages" if "stages" in table.columns else "stages_ms")
    name = "schedule" if "schedule" in table.columns else "rule"
    page = Page(width, 0.55 * width + 0.2, theme)
    page.write_title(title or "What it costs, what it brings", table.title)
    axes = page.place(0.6, 0.52, width - 0.6 - 1.75, 0.55 * width + 0.2 - 0.52 - HEAD)
    page.dress(axes)
    x, y = table[across], [0.0 if ap is None else ap for ap in table["AP"]]
    fixed = [str(word).startswith("always") for word in table[name]]
    for index, chosen in enumerate((True, False)):
        at = sorted((i for i in range(len(table)) if fixed[i] is chosen), key=lambda i: x[i])
        axes.plot(
            [x[i] for i in at], [y[i] for i in at], marker="so"[index], color=SERIES[index],
            linestyle="-" if name == "rule" else "", markersize=6, linewidth=1.6, zorder=3,
            gid="points",
        )  # fmt: skip
    unit_axis(axes, max(y))
    axes.margins(x=0.06)
    axes.set(xlabel=_label(across), ylabel="AP (0 to 1)")
    if name == "rule":
        _tolerances(page, axes, table, x, y)
    else:
        _named(page, axes, x, y, table[name])
    return page


def _tolerances(page: Page, axes: Axes, table: Table, across: list[float], up: list[float]) -> None:
    """Each tolerance below its point where there is room, and what the two lines are."""
    points = [
        (x, y, t) for x, y, t in zip(across, up, table["tolerance"], strict=True) if t is not None
    ]
    room = 0.07 * (max(across) - min(across))
    last = None
    for x, y, tolerance in sorted(points):
        if last is not None and x - last < room:
            continue
        last = x
        axes.annotate(
            f"{tolerance:g}", (x, y), (0, -13), textcoords="offset points", size=8,
            color=page.ink, ha="center",
        ).set_gid("label")  # fmt: skip
    for line, words in enumerate(("every picture stops at the same stage", "stops when settled")):
        y = 0.13 - 0.07 * line
        axes.plot(0.4, y, "so"[line], color=SERIES[line], markersize=6, transform=axes.transAxes)
        _say(axes, y, words, page.ink)
    _say(axes, 0.2, "numbers: tolerance, what may still change", page.faded)


def _say(axes: Axes, y: float, words: str, color: str) -> None:
    axes.text(0.43, y, words, size=8.5, color=color, va="center", transform=axes.transAxes)


def _named(page: Page, axes: Axes, x: list[float], y: list[float], words: list[str]) -> None:
    """The names of the points in a column to the right, kept apart."""
    low, high = axes.get_ylim()
    height = axes.get_position().height * page.get_size_inches()[1]
    left, edge = axes.get_xlim()
    for i, place in enumerate(spread(y, 8.0 * 1.3 / 72 * (high - low) / height, low, high)):
        axes.annotate(
            words[i], (x[i], y[i]), (edge + 0.02 * (edge - left), place), size=8,
            color=page.ink, va="center", annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": page.faded, "linewidth": 0.5, "shrinkA": 0,
                        "shrinkB": 3, "relpos": (0, 0.5)},
        ).set_gid("label")  # fmt: skip


def _label(column: str) -> str:
    known = {
        "stages": "stages run (mean over the pictures)",
        "stages_ms": "milliseconds in the stages, a picture",
        "ms": "milliseconds a picture",
        "work": "proposals through stages, relative to all",
    }
    return known.get(column, column)
