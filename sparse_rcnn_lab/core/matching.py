"""Set matching: which proposal is matched to which object, at every stage (paper, section 3.2).

The costs of all stages and images are computed on the device and reach the CPU in one transfer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core.config import LossConfig
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.inputs import Targets


def focal_cost(logits: Tensor, labels: Tensor, config: LossConfig, eps: float = 1e-12) -> Tensor:
    """The classification cost: ``[..., N, C]`` logits, ``[..., M]`` labels -> ``[..., N, M]``.

    It is the focal loss of a positive minus that of a negative, for the object's class.
    """
    p = logits.sigmoid()
    negative = -(1 - p + eps).log() * (1 - config.focal_alpha) * p**config.focal_gamma
    positive = -(p + eps).log() * config.focal_alpha * (1 - p) ** config.focal_gamma
    cost = positive - negative
    index = labels[..., None, :].expand(*cost.shape[:-1], labels.shape[-1])
    return cost.gather(-1, index)


@torch.no_grad()
def matching_cost(logits: Tensor, boxes: Tensor, targets: Targets, config: LossConfig) -> Tensor:
    """The cost of matching every proposal to every object, ``[S, B, N, M]``.

    logits ``[S, B, N, C]``, boxes ``[S, B, N, 4]`` xyxy input pixels. The cost is a weighted sum of
    the focal cost, the boxes' L1 distance relative to the image, and the negative GIoU.
    """
    whwh = box_ops.size_as_whwh(targets.sizes)[:, None]  # [B, 1, 4]
    labels = targets.labels.expand(len(logits), -1, -1)
    cls = focal_cost(logits.float(), labels, config)
    truth = targets.boxes.expand(len(boxes), -1, -1, -1)
    l1 = torch.cdist(boxes.float() / whwh, truth / whwh, p=1)
    giou = box_ops.giou(boxes.float(), truth)
    return config.cls * cls + config.l1 * l1 - config.giou * giou


@dataclass(frozen=True, eq=False)
class Matches:
    """The pairs of proposal and object of all stages and images, in flat arrays sorted by stage.

    stage, image, proposal, target: ``[K]`` int64.
    """

    stage: Tensor
    image: Tensor
    proposal: Tensor
    target: Tensor

    def as_index(self, shape: tuple[int, int, int]) -> Tensor:
        """``[S, B, N]`` int64: the object that each proposal is matched to, or -1."""
        index = torch.full(shape, -1, dtype=torch.long, device=self.stage.device)
        index[self.stage, self.image, self.proposal] = self.target
        return index


def assign(cost: np.ndarray, repeats: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """The cheapest assignment of proposals to objects: ``[N, M]`` -> proposal and object indices.

    Each object gets ``repeats`` proposals while there are enough; with more objects than proposals,
    the cheapest pairs win and the remaining objects get none.
    """
    from scipy.optimize import linear_sum_assignment  # its import takes half a second

    n, m = cost.shape
    if m == 0:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    repeats = max(1, min(repeats, n // m))
    rows, columns = linear_sum_assignment(np.tile(cost, (1, repeats)))
    return rows, columns % m


def match(logits: Tensor, boxes: Tensor, targets: Targets, config: LossConfig) -> Matches:
    """Hungarian matching at every stage and image.

    logits ``[S, B, N, C]``, boxes ``[S, B, N, 4]`` xyxy input pixels, both taken without gradient.
    Raises LabError when a cost is not finite, naming stage and image position.
    """
    stages, device = logits.shape[0], logits.device
    parts: list[np.ndarray] = []
    if targets.boxes.shape[1]:
        costs = matching_cost(logits.detach(), boxes.detach(), targets, config).cpu().numpy()
        for s in range(stages):
            repeats = config.matches_per_object
            repeat = repeats[min(s, len(repeats) - 1)]
            for b, count in enumerate(targets.counts):
                cost = costs[s, b, :, :count]
                if not np.isfinite(cost).all():
                    raise LabError(
                        f"The matching cost at stage {s + 1} of image {b} in the batch is not a "
                        "finite number: the boxes or scores have diverged."
                    )
                proposal, target = assign(cost, repeat)
                stage, image = np.full_like(proposal, s), np.full_like(proposal, b)
                parts.append(np.stack([stage, image, proposal, target]))
    pairs = np.concatenate(parts, axis=1) if parts else np.empty((4, 0), np.int64)
    return Matches(*torch.from_numpy(pairs.astype(np.int64)).to(device))
