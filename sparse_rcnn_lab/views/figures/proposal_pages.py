"""Figures of what proposals do over many images: a page of all of them, and a page for each."""

from __future__ import annotations

import math
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from sparse_rcnn_lab.analysis.statistics import ProposalStatistics
from sparse_rcnn_lab.analysis.table import Table
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.views import style
from sparse_rcnn_lab.views.figures.canvas import HEAD, Page, shorten, text_width
from sparse_rcnn_lab.views.figures.named_lines import key, need_rows
from sparse_rcnn_lab.views.style import Theme

_CELL, _NAME, _GAP = 0.95, 0.17, 0.10
MAX_PROPOSALS = 60  # on one overview


def proposal_overview(
    statistics: ProposalStatistics,
    *,
    columns: int = 10,
    theme: Theme = "light",
    title: str | None = None,
) -> Page:
    """Every proposal as a small image: its learned box and the centres of its detections.

    They are ordered by wins, most first. Each square is the image with its sides made equal; a dot
    is a detection of the last stage in the colour of its class (a cross where it is wrong), larger
    for larger boxes. After DETR's figure of its object queries (arXiv 2005.12872, figure 7).

    columns: cells in a row. Of more than 60 proposals the 60 with the most wins are shown.

    >>> import sparse_rcnn_lab as srl
    >>> from sparse_rcnn_lab import analysis
    >>> traces = analysis.traces_of(srl.load("nano-shapes"), srl.Shapes(2), [0, 1])
    >>> page = proposal_overview(analysis.proposal_statistics_of(traces))
    """
    order = statistics.proposals.sort_values("wins", ascending=False, kind="stable")
    need_rows(order, "proposal", "wins")
    shown = order.head(MAX_PROPOSALS)
    columns = max(1, min(columns, len(shown)))
    rows = math.ceil(len(shown) / columns)
    width = max(5.0, columns * (_CELL + _GAP) + 0.2)
    page = Page(width, HEAD + rows * (_CELL + _NAME + _GAP) + 0.38, theme)
    idle = int((order.wins == 0).sum())
    notes = [order.title, f"{idle} never right" if idle else "none is idle throughout"]
    if len(shown) < len(order):
        notes.append(f"the {len(shown)} with most wins")
    page.write_title(title or "What each proposal is for", " · ".join(notes))
    high = page.get_size_inches()[1]
    labels = _labels(statistics)
    for place, row in enumerate(shown.records()):
        line, column = divmod(place, columns)
        x = 0.12 + column * (_CELL + _GAP)
        y = high - HEAD - (line + 1) * (_CELL + _NAME + _GAP) + _GAP
        axes = page.place(x, y, _CELL, _CELL)
        _image(page, axes, row)
        _dots(axes, _own(statistics, row["proposal"]), labels, small=True)
        name = f"{row['proposal']} · {_wins(row['wins'])}"
        axes.text(0, -0.04, name, size=7.5, color=page.ink, va="bottom")
    rest = "×: wrong · dashed: the learned box"
    entries: list[tuple[str, str, Any]] = []
    room = width * 72 - text_width(f"… · {rest}", 8) - 60  # points
    for name, label in list(labels.items())[:8]:
        room -= text_width(name, 8) + 25
        if room < 0:
            break
        entries.append((name, "o", style.class_color(label)))
    more = "… · " if len(labels) > len(entries) else ""
    key(page, [*entries, (more + rest, "", page.faded)])
    return page


