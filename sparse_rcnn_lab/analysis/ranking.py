"""An order for proposals that have none: each next one adds most to those before it."""

from __future__ import annotations

import torch
from torch import Tensor

# An IoU below this is not worth anything: boxes that merely touch would count as coverage.
LEAST_IOU = 0.3


def reach(iou: Tensor) -> Tensor:
    """What a box with this IoU is worth: 0 up to :data:`LEAST_IOU`, then linearly to 1."""
    return ((iou - LEAST_IOU) / (1 - LEAST_IOU)).clamp(0, 1)


def greedy_order(worth: Tensor) -> tuple[list[int], list[float]]:
    """Rows of ``worth`` ``[N, M]`` (0 or more), best first, and what each adds.

    An object counts with the best row chosen so far; each next row is the one that raises the sum
    over all objects most (greedy maximum coverage, at least 63 % of the best possible). Where none
    adds anything, the one with the larger sum of its own comes first.
    """
    covered = worth.new_zeros(worth.shape[1])
    own = worth.sum(1)
    left = list(range(worth.shape[0]))
    order: list[int] = []
    gains: list[float] = []
    while left:
        added = (worth[left] - covered).clamp(min=0).sum(1)
        best = max(range(len(left)), key=lambda i: (float(added[i]), float(own[left[i]]), -left[i]))
        gains.append(float(added[best]))
        order.append(left.pop(best))
        covered = torch.maximum(covered, worth[order[-1]])
    return order, gains


def counted_order(wins: Tensor) -> tuple[list[int], list[float]]:
    """Rows of ``wins`` ``[N, M]`` (0 or 1) by how often each wins, most first, and how often."""
    counts = wins.sum(1)
    order = counts.argsort(descending=True, stable=True).tolist()
    return order, counts[order].tolist()
