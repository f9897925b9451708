"""Figures of matrices: how similar features are, and what a match would cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.trace import Trace
from sparse_rcnn_lab.views import style
from sparse_rcnn_lab.views.feature_similarity import (
    comparable,
    proposal_similarity,
    stage_similarity,
)
from sparse_rcnn_lab.views.figures.canvas import BALANCE, HEAD, Page, plain, shorten
from sparse_rcnn_lab.views.measures import broken_note, describe
from sparse_rcnn_lab.views.style import Theme

_LEFT, _BOTTOM, _RIGHT = 0.75, 0.62, 0.85  # inches around a square matrix
_EACH = 32  # more names than this cannot be read


def similarity(
    trace: Trace,
    proposal: int | None = None,
    *,
    stage: int | None = None,
    width: float = 5.5,
    theme: Theme = "light",
    title: str | None = None,
) -> Page:
    """Cosine similarity of proposal features, -1 to 1.

    With a proposal: of its own feature in each pair of states, which shows the stage that changes
    it most. Without one: of each pair of proposals at one state, best score first; duplicates are
    similar.

    proposal: an id.  stage: state 0..S for the second kind, default: the last.  For the rest see
    :mod:`~sparse_rcnn_lab.views.figures`. Raises LabError when both are given, or one that does not
    exist.

    >>> import sparse_rcnn_lab as srl
    >>> trace = srl.load("nano-shapes").trace(srl.open_data("shapes", "val")[6])
    >>> similarity(trace, stage=0).texts[0].get_text()
    'Features of the proposals as learned'
    """
    if proposal is not None and stage is not None:
        raise LabError(
            "Give a proposal (its states with each other) or a stage (the proposals with each "
            "other), not both."
        )
    if proposal is not None:
        said, what, order = f"Feature of proposal {describe(trace, proposal)}", "stage", ""
        names = ["learned", *map(str, range(1, trace.num_stages + 1))]
        values = stage_similarity(trace, proposal)
        note = "cosine similarity between states"
    else:
        stage = trace.check_stage(stage, 0)
        said = "Features of the proposals " + (f"after stage {stage}" if stage else "as learned")
        note, what, order = "cosine similarity", "proposal", "in order of the final score"
        ids = comparable(trace, stage)
        names = list(map(str, ids))
        rows = [trace.row(p) for p in ids]
        values = proposal_similarity(trace, stage)[rows][:, rows]
    page, axes = matrix_axes(width, theme, names, what, what)
    page.write_title(title or said, note, order, broken_note(trace))
    image = axes.imshow(values.numpy(), cmap=BALANCE, vmin=-1, vmax=1, interpolation="nearest")
    if len(values) <= 9:
        for i, line in enumerate(values.tolist()):
            for j, value in enumerate(line):
                color = style.LIGHT if abs(value) > 0.7 else style.DARK
                axes.text(j, i, f"{value:.2f}", size=8, color=color, ha="center", va="center")
    side = width - _LEFT - _RIGHT  # of the matrix
    page.color_bar(image, _LEFT + side + 0.1, _BOTTOM, side, "cosine similarity", 8.5)
    return page


def matrix_axes(
    width: float, theme: Theme, names: Sequence[str], across: str, down: str
) -> tuple[Page, Axes]:
    """A page with square axes; ``names`` of rows and columns are written as far as they fit."""
    side = width - _LEFT - _RIGHT
    page = Page(width, side + _BOTTOM + HEAD + 0.05, theme)
    axes = page.place(_LEFT, _BOTTOM, side, side)
    page.dress(axes)
    axes.grid(visible=False)
    count = len(names)
    if count <= _EACH:
        size = min(8.5, 72 * side / count * 0.55)
        names = [plain(name) for name in names]
        axes.set_xticks(range(count), names, size=size, rotation=90 if count > 12 else 0)
        axes.set_yticks(range(count), names, size=size)
    else:
        axes.set_xticks([])
        axes.set_yticks([])
        across, down = (f"{label} ({count} proposals)" for label in (across, down))
    axes.set(xlabel=across, ylabel=down)
    return page, axes


_CELL = (0.62, 0.21)  # inches: width and height of a cell of the total cost
_SMALL = 0.3  # inches: width of a cell of a part of the cost
_MOST = 30  # proposals


def cost_matrix(
    total: Tensor,
    objects: Sequence[str],
    pairs: Sequence[tuple[int, int]] = (),
    *,
    proposals: Sequence[int] | None = None,
    parts: Mapping[str, Tensor] | None = None,
    theme: Theme = "light",
    title: str = "Matching cost",
    detail: str = "",
) -> Page:
    """The cost of matching every proposal to every object, dark is low; the pairs are framed.

    total: ``[N, M]``.  objects: M names.  pairs: (row, column) of the assignment.  proposals: ids
    of the rows; default: 0..N-1.  parts: more matrices ``[N, M]``, drawn smaller beside it.
    Of more than 30 proposals 30 are drawn: those of the pairs, then the cheapest for any object.
    Raises LabError when a shape does not fit, or there is no proposal or no object.

    >>> import torch
    >>> cost_matrix(torch.tensor([[0.2, 1.5], [1.1, 0.3]]), ["cat", "dog"], [(0, 0), (1, 1)])
    <Page size 960x267.2 with 1 Axes>
    """
    n, m = total.shape
    parts = dict(parts or {})
    ids = list(range(n)) if proposals is None else list(proposals)
    alike = all(part.shape == total.shape for part in parts.values())
    if not (n and m) or (len(ids), len(objects)) != (n, m) or not alike:
        raise LabError(
            "A cost matrix needs an id per proposal, a name per object and parts of its own shape, "
            f"found {n}x{m} with {len(ids)} ids and {len(objects)} names."
        )
    cheapest = total.min(1).values.argsort().tolist()
    kept = sorted(list(dict.fromkeys([*(row for row, _ in pairs), *cheapest]))[:_MOST])
    chosen = {(kept.index(row), column) for row, column in pairs if row in kept}
    wide, high, small = _CELL[0] * m, _CELL[1] * len(kept), _SMALL * m
    width = max(0.62 + wide + (small + 0.3) * len(parts) + 0.2, 6.0)
    page = Page(width, HEAD + 0.5 + high + 0.15, theme)
    page.write_title(title, detail)
    left = 0.68
    axes = page.place(left, 0.15, wide, high)
    _cost(page, axes, total[kept], chosen, "total")
    axes.set_yticks(range(len(kept)), [str(ids[row]) for row in kept], size=7.5)
    y = (0.15 + high + 0.1) / page.get_size_inches()[1]
    page.text(0.12 / width, y, "proposal", size=8, color=page.faded)
    shown = [plain(shorten(name, 8, _CELL[0] * 72 + 6)) for name in objects]
    axes.set_xticks(range(m), shown, size=8)
    values = total[kept]
    shade = (values - values.min()) / (values.max() - values.min()).clamp(min=1e-9)
    for i, row in enumerate(values.tolist()):
        for j, value in enumerate(row):
            axes.text(
                j, i, f"{value:.1f}".replace("-0.0", "0.0"), size=7.5, ha="center",
                va="center_baseline", color=style.LIGHT if shade[i, j] < 0.6 else style.DARK,
                weight="bold" if (i, j) in chosen else "normal",
            )  # fmt: skip
    left += wide + 0.3
    for name, part in parts.items():
        axes = page.place(left, 0.15, small, high)
        _cost(page, axes, part[kept], chosen, name)
        axes.set(xticks=[], yticks=[])
        left += small + 0.3
    return page


def _cost(page: Page, axes: Axes, values: Tensor, chosen: set[tuple[int, int]], name: str) -> None:
    axes.imshow(values.numpy(), cmap="viridis", aspect="auto", interpolation="nearest")
    axes.tick_params(colors=page.ink, length=0, top=False, labeltop=True, bottom=False,
                     labelbottom=False)  # fmt: skip
    for side in axes.spines.values():
        side.set_visible(False)
    inches = axes.get_position().height * page.get_size_inches()[1]
    axes.text(0, 1 + 0.27 / inches, name, size=9, color=page.ink, weight="bold", va="bottom",
              transform=axes.transAxes)  # fmt: skip
    for i, j in chosen:
        axes.add_patch(
            Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, edgecolor=style.ACCENT, linewidth=2)
        )