def proposal_page(
    statistics: ProposalStatistics,
    proposal: int,
    *,
    width: float = 7.5,
    theme: Theme = "light",
    title: str | None = None,
) -> Page:
    """One proposal: where its detections are, how large they are, and of which classes.

    proposal: its id. Raises LabError when it is not in the statistics.

    >>> import sparse_rcnn_lab as srl
    >>> from sparse_rcnn_lab import analysis
    >>> traces = analysis.traces_of(srl.load("nano-shapes"), srl.Shapes(2), [0, 1])
    >>> page = proposal_page(analysis.proposal_statistics_of(traces), proposal=7)
    """
    row, wins = statistics.of(proposal), statistics.proposals.wins
    side = (width - 0.6 - 1.9) / 2
    page = Page(width, side + HEAD + 0.75, theme)
    page.write_title(
        title or f"Proposal {proposal} over many images",
        f"{_wins(row['wins'])} ({100 * row['share']:.1f} % of all, rank "
        f"{1 + int((wins > row['wins']).sum())} of {len(wins)}) · {row['errors']} wrong · idle in "
        f"{100 * row['idle']:.0f} % of the images",
    )
    own, labels = _own(statistics, proposal), _labels(statistics)
    where = page.place(0.12, 0.62, side, side)
    _image(page, where, row)
    _dots(where, own, labels, small=False)
    where.text(
        0, 1.03, "centres, larger for larger boxes\ndashed: the learned box", size=8,
        color=page.faded, va="top",
    )  # fmt: skip
    sizes = page.place(0.12 + side + 0.62, 0.62, side, side)
    page.dress(sizes)
    _dots(sizes, own, labels, small=False, sides=True)
    sizes.plot(row["start_w"], row["start_h"], "s", color=page.faded, markersize=7, zorder=1)
    limit = max([1.0, *own.w, *own.h]) * 1.04
    sizes.set(
        xlim=(0, limit), ylim=(0, limit), xlabel="width (of the image's)",
        ylabel="height (of the image's)",
    )  # fmt: skip
    sizes.text(
        0.03 * limit, 0.97 * limit, "sizes · grey square: the learned box", size=8,
        color=page.faded, va="top",
    )  # fmt: skip
    _bars(page, page.place(width - 1.15, 0.62, 1.03, side), own, labels)
    return page


def _own(statistics: ProposalStatistics, proposal: int) -> Table:
    return statistics.detections[statistics.detections.proposal == proposal]


def _labels(statistics: ProposalStatistics) -> dict[str, int]:
    """Class name -> its label, for its colour."""
    names = statistics.proposals.about.get("class_names")
    if not names:
        raise LabError("These statistics do not name their classes. Compute them again.")
    return {name: label for label, name in enumerate(names)}


def _image(page: Page, axes: Axes, row: dict[str, Any]) -> None:
    """Draws the image as a square, with the learned box."""
    axes.set(xlim=(0, 1), ylim=(1, 0))
    axes.set_axis_off()
    axes.add_patch(Rectangle((0, 0), 1, 1, facecolor=page.line, alpha=0.35, linewidth=0))
    x, y, w, h = (row[f"start_{side}"] for side in "xywh")
    axes.add_patch(
        Rectangle(
            (x - w / 2, y - h / 2), w, h, fill=False, edgecolor=page.faded, linewidth=0.9,
            linestyle=(0, (3, 2)), clip_on=True, gid="learned",
        )
    )  # fmt: skip


def _dots(axes: Axes, own: Table, labels: dict[str, int], small: bool, sides: bool = False) -> None:
    x, y = ("w", "h") if sides else ("x", "y")
    full = 26.0 if small else 90.0
    opacity = max(0.25, min(0.85, 40 / max(1, len(own))))
    for right, dots in own.groupby("right"):
        axes.scatter(
            dots[x], dots[y], s=4 + full * (0.25 if sides else (dots.w * dots.h) ** 0.5),
            c=[style.class_color(labels[name]) for name in dots["class"]],
            marker="o" if right else "x", alpha=opacity if right else 0.8,
            linewidths=0 if right else 0.8, zorder=3, gid="right" if right else "wrong",
        )  # fmt: skip


def _bars(page: Page, axes: Axes, own: Table, labels: dict[str, int]) -> None:
    """Draws the numbers of right detections of up to twelve classes, most first."""
    page.dress(axes)
    axes.grid(visible=False)
    axes.set_xticks([])
    axes.set_yticks([])
    won = own["class"][own.right].value_counts()
    names = sorted(labels, key=lambda name: -won.get(name, 0))[:12]
    for place, name in enumerate(names):
        count = won.get(name, 0)
        axes.barh(place, count, height=0.34, color=style.class_color(labels[name]))
        text = f"{shorten(name, 8, 60)} {count}"
        axes.text(0, place - 0.22, text, size=8, color=page.ink, va="bottom")
    axes.set(xlim=(0, max([1, *won])), ylim=(max(len(names), 4) - 0.5, -0.9))
    axes.text(0, -0.85, "wins by class", size=8, color=page.faded, va="top")


def _wins(count: int) -> str:
    return f"{count} win" if count == 1 else f"{count} wins"
