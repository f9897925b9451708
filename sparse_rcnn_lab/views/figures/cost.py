"""The matching cost as a picture: which proposal would be cheap for which object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.views import style
from sparse_rcnn_lab.views.figures.canvas import HEAD, Page, plain, shorten
from sparse_rcnn_lab.views.style import Theme

_CELL = (0.62, 0.21)  # inches
_SMALL = 0.3  # width of a cell of a part
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
    """Cost of every proposal for every object, low is dark; the chosen pairs are framed.

    total: ``[N, M]``.  objects: M names.  pairs: (row, column) of the assignment.  proposals: ids
    of the rows; default 0..N-1.  parts: more matrices ``[N, M]`` drawn beside it, smaller.
    With more than 30 proposals, 30 are drawn: those of the pairs, then the cheapest for any object.
    Raises LabError when a shape does not fit, or there is no object.
    """
    n, m = total.shape
    parts = dict(parts or {})
    if not m or len(objects) != m or any(part.shape != total.shape for part in parts.values()):
        raise LabError(
            f"A cost matrix needs one name an object and parts of its own shape, found {n}x{m} "
            f"with {len(objects)} names."
        )
    ids = list(range(n)) if proposals is None else list(proposals)
    cheapest = total.min(1).values.argsort().tolist()
    kept = sorted(list(dict.fromkeys([*(row for row, _ in pairs), *cheapest]))[:_MOST])
    chosen = {(kept.index(row), column) for row, column in pairs if row in kept}
    names = [str(ids[row]) for row in kept]
    wide, high = _CELL[0] * m, _CELL[1] * len(kept)
    small = _SMALL * m
    width = 0.62 + wide + sum(small + 0.3 for _ in parts) + 0.2
    wanted = max(width, 6.0)
    page = Page(wanted, HEAD + 0.5 + high + 0.15, theme)
    page.write_title(title, detail)
    left = 0.68
    axes = page.place(left, 0.15, wide, high)
    _matrix(page, axes, total[kept], chosen, "total")
    axes.set_yticks(range(len(kept)), names, size=7.5)
    page.text(
        0.12 / wanted,
        (0.15 + high + 0.1) / page.get_size_inches()[1],
        "proposal",
        size=8,
        color=page.faded,
    )
    shown = [plain(shorten(name, 8, _CELL[0] * 72 + 6)) for name in objects]
    axes.set_xticks(range(m), shown, size=8)
    for i, row in enumerate(total[kept].tolist()):
        for j, value in enumerate(row):
            axes.text(
                j, i, f"{value:.1f}".replace("-0.0", "0.0"), size=7.5, ha="center",
                va="center_baseline",
                color=style.LIGHT if _shade(total[kept], i, j) < 0.6 else style.DARK,
                weight="bold" if (i, j) in chosen else "normal",
            )  # fmt: skip
    left += wide + 0.3
    for name, part in parts.items():
        axes = page.place(left, 0.15, small, high)
        _matrix(page, axes, part[kept], chosen, name)
        axes.set_yticks([])
        axes.set_xticks([])
        left += small + 0.3
    return page


def _shade(values: Tensor, i: int, j: int) -> float:
    low, high = float(values.min()), float(values.max())
    return (float(values[i, j]) - low) / max(high - low, 1e-9)


def _matrix(
    page: Page, axes: Axes, values: Tensor, chosen: set[tuple[int, int]], name: str
) -> None:
    axes.imshow(values.numpy(), cmap="viridis", aspect="auto", interpolation="nearest")
    axes.tick_params(colors=page.ink, length=0, top=False, labeltop=True, bottom=False,
                     labelbottom=False)  # fmt: skip
    for side in axes.spines.values():
        side.set_visible(False)
    axes.yaxis.label.set(color=page.ink, size=9)
    inches = axes.get_position().height * page.get_size_inches()[1]
    axes.text(0, 1 + 0.27 / inches, name, size=9, color=page.ink, weight="bold", va="bottom",
              transform=axes.transAxes)  # fmt: skip
    for i, j in chosen:
        axes.add_patch(
            Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, edgecolor=style.ACCENT, linewidth=2)
        )
