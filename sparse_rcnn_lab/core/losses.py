"""The set loss: focal, L1 and GIoU at every stage (paper, section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core.config import LossConfig
from sparse_rcnn_lab.core.matching import Matches, Targets


@dataclass(frozen=True, eq=False)
class SetLoss:
    """Weighted losses, ``[S]`` each: class, box distance and box overlap at every stage.

    positives: ``[S]`` matched pairs of the whole batch; each loss is divided by them (at least 1).
    """

    cls: Tensor
    l1: Tensor
    giou: Tensor
    positives: Tensor

    def total(self) -> Tensor:
        """The scalar that is minimised: the sum of all losses of all stages."""
        return (self.cls + self.l1 + self.giou).sum()


def focal_loss(logits: Tensor, targets: Tensor, alpha: float, gamma: float) -> Tensor:
    """Element-wise sigmoid focal loss (arXiv 1708.02002); ``targets``, same shape, are 0 or 1."""
    p = logits.sigmoid()
    missed = (1 - p) * targets + p * (1 - targets)
    weight = (alpha * targets + (1 - alpha) * (1 - targets)) * missed**gamma
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="none") * weight


def set_loss(
    logits: Tensor,
    boxes: Tensor,
    targets: Targets,
    matches: Matches,
    config: LossConfig,
    normaliser: Tensor | None = None,
) -> SetLoss:
    """The set loss at every stage.

    logits ``[S, B, N, C]``, boxes ``[S, B, N, 4]`` xyxy input pixels. ``normaliser`` ``[S]``
    replaces the number of matched pairs where these images are part of a larger batch, so that the
    losses of the parts add up to the batch's. The divisor is at least 1, so the loss of a batch
    without objects stays finite (as in the authors' code; not so in mmdetection).
    """
    stages = logits.shape[0]
    logits, boxes = logits.float(), boxes.float()
    count = torch.bincount(matches.stage, minlength=stages) if normaliser is None else normaliser
    divisor = count.clamp(min=1).to(logits.dtype)

    at = (matches.stage, matches.image, matches.proposal)
    wanted = torch.zeros_like(logits)
    wanted[(*at, targets.labels[matches.image, matches.target])] = 1
    cls = focal_loss(logits, wanted, config.focal_alpha, config.focal_gamma).sum((1, 2, 3))

    predicted, truth = boxes[at], targets.boxes[matches.image, matches.target]
    whwh = box_ops.size_as_whwh(targets.sizes)[matches.image]
    distance = (predicted / whwh - truth / whwh).abs().sum(-1)
    overlap = 1 - box_ops.paired_giou(predicted, truth)
    l1 = logits.new_zeros(stages).index_add(0, matches.stage, distance)
    giou = logits.new_zeros(stages).index_add(0, matches.stage, overlap)
    weighted = (config.cls * cls / divisor, config.l1 * l1 / divisor, config.giou * giou / divisor)
    return SetLoss(*weighted, count)
