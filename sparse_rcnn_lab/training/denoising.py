"""Denoising queries: the objects' boxes with noise train the stages beside the proposals.

After DN-DETR (arXiv 2203.01305). Matching leaves most proposals without an object, so in a short
schedule the class is learned late; a denoising query knows its object and trains class and box at
every stage. Queries borrow the features of random proposals, exist in training only, and are hidden
from the proposals by the attention mask, so the model at inference is unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core.matching import Matches, Targets

# Largest shift and stretch of a query, relative to its object's box: an IoU of about 0.4 or more.
SHIFT = 0.25
STRETCH = 0.3


@dataclass(frozen=True)
class DenoisingQueries:
    """Extra rows for the stages, and the objects they belong to.

    boxes: ``[B, Q, 4]`` xyxy input pixels.  features: ``[B, Q, D]``.
    target: ``[B, Q]`` object index, or -1 for a negative query and for padding.
    real: ``[B, Q]`` bool, False for padding.
    mask: ``[B, 1, N + Q, N + Q]`` bool: proposals attend to proposals, a query to its own group.
    groups: number of positive queries per object.
    """

    boxes: Tensor
    features: Tensor
    target: Tensor
    real: Tensor
    mask: Tensor
    groups: int

    def matches(self, num_stages: int) -> Matches:
        """Matches each query with its object, at every stage."""
        image, row = torch.nonzero(self.target >= 0, as_tuple=True)
        stage = torch.arange(num_stages, device=row.device).repeat_interleave(len(row))
        image, row = image.repeat(num_stages), row.repeat(num_stages)
        return Matches(stage, image, row, self.target[image, row])


def denoising_queries(
    targets: Targets,
    features: Tensor,
    groups: int,
    generator: torch.Generator,
    contrastive: bool = False,
    rows: slice = slice(None),
    batch: int | None = None,
) -> DenoisingQueries | None:
    """``groups`` denoising queries of every object, or None where the batch has no object.

    Crowded images get fewer groups, but at least one, so that there are no more positive queries
    than proposals if possible.
    features: ``[N, D]`` the learned proposal features to borrow. generator: a CPU generator.
    contrastive: adds to every query a negative one, noised once to twice as much, which is to find
    nothing: of two boxes on one object the worse one learns to step back (DINO, arXiv 2203.03605).
    rows, batch: the rows of these images in a batch of ``batch`` images that several processes
    share; each draws the noise of all and keeps its own rows, so that sharing changes nothing.
    """
    b, m = targets.labels.shape
    if m == 0:
        return None
    n = len(features)
    groups = max(1, min(groups, n // m))
    members = 2 * m if contrastive else m  # in a group: first the positives, then the negatives
    q = groups * members
    device = targets.boxes.device

    noise = 2 * torch.rand(batch or b, q, 4, generator=generator)[rows] - 1
    index = torch.arange(members).repeat(groups)
    negative = index >= m
    noise = (noise + noise.sign() * negative[:, None]).to(device)
    index, negative = (index % m).to(device).expand(b, q), negative.to(device)
    objects = targets.boxes.gather(1, index[..., None].expand(-1, -1, 4))
    cx, cy, w, h = box_ops.xyxy_to_cxcywh(objects).unbind(-1)
    boxes = box_ops.cxcywh_to_xyxy(
        torch.stack(
            [
                cx + SHIFT * noise[..., 0] * w,
                cy + SHIFT * noise[..., 1] * h,
                w * (1 + STRETCH * noise[..., 2]),
                h * (1 + STRETCH * noise[..., 3]),
            ],
            dim=-1,
        )
    )
    borrowed = torch.randint(n, (batch or b, q), generator=generator)[rows].to(device)
    counts = torch.tensor(targets.counts, device=device)
    real = index < counts[:, None]

    group = torch.arange(groups, device=device).repeat_interleave(members)
    group = torch.cat([group.new_full((n,), -1), group])
    mask = (group[:, None] == group[None]).expand(b, -1, -1).clone()
    # Nothing attends to padding but padding itself, whose softmax must have something to sum over.
    padding = torch.cat([real.new_zeros(b, n), ~real], dim=1)
    mask &= ~padding[:, None, :]
    mask |= torch.eye(n + q, dtype=torch.bool, device=device)
    target = torch.where(real & ~negative, index, -1)
    return DenoisingQueries(boxes, features[borrowed], target, real, mask[:, None], groups)
