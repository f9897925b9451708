"""One training step's loss: forward, match, set loss."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sparse_rcnn_lab.config import LossConfig
from sparse_rcnn_lab.model.detector import SparseRCNN
from sparse_rcnn_lab.training.denoising import noised_copies
from sparse_rcnn_lab.training.loader import TrainBatch
from sparse_rcnn_lab.training.losses import SetLoss, set_loss
from sparse_rcnn_lab.training.matching import Matches, match


@dataclass(frozen=True)
class StepLoss:
    """loss: the proposals' set loss.  denoising: that of the noised copies, or None."""

    loss: SetLoss
    denoising: SetLoss | None
    matches: Matches

    def total(self) -> Tensor:
        """The scalar to minimise."""
        total = self.loss.total()
        return total if self.denoising is None else total + self.denoising.total()


def step_loss(
    model: SparseRCNN,
    batch: TrainBatch,
    config: LossConfig,
    denoising: int = 0,
    generator: torch.Generator | None = None,
    negatives: bool = False,
) -> StepLoss:
    """Runs the model on a batch and compares every stage with the ground truth.

    denoising: noised copies of each object (0: as published), drawn from ``generator``;
    negatives: with a negative copy beside each.
    """
    targets = batch.targets
    boxes, features = model.proposals(targets.sizes)
    n = boxes.shape[1]
    copies = None
    if denoising:
        generator = generator or torch.Generator()
        copies = noised_copies(targets, model.proposals.features, denoising, generator, negatives)
    if copies is not None:
        boxes = torch.cat([boxes, copies.boxes], dim=1)
        features = torch.cat([features, copies.features], dim=1)
    pyramid = model.pyramid(batch.images)
    mask = None if copies is None else copies.mask
    outputs = model.run_stages(pyramid, boxes, features, mask=mask)
    logits = torch.stack([output.logits for output in outputs])  # [S, B, N + Q, C]
    refined = torch.stack([output.boxes for output in outputs])

    matches = match(logits[:, :, :n], refined[:, :, :n], targets, config)
    loss = set_loss(logits[:, :, :n], refined[:, :, :n], targets, matches, config)
    extra = None
    if copies is not None:
        pairs = copies.matches(len(outputs))
        real = copies.real[None, :, :, None]
        # Padding rows are pushed to a logit at which the focal loss and its gradient vanish.
        silenced = logits[:, :, n:].masked_fill(~real, -30.0)
        extra = set_loss(silenced, refined[:, :, n:], targets, pairs, config)
    return StepLoss(loss, extra, matches)
