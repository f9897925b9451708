"""RoI pooling over the whole pyramid as one weighted gather.

RoIAlign is linear in the feature map: each output bin is a weighted sum of 16 pixels (2x2 samples,
4 bilinear corners each). So all levels and images are flattened, channels last, into one table,
and every bin becomes a bag of 16 rows with 16 weights: one ``embedding_bag`` for everything.
``docs/decisions/0002`` has the measurements.

Semantics are those of the published weights: ``aligned=True``, 2x2 samples a bin, level
``floor(log2(sqrt(area) / 56))`` clamped to p2..p5 (mmdetection's SingleRoIExtractor).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from sparse_rcnn_lab import boxes as box_ops
from sparse_rcnn_lab.model.gather import Gather, shared_backward, weighted_gather

STRIDES = (4, 8, 16, 32)
# A box whose sides are about this many pixels still belongs to p2; each level up doubles it.
FINEST_SCALE = 56
SAMPLES = 2


class Pyramid(NamedTuple):
    """The feature pyramid p2..p5 of a batch, ready to be gathered from.

    table: ``[R, D]``, one row a pixel: p2 of every image, then p3, and so on, row-major.
    shapes: (height, width) of each level.  batch: number of images.
    """

    table: Tensor
    shapes: tuple[tuple[int, int], ...]
    batch: int

    def level(self, index: int) -> Tensor:
        """Level ``index`` (0 is p2) as an ordinary feature map ``[B, D, H, W]``."""
        rows = [self.batch * h * w for h, w in self.shapes]
        start = sum(rows[:index])
        h, w = self.shapes[index]
        table = self.table[start : start + rows[index]]
        return table.view(self.batch, h, w, -1).permute(0, 3, 1, 2)


# (pyramid, boxes [B, N, 4] xyxy input pixels, levels [B, N], roi_size P) -> [B, N, P * P, D]
Pooling = Callable[[Pyramid, Tensor, Tensor, int], Tensor]


def build_pyramid(levels: list[Tensor]) -> Pyramid:
    """Flattens p2..p5, each ``[B, D, H, W]``, into a :class:`Pyramid`."""
    rows = [level.permute(0, 2, 3, 1).flatten(0, 2) for level in levels]
    shapes = tuple((level.shape[2], level.shape[3]) for level in levels)
    return Pyramid(shared_backward(torch.cat(rows)), shapes, levels[0].shape[0])


def assign_levels(boxes: Tensor) -> Tensor:
    """``[..., 4]`` xyxy in input pixels -> ``[...]`` int64, 0 for p2 to 3 for p5.

    Boxes of no or negative area go to p2, and so do those that are not a number.
    """
    scale = box_ops.area(boxes).clamp(min=0).sqrt()
    level = torch.floor(torch.log2(scale / FINEST_SCALE + 1e-6))
    return level.nan_to_num(nan=0.0).clamp(0, len(STRIDES) - 1).long()


def _axis(start: Tensor, length: Tensor, limit: Tensor, bins: int) -> tuple[Tensor, Tensor]:
    """Bilinear corners along one axis, in feature pixels.

    start, length: ``[K]`` RoI origin and extent; limit: ``[K]`` size of its level.
    Returns pixel index (int64) and weight, both ``[K, bins, SAMPLES * 2]``.
    """
    samples = bins * SAMPLES
    steps = (torch.arange(samples, device=start.device) + 0.5) / samples
    at = start[:, None] + steps * length[:, None]
    limit = limit[:, None]
    # More than a pixel outside counts as zero, closer is clamped to the border (RoIAlign).
    inside = (at >= -1) & (at <= limit)
    last = limit - 1
    at = torch.minimum(at.clamp(min=0), last.to(at.dtype))
    low = at.long()
    high = torch.minimum(low + 1, last)
    upper = at - low
    index = torch.stack([low, high], dim=-1)
    weight = torch.stack([1 - upper, upper], dim=-1) * (inside[..., None] / SAMPLES)
    shape = (start.shape[0], bins, SAMPLES * 2)
    return index.reshape(shape), weight.reshape(shape)


def pool(
    pyramid: Pyramid,
    boxes: Tensor,
    levels: Tensor,
    roi_size: int,
    gather: Gather = weighted_gather,
) -> Tensor:
    """RoI features of every box: ``[B, N, 4]`` xyxy input pixels -> ``[B, N, P * P, D]``.

    ``levels`` ``[B, N]`` says which level to read (:func:`assign_levels`). Gradients flow into the
    pyramid only: boxes are taken as given, as everywhere in Sparse R-CNN. gather: what sums the
    weighted rows; export exchanges it.
    """
    batch, n = boxes.shape[:2]
    device = boxes.device
    roi = boxes.detach().reshape(-1, 4).float()
    # A box that is not a number would index outside the table; it pools from the corner instead
    # and the loss, which is then not finite either, reports it.
    roi = torch.nan_to_num(roi, nan=0.0, posinf=1e6, neginf=-1e6).clamp(-1e6, 1e6)
    level = levels.reshape(-1)

    heights = torch.tensor([h for h, _ in pyramid.shapes], device=device)
    widths = torch.tensor([w for _, w in pyramid.shapes], device=device)
    strides = torch.tensor(STRIDES, device=device)
    sizes = heights * widths
    starts = torch.cumsum(sizes, 0) * batch - sizes * batch

    height, width = heights[level], widths[level]
    image = torch.arange(batch, device=device).repeat_interleave(n)
    first_row = starts[level] + image * sizes[level]

    x1, y1, x2, y2 = (roi / strides[level][:, None]).unbind(-1)
    y_index, y_weight = _axis(y1 - 0.5, y2 - y1, height, roi_size)
    x_index, x_weight = _axis(x1 - 0.5, x2 - x1, width, roi_size)

    rows = first_row[:, None, None] + y_index * width[:, None, None]
    rows = rows[:, :, None, :, None] + x_index[:, None, :, None, :]
    weights = y_weight[:, :, None, :, None] * x_weight[:, None, :, None, :]
    bag = (SAMPLES * 2) ** 2
    weights = weights.reshape(-1, bag).to(pyramid.table.dtype)
    pooled = gather(pyramid.table, rows.reshape(-1, bag), weights)
    return pooled.view(batch, n, roi_size * roi_size, -1)
