"""Two questions to all proposals on an object, not only to the one that is matched.

*Which class is it?* (:func:`class_loss`) One-to-one matching tells all but one of the proposals on
an object that they are nothing, with features almost like those of the one that is matched: what
tells one class from another nearly cancels, and new classes are learned late. A cross-entropy among
the classes takes no side in that. It is the same whatever is added to all of a proposal's scores,
so whether something is there, and whose it is to say, stays with the set loss.

*Which of you says so?* (:func:`proposal_loss`) A cross-entropy among the proposals, whose answer is
the matched one. It is the same whatever is added to all their scores: it only silences duplicates,
which the set loss, one score at a time, is slow to do.

And in both, and by :func:`balance` in the set loss, all classes of an image count the same, however
many objects they have: where cells of one kind crowd, the others are learned too.
"""

from __future__ import annotations

from typing import NamedTuple

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
    if not targets.boxes.shape[1]:
        return logits.new_zeros(len(logits))
    near = _nearest(boxes, targets)
    labels = targets.labels.expand(len(logits), -1, -1).gather(2, near.place)
    losses = F.cross_entropy(logits.float().movedim(-1, 1), labels, reduction="none")
    sharing = _added(near.on_it.float(), near)
    shares = near.on_it * (near.weight / sharing.clamp(min=1)).gather(2, near.place)
    return (losses * shares).sum((1, 2)) / max(1, objects)


def proposal_loss(
    logits: Tensor, boxes: Tensor, targets: Targets, matches: Matches, objects: int
) -> Tensor:
    """Cross-entropy among the proposals on an object, of their scores for its class, ``[S]``.

    The answer is the matched proposal, or any of several. Objects count as in :func:`class_loss`.

    logits ``[S, B, N, C]``, boxes ``[S, B, N, 4]`` xyxy input pixels, and their matches.
    objects: in the whole batch.

    >>> from sparse_rcnn_lab.core.inputs import Targets
    >>> box, size = torch.tensor([[[0.0, 0.0, 8.0, 8.0]]]), torch.tensor([[16.0, 16.0]])
    >>> targets = Targets(boxes=box, labels=torch.tensor([[1]]), counts=(1,), sizes=size)
    >>> boxes = torch.stack([box[0, 0], box[0, 0] + 1, box[0, 0] + 8])[None, None]  # the last: off
    >>> first = Matches(*(torch.tensor([0]) for _ in range(4)))
    >>> logits = torch.tensor([[[[0.0, 2.0], [0.0, 2.0], [0.0, 9.0]]]])
    >>> proposal_loss(logits, boxes, targets, first, 1)  # two are as sure: the logarithm of 2
    tensor([0.6931])
    """
    if not targets.boxes.shape[1]:
        return logits.new_zeros(len(logits))
    near = _nearest(boxes, targets)
    matched = torch.zeros_like(near.on_it)
    at = (matches.stage, matches.image, matches.proposal)
    matched[at] = near.on_it[at] = True
    near.place[at] = matches.target
    labels = targets.labels.expand(len(logits), -1, -1).gather(2, near.place)
    scores = logits.float().gather(3, labels[..., None]).squeeze(3)
    lowest = torch.full_like(near.weight.expand(len(logits), -1, -1), -torch.inf)
    known = scores.detach().masked_fill(~near.on_it, -torch.inf)
    top = lowest.scatter_reduce(2, near.place, known, "amax").gather(2, near.place)
    # Those on nothing are taken out before the exponential: none of them may overflow.
    shares = (scores - top).masked_fill(~near.on_it, -torch.inf).exp()
    every, right = _added(shares, near), _added(shares * matched, near)
    answered = right > 0
    losses = every.where(answered, 1.0).log() - right.where(answered, 1.0).log()
    return (losses * near.weight).sum((1, 2)) / max(1, objects)


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
    more = _weights(targets)[pair] - 1
    added = losses.new_zeros(len(logits)).index_add(0, matches.stage, more * losses)
    return added / normaliser.clamp(min=1)


class _Nearest(NamedTuple):
    """place ``[S, B, N]``: the object that a proposal overlaps most.  on_it ``[S, B, N]``: whether
    by so much that it lies on it.  weight ``[B, M]``: of the objects, padding 0.
    """

    place: Tensor
    on_it: Tensor
    weight: Tensor


def _nearest(boxes: Tensor, targets: Targets) -> _Nearest:
    weight = _weights(targets)
    overlaps = box_ops.iou(boxes.detach().float(), targets.boxes.expand(len(boxes), -1, -1, -1))
    overlap, place = overlaps.masked_fill((weight == 0)[:, None], 0).max(dim=-1)
    return _Nearest(place, overlap >= ON_IT, weight)


def _weights(targets: Targets) -> Tensor:
    """How much each object counts ``[B, M]``: 1 on average in an image, padding 0."""
    counts = torch.tensor(targets.counts, device=targets.boxes.device)
    real = torch.arange(targets.boxes.shape[1], device=counts.device) < counts[:, None]
    same = (targets.labels[:, :, None] == targets.labels[:, None]) & real[:, None]  # [B, M, M]
    weight = real / same.sum(-1).clamp(min=1)
    return weight * counts[:, None] / weight.sum(-1, keepdim=True).clamp(min=1)


def _added(values: Tensor, near: _Nearest) -> Tensor:
    """``[S, B, M]``: the sum of ``values`` over the proposals on each object."""
    zeros = torch.zeros_like(near.weight.expand(len(values), -1, -1), dtype=values.dtype)
    return zeros.scatter_add(2, near.place, values * near.on_it)
