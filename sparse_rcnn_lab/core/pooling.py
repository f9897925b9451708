"""RoI pooling over the whole pyramid as one weighted gather.

RoIAlign is linear in the feature map: each output bin is a weighted sum of 16 pixels (2x2 samples,
4 bilinear corners each). So all levels and images are flattened, channels last, into one table,
and every bin becomes a bag of 16 rows with 16 weights: one ``embedding_bag`` for everything.
``docs/decisions/0002`` has the measurements.

As the published weights expect: ``aligned=True``, 2x2 samples per bin, and the level
``floor(log2(sqrt(area) / 56))`` clamped to p2..p5 (mmdetection's SingleRoIExtractor).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse_rcnn_lab.core import boxes as box_ops

STRIDES = (4, 8, 16, 32)
# A box whose sides are about this many pixels still belongs to p2; each level up doubles it.
FINEST_SCALE = 56
SAMPLES = 2


class Pyramid(NamedTuple):
    """The feature pyramid p2..p5 of a batch as one table to gather from.

    table: ``[R, D]``, one row per pixel: p2 of every image, then p3, and so on, row-major.
    shapes: (height, width) of each level.  batch: number of images.
    """

    table: Tensor
    shapes: tuple[tuple[int, int], ...]
    batch: int

    def level(self, index: int) -> Tensor:
        """Level ``index`` (0 is p2) as an ordinary feature map ``[B, D, H, W]``."""
        table = self.table.split([self.batch * h * w for h, w in self.shapes])[index]
        h, w = self.shapes[index]
        return table.view(self.batch, h, w, -1).permute(0, 3, 1, 2)


# (pyramid, boxes [B, N, 4] xyxy input pixels, levels [B, N], roi_size P) -> [B, N, P * P, D]
Pooling = Callable[[Pyramid, Tensor, Tensor, int], Tensor]
# (table [R, D], rows [K, n], weights [K, n]) -> [K, D]
Gather = Callable[[Tensor, Tensor, Tensor], Tensor]


def build_pyramid(levels: list[Tensor]) -> Pyramid:
    """Flattens p2..p5, each ``[B, D, H, W]``, into a :class:`Pyramid`."""
    rows = [level.permute(0, 2, 3, 1).flatten(0, 2) for level in levels]
    shapes = tuple((level.shape[2], level.shape[3]) for level in levels)
    return Pyramid(torch.cat(rows), shapes, levels[0].shape[0])


def assign_levels(boxes: Tensor) -> Tensor:
    """``[..., 4]`` xyxy in input pixels -> ``[...]`` int64, 0 for p2 to 3 for p5.

    Boxes of zero, negative or NaN area go to p2.
    """
    scale = box_ops.area(boxes).clamp(min=0).sqrt()
    level = torch.floor(torch.log2(scale / FINEST_SCALE + 1e-6))
    return level.nan_to_num(nan=0.0).clamp(0, len(STRIDES) - 1).long()


def gather(table: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """Sums weighted rows: ``table`` ``[R, D]``, ``rows`` and ``weights`` ``[K, n]`` -> ``[K, D]``.

    Gradients flow into the table.
    """
    return F.embedding_bag(rows, table, mode="sum", per_sample_weights=weights)


def _corners(start: Tensor, length: Tensor, limit: Tensor, bins: int) -> tuple[Tensor, Tensor]:
    """Bilinear corners along both axes, in feature pixels.

    start, length: ``[K, 2]`` RoI origin and extent, (y, x); limit: ``[K, 2]`` size of its level.
    Returns pixel index (int64) and weight, both ``[K, 2, bins, SAMPLES * 2]``.
    """
    samples = bins * SAMPLES
    # Few and large operations: in a small model the cost of pooling is their number.
    steps = torch.tensor([(i + 0.5) / samples for i in range(samples)], device=start.device)
    at = start[..., None] + steps * length[..., None]
    limit = limit[..., None].to(at.dtype)
    # A sample more than a pixel outside is zero; a closer one is clamped to the border (RoIAlign).
    inside = (at >= -1) & (at <= limit)
    last = limit - 1
    at = torch.minimum(at.clamp(min=0), last)
    low = at.floor()
    upper = at - low
    index = torch.stack([low, torch.minimum(low + 1, last)], dim=-1).long()
    weight = torch.stack([1 - upper, upper], dim=-1) * (inside[..., None] / SAMPLES)
    shape = (start.shape[0], 2, bins, SAMPLES * 2)
    return index.view(shape), weight.view(shape)


def pool(
    pyramid: Pyramid, boxes: Tensor, levels: Tensor, roi_size: int, gather: Gather = gather
) -> Tensor:
    """RoI features of every box: ``[B, N, 4]`` xyxy input pixels -> ``[B, N, P * P, D]``.

    ``levels`` ``[B, N]`` says which level to read (:func:`assign_levels`). Gradients flow into the
    pyramid only: boxes are taken as given, as everywhere in Sparse R-CNN. gather: the function that
    sums the weighted rows, for callers that compute the same sums in another way.
    """
    batch, n = boxes.shape[:2]
    device = boxes.device
    roi = boxes.detach().reshape(-1, 4).float()
    # A NaN box would index outside the table. It pools from the corner instead, and the loss,
    # which is then not finite either, reports it.
    roi = torch.nan_to_num(roi, nan=0.0, posinf=1e6, neginf=-1e6).clamp(-1e6, 1e6)
    level = levels.reshape(-1)

    # Of each level: height, width, stride, its first row, rows of one image.
    levels_of = []
    first = 0
    for (height, width), stride in zip(pyramid.shapes, STRIDES, strict=True):
        levels_of.append((height, width, stride, first, height * width))
        first += batch * height * width
    own = torch.tensor(levels_of, device=device)[level]

    corners = (roi / own[:, 2:3]).view(-1, 2, 2).flip(-1)  # [K, (start, end), (y, x)]
    start, end = corners.unbind(1)
    index, weight = _corners(start - 0.5, end - start, own[:, :2], roi_size)

    first_row = own[:, 3]
    if batch > 1:
        first_row = first_row + torch.arange(batch, device=device).repeat_interleave(n) * own[:, 4]
    rows = first_row[:, None, None] + index[:, 0] * own[:, 1, None, None]
    rows = rows[:, :, None, :, None] + index[:, 1, None, :, None, :]
    weights = weight[:, 0, :, None, :, None] * weight[:, 1, None, :, None, :]
    bag = (SAMPLES * 2) ** 2
    weights = weights.reshape(-1, bag).to(pyramid.table.dtype)
    pooled = gather(pyramid.table, rows.reshape(-1, bag), weights)
    return pooled.view(batch, n, roi_size * roi_size, -1)
