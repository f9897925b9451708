"""Learned proposals: N boxes and N features, the same for every image (paper, section 3.2)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core.config import ProposalInit
from sparse_rcnn_lab.core.errors import LabError


class Proposals(nn.Module):
    """N learned boxes and features.

    boxes: ``[N, 4]`` parameter, cxcywh relative to the image, 0..1.
    features: ``[N, D]`` parameter.
    """

    def __init__(self, num: int, dim: int, init: ProposalInit = "image") -> None:
        super().__init__()
        self.boxes = nn.Parameter(initial_boxes(num, init))
        self.features = nn.Parameter(torch.randn(num, dim))

    def __len__(self) -> int:
        return self.boxes.shape[0]

    def forward(self, sizes: Tensor, num: int | None = None) -> tuple[Tensor, Tensor]:
        """The first ``num`` proposals (default all) for images of ``sizes`` ``[B, 2]`` (h, w).

        Returns boxes ``[B, N, 4]`` xyxy in input pixels and features ``[B, N, D]``.
        """
        num = len(self) if num is None else num
        if num not in range(1, len(self) + 1):
            raise LabError(f"The number of proposals must be 1..{len(self)}, found {num}.")
        whwh = box_ops.size_as_whwh(sizes)[:, None]
        boxes = box_ops.cxcywh_to_xyxy(self.boxes[:num]) * whwh
        features = self.features[:num].expand(sizes.shape[0], -1, -1)
        return boxes, features


def initial_boxes(num: int, init: ProposalInit) -> Tensor:
    """Where learned boxes start: ``[N, 4]`` cxcywh, 0..1.

    image: every box is the whole image, as published. grid: centres on a grid that covers the
    image, in an order in which the first n do too, for every n. random: centres and sides drawn
    uniformly, inside the image.
    """
    if init == "image":
        return torch.tensor([0.5, 0.5, 1.0, 1.0]).repeat(num, 1)
    if init == "grid":
        columns = math.ceil(math.sqrt(num))
        rows = math.ceil(num / columns)
        # Twice the spacing: neighbours overlap, so each object starts inside several boxes.
        cells = torch.tensor(
            [
                ((i % columns + 0.5) / columns, (i // columns + 0.5) / rows, 2 / columns, 2 / rows)
                for i in torch.randperm(columns * rows).tolist()  # chance decides between equals
            ]
        )
        return cells[spread_order(cells[:, :2])[:num]].clamp(max=1.0)
    sides = 0.1 + 0.8 * torch.rand(num, 2)
    centres = sides / 2 + (1 - sides) * torch.rand(num, 2)
    return torch.cat([centres, sides], dim=1)


def spread_order(centres: Tensor) -> list[int]:
    """An order in which the first n of ``centres`` ``[N, 2]`` (0..1) cover the image, for every n.

    Greedy: the next one is that which brings a centre nearest to all points of the image, by the
    mean of the squared distances.
    """
    points = (torch.arange(16, device=centres.device) + 0.5) / 16
    distance = torch.cdist(torch.cartesian_prod(points, points), centres) ** 2
    near = torch.full_like(distance[:, :1], 2.0)  # farther than any point of the image
    order: list[int] = []
    for _ in range(len(centres)):
        cost = torch.minimum(near, distance).mean(0)
        cost[order] = torch.inf
        order.append(int(cost.argmin()))
        near = torch.minimum(near, distance[:, order[-1:]])
    return order
