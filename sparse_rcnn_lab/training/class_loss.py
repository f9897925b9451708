"""Two losses for few images, where one-to-one matching alone learns the classes late.

With one-to-one matching only one proposal per object learns its class. The others on the object are
background to the set loss although their features are almost the same, so what distinguishes the
classes nearly cancels. :func:`class_loss`, a cross-entropy among the classes, asks every proposal
on an object for its class. A constant added to all scores of a proposal does not change it, so
whether there is an object, and which proposal reports it, is left to the set loss.

In this loss, and with :func:`balance` in the set loss, all classes of an image weigh the same,
however many objects they have: where cells of one kind are crowded, the others are found too.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core.config import LossConfig
from sparse_rcnn_lab.core.losses import focal_loss
from sparse_rcnn_lab.core.matching import Matches, Targets

ON_IT = 0.5  # lowest IoU of a proposal's box with the object that it is on


def class_loss(logits: Tensor, boxes: Tensor, targets: Targets, objects: int) -> Tensor:
    """Cross-entropy among the classes at every stage, ``[S]``.

    An object's loss is the mean over the proposals on it; a proposal is on the object that it
    overlaps most. In each image all classes weigh the same.

    logits ``[S, B, N, C]``, boxes ``[S, B, N, 4]`` xyxy input pixels. objects: their number in the
    whole batch, so that the losses of its parts add up to the batch's.

    >>> from sparse_rcnn_lab.core.inputs import Targets
    >>> box, size = torch.tensor([[[0.0, 0.0, 8.0, 8.0]]]), torch.tensor([[16.0, 16.0]])
    >>> targets = Targets(boxes=box, labels=torch.tensor([[1]]), counts=(1,), sizes=size)
    >>> boxes = torch.stack([box[0, 0], box[0, 0] + 1, box[0, 0] + 8])[None, None]  # the last: off
    >>> class_loss(torch.tensor([[[[0.0, 9.0], [0.0, 0.0], [9.0, 0.0]]]]), boxes, targets, 1)
    tensor([0.3466])
    """
    stages, images, _, _ = logits.shape
    places = targets.boxes.shape[1]
    if not places:
        return logits.new_zeros(stages)
    weight = class_weights(targets)
    overlaps = box_ops.iou(boxes.detach().float(), targets.boxes.expand(stages, -1, -1, -1))
    overlap, nearest = overlaps.masked_fill((weight == 0)[:, None], 0).max(dim=-1)  # [S, B, N]
    on_it = (overlap >= ON_IT).float()
    labels = targets.labels.expand(stages, -1, -1).gather(2, nearest)
    losses = F.cross_entropy(logits.float().movedim(-1, 1), labels, reduction="none")
    sharing = losses.new_zeros(stages, images, places).scatter_add(2, nearest, on_it)
    shares = on_it * (weight / sharing.clamp(min=1)).gather(2, nearest)
    return (losses * shares).sum((1, 2)) / max(1, objects)


def balance(
    logits: Tensor,
    boxes: Tensor,
    targets: Targets,
    matches: Matches,
    config: LossConfig,
    normaliser: Tensor,
) -> Tensor:
    """What to add to the set loss so that in each image all classes weigh the same, ``[S]``.

    It is the loss of each matched pair, of its box and the score of its class, times how much more
    (or less) than 1 its object is to weigh.  The arguments are those of
    :func:`sparse_rcnn_lab.core.losses.set_loss`.
    """
    at = (matches.stage, matches.image, matches.proposal)
    pair = (matches.image, matches.target)
    scores = logits[(*at, targets.labels[pair])].float()
    said = focal_loss(scores, torch.ones_like(scores), config.focal_alpha, config.focal_gamma)
    predicted, truth = boxes[at].float(), targets.boxes[pair]
    whwh = box_ops.size_as_whwh(targets.sizes)[matches.image]
    distance = ((predicted - truth) / whwh).abs().sum(-1)
    overlap = 1 - box_ops.paired_giou(predicted, truth)
    losses = config.cls * said + config.l1 * distance + config.giou * overlap
    more = class_weights(targets)[pair] - 1
    added = losses.new_zeros(len(logits)).index_add(0, matches.stage, more * losses)
    return added / normaliser.clamp(min=1)


def class_weights(targets: Targets) -> Tensor:
    """The weight of each object ``[B, M]``: 1 on average, all classes the same sum; padding has 0.

    >>> from sparse_rcnn_lab.core.inputs import Targets
    >>> boxes, labels = torch.ones(1, 4, 4), torch.tensor([[0, 0, 0, 2]])
    >>> class_weights(Targets(boxes, labels, counts=(4,), sizes=torch.ones(1, 2)))
    tensor([[0.6667, 0.6667, 0.6667, 2.0000]])
    """
    counts = torch.tensor(targets.counts, device=targets.boxes.device)
    real = torch.arange(targets.boxes.shape[1], device=counts.device) < counts[:, None]
    same = (targets.labels[:, :, None] == targets.labels[:, None]) & real[:, None]  # [B, M, M]
    weight = real / same.sum(-1).clamp(min=1)
    return weight * counts[:, None] / weight.sum(-1, keepdim=True).clamp(min=1)
