"""Careers of the proposals: all of them on a page, and a page for each."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from sparse_rcnn_lab.analysis.statistics import Careers
from sparse_rcnn_lab.analysis.table import Table
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.views import style
from sparse_rcnn_lab.views.figures.canvas import HEAD, Page
from sparse_rcnn_lab.views.figures.series import need_rows
from sparse_rcnn_lab.views.style import Theme

_CELL, _NAME, _GAP = 0.95, 0.17, 0.10
MOST = 60  # proposals on one overview


def career_overview(
    careers: Careers,
    *,
    columns: int = 10,
    theme: Theme = "light",
    title: str | None = None,
) -> Page:
    """Every proposal as a small picture: its learned box and the centres of its detections.

    Most wins first. Each square is the image, its sides made equal; a dot is a detection of the
    last stage, coloured by its class (a cross where it is wrong), larger for larger boxes. After
    DETR's figure of its object queries (2005.12872, figure 7).

    columns: cells in a row. With more than 60 proposals the 60 with most wins are shown.
    """
    order = careers.proposals.sorted("wins", descending=True)
    need_rows(order, "career")
    shown = order.head(MOST)
    columns = min(columns, len(shown))
    rows = math.ceil(len(shown) / columns)
    width = max(5.0, columns * (_CELL + _GAP) + 0.2)
    page = Page(width, HEAD + rows * (_CELL + _NAME + _GAP) + 0.38, theme)
    idle = sum(wins == 0 for wins in order["wins"])
    notes = [order.title, f"{idle} never right" if idle else "none is idle throughout"]
    if len(shown) < len(order):
        notes.append(f"the {len(shown)} with most wins")
    page.write_title(title or "What each proposal is for", " · ".join(notes))
    high = page.get_size_inches()[1]
    labels = _labels(careers)
    by = _by_proposal(careers.ends)
    for place, row in enumerate(shown.rows()):
        line, column = divmod(place, columns)
        x = 0.12 + column * (_CELL + _GAP)
        y = high - HEAD - (line + 1) * (_CELL + _NAME + _GAP) + _GAP
        axes = page.place(x, y, _CELL, _CELL)
        _square(page, axes)
        _start(axes, page, row)
        _dots(axes, by.get(row["proposal"], []), labels, small=True)
        axes.text(
            0, -0.04, f"{row['proposal']} · {_wins(row['wins'])}", size=7.5, color=page.ink,
            va="bottom",
        )  # fmt: skip
    _key(page, labels, width)
    return page


def career_page(
    careers: Careers,
    proposal: int,
    *,
    width: float = 7.5,
    theme: Theme = "light",
    title: str | None = None,
) -> Page:
    """One proposal: where its detections lie, how large they are, and of which classes.

    proposal: its id. Raises LabError when it is not in the careers.
    """
    row = careers.of(proposal)
    side = (width - 0.6 - 1.9) / 2
    page = Page(width, side + HEAD + 0.75, theme)
    page.write_title(title or f"Career of proposal {proposal}", _story(row, careers.proposals))
    own = _by_proposal(careers.ends).get(proposal, [])
    labels = _labels(careers)
    where = page.place(0.12, 0.62, side, side)
    _square(page, where)
    _start(where, page, row)
    _dots(where, own, labels, small=False)
    where.text(
        0, 1.03, "centres, larger for larger boxes\ndashed: the learned box", size=8,
        color=page.faded, va="top",
    )  # fmt: skip
    sizes = page.place(0.12 + side + 0.62, 0.62, side, side)
    page.dress(sizes)
    _dots(sizes, own, labels, small=False, sides=True)
    sizes.plot(row["start_w"], row["start_h"], "s", color=page.faded, markersize=7, zorder=1)
    limit = max([1.0, *(max(end["w"], end["h"]) for end in own)]) * 1.04
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


def _story(row: dict[str, object], table: Table) -> str:
    place = sorted(table["wins"], reverse=True).index(row["wins"]) + 1
    return (
        f"{_wins(row['wins'])} ({100 * float(str(row['share'])):.1f} % of all, rank {place} of "
        f"{len(table)}) · {row['errors']} wrong · idle in {100 * float(str(row['idle'])):.0f} % "
        "of the pictures"
    )


def _labels(careers: Careers) -> dict[str, int]:
    """Class name -> its label, for its colour."""
    names = careers.proposals.about.get("class_names")
    if not names:
        raise LabError("These careers do not name their classes; make them again.")
    return {name: label for label, name in enumerate(names)}


def _by_proposal(ends: Table) -> dict[int, list[dict[str, float]]]:
    found: dict[int, list[dict[str, float]]] = {}
    for end in ends.rows():
        found.setdefault(end["proposal"], []).append(end)
    return found


def _square(page: Page, axes: Axes) -> None:
    axes.set(xlim=(0, 1), ylim=(1, 0))
    axes.set_axis_off()
    axes.add_patch(Rectangle((0, 0), 1, 1, facecolor=page.line, alpha=0.35, linewidth=0))


def _start(axes: Axes, page: Page, row: dict[str, float]) -> None:
    x, y, w, h = (row[f"start_{side}"] for side in "xywh")
    axes.add_patch(
        Rectangle(
            (x - w / 2, y - h / 2), w, h, fill=False, edgecolor=page.faded, linewidth=0.9,
            linestyle=(0, (3, 2)), clip_on=True, gid="learned",
        )
    )  # fmt: skip


def _dots(
    axes: Axes,
    ends: list[dict[str, float]],
    labels: dict[str, int],
    small: bool,
    sides: bool = False,
) -> None:
    x, y = ("w", "h") if sides else ("x", "y")
    full = 26.0 if small else 90.0
    opacity = max(0.25, min(0.85, 40 / max(1, len(ends))))
    for right in (False, True):
        chosen = [end for end in ends if bool(end["right"]) is right]
        if not chosen:
            continue
        area = [4 + full * (0.25 if sides else math.sqrt(e["w"] * e["h"])) for e in chosen]
        axes.scatter(
            [e[x] for e in chosen], [e[y] for e in chosen], s=area,
            c=[style.class_color(labels[str(e["class"])]) for e in chosen],
            marker="o" if right else "x", alpha=opacity if right else 0.8,
            linewidths=0 if right else 0.8, zorder=3, gid="right" if right else "wrong",
        )  # fmt: skip


def _bars(page: Page, axes: Axes, ends: list[dict[str, float]], labels: dict[str, int]) -> None:
    """Right detections of each class, most first; at most twelve classes."""
    page.dress(axes)
    axes.grid(visible=False)
    axes.set_xticks([])
    axes.set_yticks([])
    won = [str(end["class"]) for end in ends if end["right"]]
    names = sorted(labels, key=lambda name: -won.count(name))[:12]
    most = max([1, *(won.count(name) for name in names)])
    for place, name in enumerate(names):
        count = won.count(name)
        axes.barh(place, count, height=0.34, color=style.class_color(labels[name]))
        axes.text(0, place - 0.22, f"{name} {count}", size=8, color=page.ink, va="bottom")
    axes.set(xlim=(0, most), ylim=(max(len(names), 4) - 0.5, -0.9))
    axes.text(0, -0.85, "wins by class", size=8, color=page.faded, va="top")


def _key(page: Page, labels: dict[str, int], width: float) -> None:
    axes = page.place(0.12, 0.06, width - 0.24, 0.24)
    axes.set(xlim=(0, width - 0.24), ylim=(0, 0.24))
    axes.set_axis_off()
    x = 0.06
    for name, label in list(labels.items())[:8]:
        axes.plot(x, 0.12, "o", color=style.class_color(label), markersize=5)
        axes.text(x + 0.08, 0.115, name, size=8, color=page.ink, va="center")
        x += 0.3 + 0.068 * len(name)
    more = "… · " if len(labels) > 8 else ""
    axes.text(
        x, 0.115, f"{more}×: wrong · dashed: the learned box", size=8, color=page.faded,
        va="center",
    )  # fmt: skip


def _wins(count: object) -> str:
    return f"{count} win" if count == 1 else f"{count} wins"
