"""Which class is it? Asked of every proposal on an object, not only of the one that is matched.

One-to-one matching tells all but one of the proposals on an object that they are nothing, with
features almost like those of the one that is matched: what tells one class from another nearly
cancels, and new classes are learned late. A cross-entropy among the classes takes no side in that.
It is the same whatever is added to all of a proposal's scores, so whether something is there, and
whose it is to say, stays with the set loss.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core.matching import Targets

ON_IT = 0.5  # least IoU of a proposal's box with the object it lies on


def class_loss(logits: Tensor, boxes: Tensor, targets: Targets, objects: int) -> Tensor:
    """Cross-entropy among the classes at every stage, ``[S]``.

    An object's loss is the mean over the proposals on it; a proposal is on the object that it
    overlaps most. In each image all classes count the same, however many objects they have: where
    cells of one kind crowd, the others are learned too.

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
    counts = torch.tensor(targets.counts, device=logits.device)
    real = torch.arange(places, device=logits.device) < counts[:, None]  # [B, M]
    overlaps = box_ops.iou(boxes.detach().float(), targets.boxes.expand(stages, -1, -1, -1))
    overlap, nearest = overlaps.masked_fill(~real[:, None], 0).max(dim=-1)  # [S, B, N]
    on_it = (overlap >= ON_IT).float()
    labels = targets.labels.expand(stages, -1, -1).gather(2, nearest)
    losses = F.cross_entropy(logits.float().movedim(-1, 1), labels, reduction="none")
    sharing = losses.new_zeros(stages, images, places).scatter_add(2, nearest, on_it)
    same = (targets.labels[:, :, None] == targets.labels[:, None]) & real[:, None]  # [B, M, M]
    weight = real / same.sum(-1).clamp(min=1)
    weight = weight * counts[:, None] / weight.sum(-1, keepdim=True).clamp(min=1)  # [B, M]
    shares = on_it * (weight / sharing.clamp(min=1)).gather(2, nearest)
    return (losses * shares).sum((1, 2)) / max(1, objects)
