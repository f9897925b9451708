"""What a stage sees of the picture for one proposal, and what its dynamic filters make of it."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.patheffects import Normal, Stroke
from torch import Tensor

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.trace import Trace
from sparse_rcnn_lab.views import style
from sparse_rcnn_lab.views.figures.canvas import (
    HEAD,
    HEAT,
    Page,
    aspect,
    outline,
    show_picture,
    stretched_note,
)
from sparse_rcnn_lab.views.measures import (
    RoiGrid,
    check_stage,
    contrast,
)
from sparse_rcnn_lab.views.measures import (
    filter_effect as effect_of,
)
from sparse_rcnn_lab.views.measures import (
    roi_grid as grid_of,
)
from sparse_rcnn_lab.views.selection import best, describe
from sparse_rcnn_lab.views.style import Theme

_ROW = 0.3  # inches for a panel's name


def roi_grid(
    trace: Trace,
    proposal: int | None = None,
    stage: int | None = None,
    *,
    width: float = 8.5,
    theme: Theme = "light",
    title: str | None = None,
) -> Page:
    """Where a stage pools a proposal's RoI: the box on the picture, and the grid close up.

    Close up: the bins (lines), the four points that each averages (dots), and the cells of the
    pyramid level they are read from (faint). The level follows from the box's size.

    proposal: its id; default the one with the best final score.  stage: 1..S, default the last.
    width: inches.  title: in place of the usual one. Raises LabError when they do not exist, or
    the box is not a number.
    """
    proposal, stage, grid = _grid(trace, proposal, stage)
    side = len(grid.edges_x) - 1
    panel = (width - 0.36) / 2
    h = min(panel * max(aspect(trace), 0.75), 7.0)
    page = Page(width, h + HEAD + _ROW + 0.12, theme)
    stride = 2**grid.level
    page.write_title(
        title or f"What stage {stage} reads for proposal {describe(trace, proposal)}",
        " · ".join(
            [
                *stretched_note(trace),
                f"{side}×{side} bins of 4 points",
                f"level p{grid.level}, one cell for {stride} px of the model's input "
                f"({grid.cell[0]:.3g} px of the picture)",
            ]
        ),
    )
    w = min(panel, h / aspect(trace))
    whole = page.place(
        0.12 + (panel - w) / 2, 0.12 + (h - w * aspect(trace)) / 2, w, w * aspect(trace)
    )
    show_picture(whole, trace, fade=0.3)
    outline(whole, grid.box, style.ACCENT, line=2.0)
    close = page.place(0.24 + panel, 0.12, panel, h)
    show_picture(close, trace)
    stretch = aspect(trace) * trace.size[1] / trace.size[0]
    _frame(close, grid.box, panel / h * stretch)
    _cells(close, grid)
    _bins(close, grid)
    _name(page, whole, "box before the stage")
    _name(page, close, "close up")
    return page


def filter_effect(
    trace: Trace,
    proposal: int | None = None,
    stage: int | None = None,
    *,
    width: float = 8.5,
    theme: Theme = "light",
    title: str | None = None,
) -> Page:
    """What a proposal's dynamic filters do: its RoI feature before and after (paper, figure 4).

    A cell's brightness says how much its feature stands out: distance from the mean cell,
    relative to the largest.

    proposal: its id; default the one with the best final score.  stage: 1..S, default the last.
    width: inches.  title: in place of the usual one. Raises LabError when ``roi_features`` and
    ``filtered_features`` are not recorded.
    """
    proposal = best(trace) if proposal is None else proposal
    stage = check_stage(trace, stage)
    before, after = effect_of(trace, proposal, stage)
    _, _, grid = _grid(trace, proposal, stage)
    panel = (width - 0.24 - 2 * 0.14 - 0.75) / 3
    page = Page(width, panel + HEAD + _ROW + 0.12, theme)
    page.write_title(
        title or f"Dynamic filters of proposal {describe(trace, proposal)}",
        f"stage {stage}, level p{grid.level} · brightness: how far a cell's feature is from the "
        "mean cell",
    )
    places = [page.place(0.12 + i * (panel + 0.14), 0.12, panel, panel) for i in range(3)]
    crop, left, right = places
    show_picture(crop, trace)
    x1, y1, x2, y2 = grid.box.tolist()
    crop.set(xlim=(x1, x2), ylim=(y2, y1))
    _lines(crop, grid, 0.6)
    _name(page, crop, "RoI on the picture")
    for axes, cells, name in ((left, before, "before the filters"), (right, after, "after")):
        image = axes.imshow(
            contrast(cells).numpy(), cmap=HEAT, vmin=0, vmax=1, interpolation="nearest"
        )
        axes.set_axis_off()
        axes.set_aspect("auto")
        _name(page, axes, name)
    bar = page.place(0.12 + 3 * (panel + 0.14) - 0.04, 0.12, 0.14, panel)
    scale = page.colorbar(image, cax=bar)
    scale.outline.set_visible(False)
    bar.tick_params(colors=page.faded, labelsize=8, length=0)
    scale.set_label("stands out (of the most)", color=page.ink, size=8)
    return page


def _grid(trace: Trace, proposal: int | None, stage: int | None) -> tuple[int, int, RoiGrid]:
    proposal = best(trace) if proposal is None else proposal
    stage = check_stage(trace, stage)
    grid = grid_of(trace, proposal, stage)
    sides = grid.box[2:] - grid.box[:2]
    if not (grid.box.isfinite().all() and (sides > 0).all()):
        raise LabError(
            f"The box of proposal {proposal} before stage {stage} is {grid.box.tolist()}, which "
            "has no area to show. Choose another proposal or stage."
        )
    return proposal, stage, grid


def _frame(axes: Axes, box: Tensor, ratio: float) -> None:
    """The part of the picture around the box that fills axes of this width / height, pixels."""
    x1, y1, x2, y2 = box.tolist()
    w, h = (x2 - x1) * 1.3, (y2 - y1) * 1.3
    w, h = max(w, h * ratio), max(h, w / ratio)
    cx, cy = (x1 + x2) / 2, (y1 + y2) / 2
    axes.set(xlim=(cx - w / 2, cx + w / 2), ylim=(cy + h / 2, cy - h / 2))


def _cells(axes: Axes, grid: RoiGrid) -> None:
    """Borders of the cells of the pyramid level, as far as they can be told apart."""
    for low_high, step, draw in (
        (axes.get_xlim(), grid.cell[0], axes.axvline),
        (axes.get_ylim()[::-1], grid.cell[1], axes.axhline),
    ):
        first, last = int(low_high[0] // step), int(low_high[1] // step)
        if last - first > 120:
            return
        for index in range(first, last + 2):
            draw(index * step, color=style.LIGHT, linewidth=0.5, alpha=0.45)


def _bins(axes: Axes, grid: RoiGrid) -> None:
    _lines(axes, grid, 1.0)
    points = grid.samples.reshape(-1, 2)
    axes.plot(
        points[:, 0], points[:, 1], "o", color=style.LIGHT, markersize=2.6, linewidth=0,
        markeredgecolor=style.DARK, markeredgewidth=0.5,
    )  # fmt: skip


def _lines(axes: Axes, grid: RoiGrid, line: float) -> None:
    xs, ys = grid.edges_x.tolist(), grid.edges_y.tolist()
    dark = [Stroke(linewidth=line + 1.0, foreground=style.DARK, alpha=0.5), Normal()]
    for x in xs:
        axes.plot([x, x], [ys[0], ys[-1]], color=style.ACCENT, linewidth=line, path_effects=dark)
    for y in ys:
        axes.plot([xs[0], xs[-1]], [y, y], color=style.ACCENT, linewidth=line, path_effects=dark)


def _name(page: Page, axes: Axes, text: str) -> None:
    axes.text(
        0, 1.0, text, transform=axes.transAxes, size=9, color=page.ink, va="bottom", ha="left"
    )
