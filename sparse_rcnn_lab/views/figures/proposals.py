"""The learned proposals: where their boxes start."""

from __future__ import annotations

import torch
from matplotlib.patches import Rectangle
from torch import Tensor

from sparse_rcnn_lab.core.trace import Trace
from sparse_rcnn_lab.views import style
from sparse_rcnn_lab.views.figures.canvas import HEAD, HEAT, Page
from sparse_rcnn_lab.views.style import Theme

_CELLS = 64  # of the coverage map, along each side
_GAP = 0.16  # inches


def learned_boxes(
    trace: Trace, *, width: float = 8.5, theme: Theme = "light", title: str | None = None
) -> Page:
    """The learned boxes in an empty frame, and how many of them lie over each place of it.

    width: inches.  title: in place of the usual one.
    """
    height, wide = trace.size
    boxes = trace.boxes[0] / torch.tensor([wide, height, wide, height])
    panel = (width - 3 * _GAP - 0.6) / 2
    page = Page(width, panel + HEAD + 0.34, theme)
    page.write_title(
        title or f"{len(boxes)} learned boxes",
        "the same for every picture; sides relative to the picture's",
    )
    left = page.place(_GAP, _GAP, panel, panel)
    right = page.place(2 * _GAP + panel, _GAP, panel, panel)
    for axes, name in ((left, "boxes, with their centres"), (right, "boxes over each place")):
        axes.set(xlim=(0, 1), ylim=(1, 0), xticks=[], yticks=[])
        axes.set_facecolor(page.paper)
        for side in axes.spines.values():
            side.set_color(page.line)
        axes.text(0, 1.015, name, size=9, color=page.ink, transform=axes.transAxes, va="bottom")
    for i, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        color = style.class_color(i)
        left.add_patch(
            Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=color, linewidth=1.3,
                      alpha=0.85)
        )  # fmt: skip
        left.plot((x1 + x2) / 2, (y1 + y2) / 2, "o", color=color, markersize=4)
    cover = coverage(boxes)
    image = right.imshow(cover.numpy(), extent=(0, 1, 1, 0), cmap=HEAT, vmin=0)
    bar = page.place(2 * panel + 2 * _GAP + 0.1, _GAP, 0.14, panel)
    page.colorbar(image, cax=bar).outline.set_visible(False)
    bar.tick_params(colors=page.faded, labelsize=8, length=0)
    return page


def coverage(boxes: Tensor, cells: int = _CELLS) -> Tensor:
    """``[cells, cells]``: how many boxes ``[N, 4]`` (xyxy, 0..1) lie over each place, rows down."""
    middle = (torch.arange(cells) + 0.5) / cells
    inside_x = (middle >= boxes[:, :1]) & (middle < boxes[:, 2:3])
    inside_y = (middle >= boxes[:, 1:2]) & (middle < boxes[:, 3:4])
    return (inside_y[:, :, None] & inside_x[:, None, :]).sum(0).float()
