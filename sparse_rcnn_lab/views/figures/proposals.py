"""The learned proposals: where their boxes start, and where each of them finds its objects."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from matplotlib.patches import Rectangle
from torch import Tensor

from sparse_rcnn_lab.errors import LabError
from sparse_rcnn_lab.trace import Trace
from sparse_rcnn_lab.views import style
from sparse_rcnn_lab.views.figures.canvas import HEAD, HEAT, Page, Theme
from sparse_rcnn_lab.views.measures import centres

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


def territory(
    traces: Sequence[Trace],
    proposals: Sequence[int] | None = None,
    *,
    threshold: float = 0.5,
    columns: int = 6,
    width: float = 10.0,
    theme: Theme = "light",
    title: str | None = None,
) -> Page:
    """Where each proposal ends up over many pictures: the centres of what it detected.

    proposals: ids; default the 12 that detect most.  threshold: least score, 0..1.
    A dot is a detection, in the colour of its class; the grey box is where the proposal starts.
    Raises LabError without traces, or when they are of different models.
    """
    if not traces or any(len(t.proposal_ids) != len(traces[0].proposal_ids) for t in traces):
        raise LabError("territory needs traces of one model with the same proposals, at least one.")
    points, labels = _ends(traces, threshold)
    if proposals is None:
        counts = torch.tensor([len(found) for found in points])
        rows = counts.argsort(descending=True, stable=True)[:12].tolist()
    else:
        rows = [traces[0].row(proposal) for proposal in proposals]
    columns = max(1, min(columns, len(rows)))
    lines = -(-len(rows) // columns)
    side = (width - _GAP * (columns + 1)) / columns
    page = Page(width, HEAD + lines * (side + 0.3) + _GAP, theme)
    page.write_title(
        title or f"Where {len(rows)} proposals find their objects, over {len(traces)} pictures",
        "a dot is a detection, in the colour of its class; grey: the learned box",
    )
    size = traces[0].size
    start = traces[0].boxes[0] / torch.tensor([size[1], size[0], size[1], size[0]])
    for i, row in enumerate(rows):
        line, column = divmod(i, columns)
        axes = page.place(
            _GAP + column * (side + _GAP), _GAP + (lines - 1 - line) * (side + 0.3), side, side
        )
        axes.set(xlim=(0, 1), ylim=(1, 0), xticks=[], yticks=[])
        axes.set_facecolor(page.paper)
        for spine in axes.spines.values():
            spine.set_color(page.line)
        x1, y1, x2, y2 = start[row].tolist()
        axes.add_patch(
            Rectangle(
                (x1, y1), x2 - x1, y2 - y1, color=style.PROPOSAL_COLOR, alpha=0.3, linewidth=0
            )
        )
        if points[row]:
            at = torch.tensor(points[row])
            colors = [style.class_color(label) for label in labels[row]]
            axes.scatter(at[:, 0], at[:, 1], s=16, c=colors, edgecolors=style.DARK, linewidths=0.4)
        name = f"proposal {int(traces[0].proposal_ids[row])} · {len(points[row])}"
        axes.text(0, 1.02, name, size=8.5, color=page.ink, transform=axes.transAxes, va="bottom")
    return page


def _ends(
    traces: Sequence[Trace], threshold: float
) -> tuple[list[list[list[float]]], list[list[int]]]:
    """Relative centres and labels of each proposal's detections."""
    count = traces[0].num_proposals
    points: list[list[list[float]]] = [[] for _ in range(count)]
    labels: list[list[int]] = [[] for _ in range(count)]
    for trace in traces:
        height, width = trace.size
        middle = centres(trace)[-1] / torch.tensor([width, height])
        found = trace.detections(threshold=threshold)
        for proposal, label in zip(found.proposals.tolist(), found.labels.tolist(), strict=True):
            row = trace.row(proposal)
            points[row].append(middle[row].tolist())
            labels[row].append(label)
    return points, labels
