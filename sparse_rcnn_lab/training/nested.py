"""Nested proposals: one checkpoint that works with every number of proposals.

Learned proposals have no order, so the first n of them are an arbitrary selection, and the objects
of the others are lost. Here prefixes of random length pass through the stages beside all N, and
each is matched and compared with all objects on its own. The stages treat proposals one by one
except in self-attention, so a prefix that the attention mask separates from the others is exactly
a run with ``num_proposals=n``: the model at inference is unchanged, and the pyramid is computed
only once. The idea is that of Matryoshka representations (arXiv 2205.13147), applied to queries.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sparse_rcnn_lab.core.config import LossConfig, NestedScheme
from sparse_rcnn_lab.core.losses import set_loss
from sparse_rcnn_lab.core.matching import Targets, match
from sparse_rcnn_lab.core.model import Proposals, spread_order

# The i-th box starts with sides of at least this over the square root of i, relative to the image,
# so that few proposals cover the whole image.
LARGE = 1.2


@torch.no_grad()
def nest(proposals: Proposals) -> None:
    """Orders proposals that are not trained for it so that every prefix is useful.

    Each next box is the one whose centre fills the largest gap, and the first boxes are enlarged.
    For all N together the order alone changes nothing.
    """
    order = spread_order(proposals.boxes[:, :2])
    proposals.boxes.copy_(proposals.boxes[order])
    proposals.features.copy_(proposals.features[order])
    rank = torch.arange(1, len(proposals) + 1, device=proposals.boxes.device)
    side = (LARGE / rank.sqrt()).clamp(max=1.0)[:, None]
    proposals.boxes[:, 2:] = torch.maximum(proposals.boxes[:, 2:], side)


def draw_lengths(
    num_proposals: int, count: int, generator: torch.Generator, scheme: NestedScheme = "log"
) -> tuple[int, ...]:
    """Lengths of ``count`` prefixes, each 1..N-1; () for a single proposal.

    One is drawn from each of ``count`` equal parts of that range, on a logarithmic or a linear
    scale, so that no step sees only short ones.
    """
    if num_proposals < 2:
        return ()
    place = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    if scheme == "log":
        longest = num_proposals - 1
        return tuple(min(longest, int(num_proposals**p)) for p in place.tolist())
    return tuple(1 + int(p * (num_proposals - 1)) for p in place.tolist())


def with_prefixes(
    boxes: Tensor, features: Tensor, mask: Tensor | None, lengths: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The rows for the stages, followed by a copy of the first n for each n of ``lengths``.

    boxes ``[B, R, 4]``, features ``[B, R, D]``; the proposals are the first of these rows.
    mask: ``[B, 1, R, R]`` bool, who may attend to whom among these; None: all to all. In the
    returned mask a prefix attends only to itself, and no other row attends to it.
    """
    if not lengths:
        return boxes, features, mask
    rows = boxes.shape[1]
    parts = [torch.arange(n, device=boxes.device) for n in (rows, *lengths)]
    index = torch.cat(parts)
    owner = torch.cat([torch.full_like(part, i) for i, part in enumerate(parts)])
    wider = (owner[:, None] == owner)[None, None]
    if mask is not None:
        wider = wider.expand(*mask.shape[:2], -1, -1).clone()
        wider[..., :rows, :rows] = mask
    return boxes[:, index], features[:, index], wider


def prefix_losses(
    logits: Tensor,
    boxes: Tensor,
    lengths: Sequence[int],
    targets: Targets,
    config: LossConfig,
    counts: Sequence[int],
) -> Tensor:
    """The set loss of each prefix, all stages together: ``[len(lengths)]``.

    logits ``[S, B, P, C]``, boxes ``[S, B, P, 4]`` xyxy input pixels: the rows of all prefixes,
    one after the other. counts: the number of objects in each image of the whole batch that these
    images are part of; the losses of the parts add up to the batch's.
    """
    losses, first = [], 0
    for n in lengths:
        rows = slice(first, first + n)
        own_logits, own_boxes = logits[:, :, rows], boxes[:, :, rows]
        matches = match(own_logits, own_boxes, targets, config)
        positives = torch.tensor(
            expected_positives(counts, n, len(logits), config), device=logits.device
        )
        loss = set_loss(own_logits, own_boxes, targets, matches, config, positives)
        losses.append(loss.total())
        first += n
    return torch.stack(losses)


def expected_positives(
    counts: Sequence[int], num_proposals: int, num_stages: int, config: LossConfig
) -> list[int]:
    """How many pairs matching will find at each stage for images with these numbers of objects.

    They are known before the forward pass, so a batch that is computed in parts, by one process or
    several, can be normalised as one.
    """
    repeats = config.matches_per_object
    wanted = [repeats[min(stage, len(repeats) - 1)] for stage in range(num_stages)]
    n = num_proposals
    return [sum(min(n, m * max(1, min(repeat, n // m))) for m in counts if m) for repeat in wanted]
