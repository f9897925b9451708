"""The slow, obvious pooling: torchvision's RoIAlign, level by level.

What :func:`sparse_rcnn_lab.core.pooling.pool` must agree with, and what the benchmark compares
it to.
"""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor
from torchvision.ops import roi_align

from sparse_rcnn_lab.core.pooling import SAMPLES, STRIDES, Pyramid


def roi_align_pool(pyramid: Pyramid, boxes: Tensor, levels: Tensor, roi_size: int) -> Tensor:
    """As :func:`sparse_rcnn_lab.core.pooling.pool`, with torchvision's ``roi_align``.

    boxes ``[B, N, 4]`` xyxy input pixels, levels ``[B, N]`` -> ``[B, N, P * P, D]``.
    """
    batch, n = levels.shape
    image = torch.arange(batch, device=boxes.device).repeat_interleave(n)
    rois = torch.cat([image[:, None].float(), boxes.detach().reshape(-1, 4).float()], dim=1)
    pooled = pyramid.level(0).new_zeros(batch * n, roi_size**2, pyramid.table.shape[1])
    for level, stride in enumerate(STRIDES):
        here = (levels.reshape(-1) == level).nonzero()[:, 0]
        if len(here):
            bins = roi_align(
                pyramid.level(level), rois[here], roi_size, 1 / stride, SAMPLES, aligned=True
            )
            pooled = pooled.index_put((here,), bins.flatten(2).transpose(1, 2))  # [K, P*P, D]
    return pooled.view(batch, n, roi_size**2, -1)


class FeatureMaps(Pyramid):
    """A pyramid without a table: its levels stay maps ``[B, D, H, W]``, laid out for RoIAlign.

    Only :func:`roi_align_pool` can read it. It spares the other pooling's table, and the copy that
    RoIAlign otherwise makes of every level in every stage.
    """

    maps: tuple[Tensor, ...]

    @classmethod
    def of(cls, levels: list[Tensor]) -> Self:
        """From p2..p5, each ``[B, D, H, W]``."""
        shapes = tuple((level.shape[2], level.shape[3]) for level in levels)
        pyramid = cls(levels[0].new_empty(0, levels[0].shape[1]), shapes, levels[0].shape[0])
        pyramid.maps = tuple(level.contiguous() for level in levels)
        return pyramid

    def level(self, index: int) -> Tensor:
        """Level ``index`` (0 is p2)."""
        return self.maps[index]
