"""Dense supervision of the pyramid: a linear class head on every pixel, in training only.

The stages look at the image through N small windows, so in a short schedule the pyramid learns
slowly what objects look like. A class loss on the pixels inside the objects teaches it directly
(the idea of auxiliary dense heads, Co-DETR, arXiv 2211.12860). The head is thrown away afterwards;
the model and its inference are unchanged.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sparse_rcnn_lab import boxes as box_ops
from sparse_rcnn_lab.config import LossConfig
from sparse_rcnn_lab.model.pooling import STRIDES, Pyramid, assign_levels
from sparse_rcnn_lab.training.losses import focal_loss
from sparse_rcnn_lab.training.matching import Targets

# Pixels in the middle half of a box, each way, count as the object.
MIDDLE = 0.5


class DenseHead(nn.Module):
    """Class scores for every pixel of p2..p5."""

    def __init__(
        self, dim: int, num_classes: int, weight: float = 1.0, prior: float = 0.01
    ) -> None:
        super().__init__()
        self.weight = weight
        self.classify = nn.Linear(dim, num_classes)
        nn.init.normal_(self.classify.weight, std=0.01)
        nn.init.constant_(self.classify.bias, math.log(prior / (1 - prior)))

    def forward(self, pyramid: Pyramid, targets: Targets, config: LossConfig) -> Tensor:
        """The focal loss over all pixels, divided by the number that lie in an object."""
        logits = self.classify(pyramid.table).float()
        wanted = pixel_targets(pyramid, targets, logits.shape[-1]).to(logits)
        loss = focal_loss(logits, wanted, config.focal_alpha, config.focal_gamma).sum()
        return self.weight * config.cls * loss / wanted.sum().clamp(min=1)


def pixel_targets(pyramid: Pyramid, targets: Targets, num_classes: int) -> Tensor:
    """``[R, C]`` bool in the order of the pyramid's table: what each pixel should say.

    An object belongs to the level that RoI pooling would read it from.
    """
    device = targets.boxes.device
    centre_x, centre_y, width, height = box_ops.xyxy_to_cxcywh(targets.boxes).unbind(-1)
    level = assign_levels(targets.boxes)
    counts = torch.tensor(targets.counts, device=device)
    real = torch.arange(targets.labels.shape[1], device=device) < counts[:, None]  # [B, M]
    parts = []
    for index, ((h, w), stride) in enumerate(zip(pyramid.shapes, STRIDES, strict=True)):
        x = (torch.arange(w, device=device) + 0.5) * stride
        y = (torch.arange(h, device=device) + 0.5) * stride
        # At least the pixel nearest to the centre, however small the object.
        reach_x = (width * MIDDLE / 2).clamp(min=stride / 2)[..., None]
        reach_y = (height * MIDDLE / 2).clamp(min=stride / 2)[..., None]
        columns = (x - centre_x[..., None]).abs() <= reach_x  # [B, M, w]
        rows = (y - centre_y[..., None]).abs() <= reach_y  # [B, M, h]
        here = (real & (level == index))[..., None, None]
        inside = rows[..., :, None] & columns[..., None, :] & here  # [B, M, h, w]
        one_hot = torch.zeros(pyramid.batch, num_classes, h, w, device=device)
        one_hot.index_put_(
            (torch.arange(pyramid.batch, device=device)[:, None], targets.labels),
            inside.to(one_hot.dtype),
            accumulate=True,
        )
        parts.append((one_hot > 0).permute(0, 2, 3, 1).flatten(0, 2))
    return torch.cat(parts)
