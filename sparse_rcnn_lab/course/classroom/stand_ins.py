"""The package's functions in the form that the assignments ask for; see ``checks``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core import losses, matching
from sparse_rcnn_lab.core.config import LossConfig

_CONFIG = LossConfig()


def class_cost(logits: Tensor, labels: Tensor) -> Tensor:
    """``[N, C]`` logits, ``[M]`` labels -> ``[N, M]``."""
    return matching.focal_cost(logits, labels, _CONFIG)


def box_cost(boxes: Tensor, truth: Tensor, size: tuple[float, float]) -> Tensor:
    """``[N, 4]``, ``[M, 4]`` xyxy pixels of an image of ``size`` (height, width) -> ``[N, M]``."""
    whwh = box_ops.size_as_whwh(torch.tensor([float(size[0]), float(size[1])]))
    return torch.cdist(boxes / whwh, truth / whwh, p=1)


def total_cost(
    logits: Tensor, boxes: Tensor, labels: Tensor, truth: Tensor, size: tuple[float, float]
) -> Tensor:
    """The weighted sum of class cost, box cost and negative GIoU, ``[N, M]``."""
    giou = box_ops.giou(boxes, truth)
    cls, l1 = class_cost(logits, labels), box_cost(boxes, truth, size)
    return _CONFIG.cls * cls + _CONFIG.l1 * l1 - _CONFIG.giou * giou


def match(cost: Tensor) -> tuple[Tensor, Tensor]:
    """``[N, M]`` -> the proposals and objects of the cheapest assignment."""
    proposals, objects = matching.assign(cost.detach().cpu().numpy())
    return torch.from_numpy(proposals), torch.from_numpy(objects)


def focal_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Element-wise, alpha 0.25, gamma 2: two tensors of one shape, targets 0 or 1 -> the same."""
    return losses.focal_loss(logits, targets, _CONFIG.focal_alpha, _CONFIG.focal_gamma)


def box_losses(
    predicted: Tensor, truth: Tensor, size: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    """Sums over K pairs ``[K, 4]``, ``[K, 4]``: L1 distance relative to the image, 1 - GIoU."""
    whwh = box_ops.size_as_whwh(torch.tensor([float(size[0]), float(size[1])]))
    distance = (predicted / whwh - truth / whwh).abs().sum()
    return distance, (1 - box_ops.paired_giou(predicted, truth)).sum()


def bilinear(features: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """``[D, H, W]`` at K places, in map pixels with their centres at .0 -> ``[K, D]``."""
    height, width = features.shape[1:]
    grid = torch.stack([2 * x / max(width - 1, 1) - 1, 2 * y / max(height - 1, 1) - 1], dim=-1)
    found = torch.nn.functional.grid_sample(
        features[None], grid[None, None], align_corners=True, padding_mode="border"
    )
    return found[0, :, 0].T


def attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    """``[N, D]`` each -> mixed ``[N, D]`` and weights ``[heads, N, N]``."""
    n, d = q.shape
    q, k, v = (x.view(n, heads, d // heads).transpose(0, 1) for x in (q, k, v))
    weights = (q @ k.transpose(-1, -2) / (d // heads) ** 0.5).softmax(-1)
    return (weights @ v).transpose(0, 1).reshape(n, d), weights


def interact(features: Tensor, roi: Tensor, parts: Any) -> Tensor:
    """``[N, D]``, ``[N, P * P, D]`` -> ``[N, D]``; parts: ``practice.InteractionParts``."""
    first, second = parts.generate(features).split(parts.dim * parts.inner, dim=-1)
    x = parts.norm_in(roi @ first.view(-1, parts.dim, parts.inner)).relu()
    x = parts.norm_out(x @ second.view(-1, parts.inner, parts.dim)).relu()
    result: Tensor = parts.norm(parts.project(x.flatten(1))).relu()
    return result


def spread(values: list[float]) -> tuple[float, float]:
    """Mean and standard error of the mean."""
    drawn = torch.tensor(values, dtype=torch.float64)
    return drawn.mean().item(), (drawn.std() / len(drawn) ** 0.5).item()
