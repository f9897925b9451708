"""Figures of one stage: what a proposal attends to, what it pools, and what its dynamic filters
make of it.
"""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.patheffects import Normal, Stroke
from torch import Tensor

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.trace import Trace
from sparse_rcnn_lab.views import measures, style
from sparse_rcnn_lab.views.figures.canvas import (
    HEAD,
    HEAT,
    Page,
    aspect,
    dot,
    fitted,
    outline,
    rim,
    show_image,
    stretched_note,
    write_labels,
)
from sparse_rcnn_lab.views.measures import Links, RoiGrid, best, describe
from sparse_rcnn_lab.views.style import Theme

_BARS = 2.6  # inches for the list of the strongest weights
_BAR = 0.26  # smallest height of a row in it, inches
_NAME = 0.3  # inches for a panel's name


def attention_map(
    trace: Trace,
    proposal: int | None = None,
    stage: int | None = None,
    *,
    top: int = 8,
    head: int | None = None,
    width: float = 8.5,
    theme: Theme = "light",
    title: str | None = None,
) -> Page:
    """The proposals that a proposal attends to in a stage's self-attention, strongest first.

    On the image are the boxes that entered the stage; width and opacity of a line show its weight
    relative to the strongest, and bars give it in per cent. All weights of a proposal sum to 100 %,
    less what went to proposals dropped later.

    proposal: its id; default: the one with the best final score.  top: how many others are shown.
    head: one head (0-based) instead of the mean over all.  For the rest see
    :mod:`~sparse_rcnn_lab.views.figures`. Raises LabError when attention is not recorded.

    >>> import sparse_rcnn_lab as srl
    >>> trace = srl.load("nano-shapes").trace(srl.open_data("shapes", "val")[6])
    >>> attention_map(trace, stage=2, top=3).texts[0].get_text()
    'Proposal 6 · star .88 looks at …'
    """
    proposal = best(trace) if proposal is None else proposal
    stage = trace.check_stage(stage)
    links = measures.attention_links(trace, proposal, stage, top, head)
    w, h = fitted(trace, width - _BARS - 0.36, 7.0)
    high = max(h, _BAR * (len(links.proposals) + 2))
    page = Page(width, high + HEAD + 0.12, theme)
    page.write_title(
        title or f"Proposal {describe(trace, proposal)} looks at …",
        stretched_note(trace),
        f"self-attention of stage {stage}",
        "mean of all heads" if head is None else f"head {head}",
        f"an even share would be {100 / trace.num_proposals:.3g} %",
    )
    axes = page.place(0.12 + (width - _BARS - 0.36 - w) / 2, 0.12 + (high - h), w, h)
    show_image(axes, trace, fade=0.45)
    _links(axes, trace, proposal, stage, links)
    _bars(page, page.place(width - _BARS - 0.12, 0.12, _BARS, high), links)
    return page


def _links(axes: Axes, trace: Trace, proposal: int, stage: int, links: Links) -> None:
    boxes, at = trace.boxes[stage - 1], measures.centres(trace)[stage - 1]
    own, others = trace.row(proposal), links.proposals.tolist()
    rows = [trace.row(other) for other in others]
    color = style.line_color(stage - 1, trace.num_stages)
    strongest = max([*links.weights.tolist(), 1e-6])
    for row, weight in reversed(list(zip(rows, links.weights.tolist(), strict=True))):
        opacity = style.score_opacity(weight / strongest, 0.25)
        outline(axes, boxes[row], color, opacity=opacity, line=1.2)
        ends = at[[own, row]]
        line = 0.6 + 3.0 * weight / strongest
        (drawn,) = axes.plot(ends[:, 0], ends[:, 1], color=color, linewidth=line, alpha=opacity)
        drawn.set_path_effects(rim(line, opacity))
        dot(axes, at[row], color)
    outline(axes, boxes[own], style.ACCENT, line=2.2)
    dot(axes, at[own], style.ACCENT)
    names = [str(name) for name in (proposal, *others)]
    colors = [style.ACCENT, *[color] * len(rows)]
    write_labels(axes, boxes[[own, *rows]].tolist(), names, colors, 7.5)


def _bars(page: Page, axes: Axes, links: Links) -> None:
    """Draws weights in per cent, strongest first, then that on the proposal itself and the rest."""
    names = [str(p) for p in links.proposals.tolist()] + ["itself", "all others"]
    values = [*links.weights.tolist(), links.itself, links.rest]
    rows = max(len(names), min(axes.bbox.height / page.dpi / (1.6 * _BAR), 3 * len(names)))
    axes.set(xlim=(0, 1), ylim=(rows - 0.5, -0.5))
    axes.set_axis_off()
    left, room = 0.33, 0.42
    longest = max([*values[:-1], 1e-6])
    for i, (name, value) in enumerate(zip(names, values, strict=True)):
        color = page.ink if i < len(links.proposals) else page.faded
        # The rest, of many proposals together, is a number, as its bar would dwarf the others.
        length = 0 if i == len(names) - 1 else value / longest * room
        axes.barh(i, length, left=left, height=0.62, color=color, alpha=0.75)
        axes.text(left - 0.03, i, name, ha="right", va="center", size=8.5, color=color)
        axes.text(
            left + length + 0.02, i, f"{100 * value:.1f} %", va="center", size=8.5, color=color
        )


