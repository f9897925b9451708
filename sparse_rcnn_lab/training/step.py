"""One training step's loss: forward, match, set loss."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse_rcnn_lab.core.config import LossConfig, NestedScheme
from sparse_rcnn_lab.core.losses import SetLoss, set_loss
from sparse_rcnn_lab.core.matching import Matches, Targets, match
from sparse_rcnn_lab.core.model import SparseRCNN
from sparse_rcnn_lab.training.denoising import denoising_queries
from sparse_rcnn_lab.training.loader import TrainBatch
from sparse_rcnn_lab.training.nested import (
    draw_lengths,
    expected_positives,
    prefix_losses,
    with_prefixes,
)


@dataclass(frozen=True)
class Part:
    """Where some images stand in the batch of a step that is worked through in parts.

    first: place of the first of them, from 0.  counts: objects in each image of the whole batch.
    """

    first: int
    counts: tuple[int, ...]


@dataclass(frozen=True)
class StepLoss:
    """loss: the proposals' set loss.  denoising: that of the noised copies, or None.

    nested: that of the prefixes, all stages in one number, or None.
    """

    loss: SetLoss
    denoising: SetLoss | None
    matches: Matches
    nested: Tensor | None = None

    def total(self) -> Tensor:
        """The scalar to minimise."""
        total = self.loss.total()
        if self.denoising is not None:
            total = total + self.denoising.total()
        return total if self.nested is None else total + self.nested


def step_loss(
    model: SparseRCNN,
    batch: TrainBatch,
    config: LossConfig,
    denoising: int = 0,
    generator: torch.Generator | None = None,
    negatives: bool = False,
    prefixes: int = 0,
    scheme: NestedScheme = "log",
    part: Part | None = None,
    autocast: AbstractContextManager[object] = nullcontext(),  # noqa: B008 - it holds no state
) -> StepLoss:
    """Runs the model on a batch and compares every stage with the ground truth.

    denoising: noised copies of each object (0: as published), drawn from ``generator``;
    negatives: with a negative copy beside each. prefixes: how many prefixes of the proposals train
    beside all of them (0: as published). part: these images are part of a larger batch;
    normaliser, noise and prefixes are then the larger batch's, so that the parts' losses add up to
    its loss.
    autocast: surrounds the forward pass; matching and losses always see float32.
    """
    part = part or Part(0, batch.targets.counts)
    targets = _padded(batch.targets, max(part.counts))
    generator = generator or torch.Generator()
    boxes, features = model.proposals(targets.sizes)
    n = boxes.shape[1]
    copies = None
    if denoising:
        copies = denoising_queries(
            targets,
            model.proposals.features,
            denoising,
            generator,
            negatives,
            rows=slice(part.first, part.first + len(targets.counts)),
            batch=len(part.counts),
        )
    if copies is not None:
        boxes = torch.cat([boxes, copies.boxes], dim=1)
        features = torch.cat([features, copies.features], dim=1)
    own = boxes.shape[1]  # rows that are no prefix's
    lengths = draw_lengths(n, prefixes, generator, scheme)
    mask = None if copies is None else copies.mask
    boxes, features, mask = with_prefixes(boxes, features, mask, lengths)
    with autocast:
        pyramid = model.pyramid(batch.images)
        outputs = model.run_stages(pyramid, boxes, features, mask=mask)
    logits = torch.stack([output.logits for output in outputs])  # [S, B, N + Q + P, C]
    refined = torch.stack([output.boxes for output in outputs])

    matches = match(logits[:, :, :n], refined[:, :, :n], targets, config)
    positives = torch.tensor(
        expected_positives(part.counts, n, len(outputs), config), device=logits.device
    )
    loss = set_loss(logits[:, :, :n], refined[:, :, :n], targets, matches, config, positives)
    extra = None
    if copies is not None:
        pairs = copies.matches(len(outputs))
        real = copies.real[None, :, :, None]
        # Padding rows are pushed to a logit at which the focal loss and its gradient vanish.
        silenced = logits[:, :, n:own].masked_fill(~real, -30.0)
        positives = torch.full_like(positives, copies.groups * sum(part.counts))
        extra = set_loss(silenced, refined[:, :, n:own], targets, pairs, config, positives)
    nested = None
    if lengths:
        behind = logits[:, :, own:], refined[:, :, own:]
        losses = prefix_losses(*behind, lengths, targets, config, part.counts)
        nested = losses.sum() if scheme == "log" else losses.mean()
    return StepLoss(loss, extra, matches, nested)


def _padded(targets: Targets, most: int) -> Targets:
    """Targets with room for ``most`` objects an image."""
    room = most - targets.boxes.shape[1]
    if not room:
        return targets
    boxes, labels = F.pad(targets.boxes, (0, 0, 0, room)), F.pad(targets.labels, (0, room))
    return Targets(boxes, labels, targets.counts, targets.sizes)
