"""Box geometry: the only place that converts, encodes or compares boxes.

Unless a name says otherwise a box is ``xyxy``: left, top, right, bottom in pixels, continuous
coordinates, so width = x2 - x1. Every function is pure, keeps dtype and device, and accepts
leading batch dimensions ``[..., 4]``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Sparse R-CNN scales its box deltas by these (dx, dy, dw, dh); from the authors' code.
DELTA_SCALE = (0.5, 0.5, 1.0, 1.0)
# A stage may not grow or shrink a side by more than this factor (as in mmdetection 3.3.0).
MAX_LOG_SCALE = math.log(1000 / 16)


def xyxy_to_cxcywh(boxes: Tensor) -> Tensor:
    """``[..., 4]`` xyxy -> centre x, centre y, width, height in the same units."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1], dim=-1)


def cxcywh_to_xyxy(boxes: Tensor) -> Tensor:
    """``[..., 4]`` centre x, centre y, width, height -> xyxy in the same units."""
    cx, cy, w, h = boxes.unbind(-1)
    return torch.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], dim=-1)


def xyxy_to_xywh(boxes: Tensor) -> Tensor:
    """``[..., 4]`` xyxy -> left, top, width, height (COCO's ``bbox``)."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack([x1, y1, x2 - x1, y2 - y1], dim=-1)


def xywh_to_xyxy(boxes: Tensor) -> Tensor:
    """``[..., 4]`` left, top, width, height (COCO's ``bbox``) -> xyxy."""
    x, y, w, h = boxes.unbind(-1)
    return torch.stack([x, y, x + w, y + h], dim=-1)


def area(boxes: Tensor) -> Tensor:
    """``[..., 4]`` xyxy -> ``[...]`` signed area: width times height."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def clip(boxes: Tensor, height: float, width: float) -> Tensor:
    """Clips ``[..., 4]`` xyxy boxes to the rectangle 0..width, 0..height."""
    return torch.minimum(boxes.clamp(min=0), size_as_whwh(boxes.new_tensor([height, width])))


def clip_to_sizes(boxes: Tensor, sizes: Tensor) -> Tensor:
    """Clips ``[..., N, 4]`` xyxy boxes to the image sizes ``[..., 2]`` (height, width)."""
    return torch.minimum(boxes.clamp(min=0), size_as_whwh(sizes).unsqueeze(-2))


def rescale(boxes: Tensor, scale: Tensor) -> Tensor:
    """Multiplies ``[..., N, 4]`` xyxy boxes by ``scale`` ``[..., 2]``, the factors (x, y)."""
    return boxes * torch.cat([scale, scale], dim=-1).unsqueeze(-2)


def size_as_whwh(sizes: Tensor) -> Tensor:
    """``[..., 2]`` image sizes (height, width) -> ``[..., 4]`` (w, h, w, h): the box normaliser."""
    h, w = sizes.unbind(-1)
    return torch.stack([w, h, w, h], dim=-1)


def intersection(a: Tensor, b: Tensor) -> Tensor:
    """Overlap area of boxes ``[..., 4]`` and ``[..., 4]`` that broadcast against each other."""
    side = torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])
    side = side.clamp(min=0)
    return side[..., 0] * side[..., 1]


def paired_iou(a: Tensor, b: Tensor, eps: float = 1e-6) -> Tensor:
    """IoU of each box with its partner: ``[..., 4]``, ``[..., 4]`` -> ``[...]`` in 0..1."""
    overlap = intersection(a, b)
    return overlap / (area(a) + area(b) - overlap).clamp(min=eps)


def paired_giou(a: Tensor, b: Tensor, eps: float = 1e-6) -> Tensor:
    """Generalised IoU of each box with its partner -> ``[...]`` in -1..1 (arXiv 1902.09630).

    Areas are at least ``eps`` (as in mmdetection), so boxes without area give a number, not NaN.
    """
    overlap = intersection(a, b)
    union = (area(a) + area(b) - overlap).clamp(min=eps)
    hull = torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])
    hull = hull.clamp(min=0)
    hull_area = (hull[..., 0] * hull[..., 1]).clamp(min=eps)
    return overlap / union - (hull_area - union) / hull_area


def iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of every pair: ``[..., N, 4]``, ``[..., M, 4]`` -> ``[..., N, M]``."""
    return paired_iou(a.unsqueeze(-2), b.unsqueeze(-3))


def giou(a: Tensor, b: Tensor) -> Tensor:
    """Generalised IoU of every pair: ``[..., N, 4]``, ``[..., M, 4]`` -> ``[..., N, M]``."""
    return paired_giou(a.unsqueeze(-2), b.unsqueeze(-3))


def decode_deltas(boxes: Tensor, deltas: Tensor) -> Tensor:
    """Moves xyxy boxes ``[..., 4]`` by the deltas ``[..., 4]`` that a stage predicts -> xyxy.

    ``dx, dy`` move the centre in units of the box's own size, ``dw, dh`` scale the sides
    exponentially, clamped to ``MAX_LOG_SCALE``. Nothing is clipped to the image: boxes may leave
    it and come back at a later stage.
    """
    start, end = boxes[..., :2], boxes[..., 2:]
    size = end - start
    move, grow = (deltas * deltas.new_tensor(DELTA_SCALE)).split(2, dim=-1)
    centre = (start + end) / 2 + size * move
    half = size * grow.clamp(-MAX_LOG_SCALE, MAX_LOG_SCALE).exp() / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def encode_deltas(boxes: Tensor, targets: Tensor) -> Tensor:
    """The deltas that :func:`decode_deltas` needs to move ``boxes`` onto ``targets``, both xyxy.

    Both must have positive sides; the result is exact while no side changes by more than a
    factor of 62.5.
    """
    cx, cy, w, h = xyxy_to_cxcywh(boxes).unbind(-1)
    tx, ty, tw, th = xyxy_to_cxcywh(targets).unbind(-1)
    deltas = torch.stack([(tx - cx) / w, (ty - cy) / h, (tw / w).log(), (th / h).log()], dim=-1)
    return deltas / deltas.new_tensor(DELTA_SCALE)
