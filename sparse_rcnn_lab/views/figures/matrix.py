"""Square matrices over proposals or stages, with a colour bar."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.image import AxesImage

from sparse_rcnn_lab.views.figures.canvas import HEAD, Page, plain
from sparse_rcnn_lab.views.style import Theme

_LEFT, _BOTTOM, _RIGHT = 0.75, 0.62, 0.85
_EACH = 32  # more names than this cannot be read


def matrix_axes(
    width: float, theme: Theme, names: Sequence[str], across: str, down: str
) -> tuple[Page, Axes]:
    """A page with square axes; ``names`` of rows and columns are written while they fit."""
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


def bar(page: Page, image: AxesImage, label: str) -> None:
    """The colour bar, as high as the matrix."""
    width, _ = page.get_size_inches()
    side = width - _LEFT - _RIGHT
    axes = page.place(_LEFT + side + 0.1, _BOTTOM, 0.14, side)
    scale = page.colorbar(image, cax=axes)
    scale.outline.set_visible(False)
    axes.tick_params(colors=page.faded, labelsize=8, length=0)
    scale.set_label(label, color=page.ink, size=8.5)
