"""What one-to-one matching leaves to be learned late where images are few.

*Which class is it?* (:func:`class_loss`) is asked of every proposal on an object, not only of the
one that is matched. The others are told that they are nothing, with features almost like those of
the matched one: what tells one class from another nearly cancels. A cross-entropy among the classes
takes no side in that. It is the same whatever is added to all of a proposal's scores, so whether
something is there, and whose it is to say, stays with the set loss.

There, and by :func:`balance` in the set loss, all classes of an image count the same, however many
objects they have: where cells of one kind crowd, the others are found too.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core.config import LossConfig
from sparse_rcnn_lab.core.losses import focal_loss
from sparse_rcnn_lab.core.matching import Matches, Targets

ON_IT = 0.5  # least IoU of a proposal's box with the object it lies on


def class_loss(logits: Tensor, boxes: Tensor, targets: Targets, objects: int) -> Tensor:
    """Cross-entropy among the classes at every stage, ``[S]``.

    An object's loss is the mean over the proposals on it; a proposal is on the object that it
    overlaps most. In each image all classes count the same.

    logits ``[S, B, N, C]``, boxes ``[S, B, N, 4]`` xyxy input pixels. objects: in the whole batch,
    so that the losses of its parts add up to its own.

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
    """What to add to the set loss so that in each image all classes count the same, ``[S]``.

    The losses of each matched pair, its box and the score of its class, times how much more (or
    less) than 1 its object is to count.  Arguments: see
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
    """How much each object counts ``[B, M]``: its class's share, 1 on average, padding 0.

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