def roi_grid(
    trace: Trace,
    proposal: int | None = None,
    stage: int | None = None,
    *,
    width: float = 8.5,
    theme: Theme = "light",
    title: str | None = None,
) -> Page:
    """Where a stage pools a proposal's RoI: the box on the image, and the grid enlarged.

    The grid has the bins (lines), the four points that each averages (dots), and the cells of the
    pyramid level they are read from (faint). The level follows from the box's size.

    proposal: its id; default: the one with the best final score.  For the rest see
    :mod:`~sparse_rcnn_lab.views.figures`. Raises LabError when proposal or stage do not exist, or
    the box is NaN.

    >>> import sparse_rcnn_lab as srl
    >>> trace = srl.load("nano-shapes").trace(srl.open_data("shapes", "val")[6])
    >>> roi_grid(trace, stage=1).texts[0].get_text()
    'What stage 1 reads for proposal 6 · star .88'
    """
    proposal, stage, grid = _grid(trace, proposal, stage)
    side = len(grid.edges_x) - 1
    panel = (width - 0.36) / 2
    h = min(panel * max(aspect(trace), 0.75), 7.0)
    page = Page(width, h + HEAD + _NAME + 0.12, theme)
    page.write_title(
        title or f"What stage {stage} reads for proposal {describe(trace, proposal)}",
        stretched_note(trace),
        f"{side}×{side} bins of 4 points",
        f"level p{grid.level}, one cell for {2**grid.level} px of the model's input "
        f"({grid.cell[0]:.3g} px of the image)",
    )
    w = min(panel, h / aspect(trace))
    high = w * aspect(trace)
    whole = page.place(0.12 + (panel - w) / 2, 0.12 + (h - high) / 2, w, high)
    show_image(whole, trace, fade=0.3)
    outline(whole, grid.box, style.ACCENT, line=2.0)
    close = page.place(0.24 + panel, 0.12, panel, h)
    show_image(close, trace)
    _frame(close, grid.box, panel / h * aspect(trace) * trace.size[1] / trace.size[0])
    _cells(close, grid)
    _lines(close, grid, 1.0)
    points = grid.samples.reshape(-1, 2)
    close.plot(
        points[:, 0], points[:, 1], "o", color=style.LIGHT, markersize=2.6, linewidth=0,
        markeredgecolor=style.DARK, markeredgewidth=0.5,
    )  # fmt: skip
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

    A cell's brightness shows how much its feature stands out: its distance from the mean cell,
    relative to the largest one.

    proposal: its id; default: the one with the best final score.  For the rest see
    :mod:`~sparse_rcnn_lab.views.figures`. Raises LabError when ``roi_features`` and
    ``filtered_features`` are not recorded.

    >>> import sparse_rcnn_lab as srl
    >>> detector, sample = srl.load("nano-shapes"), srl.open_data("shapes", "val")[6]
    >>> trace = detector.trace(sample, record=("roi_features", "filtered_features"))
    >>> filter_effect(trace, stage=3).texts[0].get_text()
    'Dynamic filters of proposal 6 · star .88'
    """
    proposal, stage, grid = _grid(trace, proposal, stage)
    before, after = measures.filter_effect(trace, proposal, stage)
    panel = (width - 0.24 - 2 * 0.14 - 0.75) / 3
    page = Page(width, panel + HEAD + _NAME + 0.12, theme)
    page.write_title(
        title or f"Dynamic filters of proposal {describe(trace, proposal)}",
        f"stage {stage}, level p{grid.level}",
        "brightness: how far a cell's feature is from the mean cell",
    )
    crop, *maps = (page.place(0.12 + i * (panel + 0.14), 0.12, panel, panel) for i in range(3))
    show_image(crop, trace)
    x1, y1, x2, y2 = grid.box.tolist()
    crop.set(xlim=(x1, x2), ylim=(y2, y1))
    _lines(crop, grid, 0.6)
    _name(page, crop, "RoI on the image")
    for axes, cells, name in zip(
        maps, (before, after), ("before the filters", "after"), strict=True
    ):
        shown = measures.contrast(cells).numpy()
        image = axes.imshow(shown, cmap=HEAT, vmin=0, vmax=1, interpolation="nearest")
        axes.set_axis_off()
        axes.set_aspect("auto")
        _name(page, axes, name)
    page.color_bar(image, 0.08 + 3 * (panel + 0.14), 0.12, panel, "stands out (of the most)")
    return page


def _grid(trace: Trace, proposal: int | None, stage: int | None) -> tuple[int, int, RoiGrid]:
    proposal = best(trace) if proposal is None else proposal
    stage = trace.check_stage(stage)
    grid = measures.roi_grid(trace, proposal, stage)
    sides = grid.box[2:] - grid.box[:2]
    if not (grid.box.isfinite().all() and (sides > 0).all()):
        raise LabError(
            f"The box of proposal {proposal} before stage {stage} is {grid.box.tolist()}, which "
            "has no area to show. Choose another proposal or stage."
        )
    return proposal, stage, grid


def _frame(axes: Axes, box: Tensor, ratio: float) -> None:
    """Limits axes of this width / height to the part of the image around the box, in pixels."""
    x1, y1, x2, y2 = box.tolist()
    w, h = (x2 - x1) * 1.3, (y2 - y1) * 1.3
    w, h = max(w, h * ratio), max(h, w / ratio)
    cx, cy = (x1 + x2) / 2, (y1 + y2) / 2
    axes.set(xlim=(cx - w / 2, cx + w / 2), ylim=(cy + h / 2, cy - h / 2))


def _cells(axes: Axes, grid: RoiGrid) -> None:
    """Draws the borders of the pyramid level's cells, unless they are too narrow to see."""
    for low_high, step, draw in (
        (axes.get_xlim(), grid.cell[0], axes.axvline),
        (axes.get_ylim()[::-1], grid.cell[1], axes.axhline),
    ):
        first, last = int(low_high[0] // step), int(low_high[1] // step)
        if last - first > 120:
            return
        for index in range(first, last + 2):
            draw(index * step, color=style.LIGHT, linewidth=0.5, alpha=0.45)


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
