"""Pooling's faster backward pass, whose gradients test_pooling.py compares with torchvision's."""

import pytest
import torch
from torch import Tensor

from sparse_rcnn_lab.core import pooling
from sparse_rcnn_lab.core.pooling import STRIDES, Gather, assign_levels, build_pyramid, pool
from sparse_rcnn_lab.runtime import gather
from sparse_rcnn_lab.runtime.gather import weighted_gather


def make_levels(batch: int) -> list[Tensor]:
    return [torch.randn(batch, 5, 128 // s, 192 // s, requires_grad=True) for s in STRIDES]


def random_boxes(batch: int, n: int) -> Tensor:
    corner = torch.rand(batch, n, 2) * 150 - 20
    return torch.cat([corner, corner + torch.rand(batch, n, 2) ** 2 * 300], dim=-1)


@pytest.mark.parametrize("share", [0.0, 0.4, 9.0], ids=["each alone", "some", "all at once"])
def test_gathers_from_one_table_share_their_backward_pass(share, monkeypatch):
    """Catches a stage's gradient lost or counted twice, also when the pyramid is used again, and
    that of what else reads the pyramid lost."""
    monkeypatch.setattr(gather, "_SHARE", share)
    maps = make_levels(2)
    boxes = [random_boxes(2, 6) for _ in range(3)]

    def gradients(how: Gather, *tables: int) -> list[Tensor]:
        pyramids = [build_pyramid(maps) for _ in range(max(tables) + 1)]
        pooled = [
            pool(pyramids[t], b, assign_levels(b), 7, how).square().sum()
            for t, b in zip(tables, boxes, strict=True)
        ]
        loss = torch.stack(pooled).sum() + pyramids[0].level(1).sum()
        first = torch.autograd.grad(loss, maps, retain_graph=True)
        again = torch.autograd.grad(loss, maps)
        for a, b in zip(first, again, strict=True):
            torch.testing.assert_close(a, b)
        return list(first)

    wanted = gradients(pooling.gather, 0, 0, 0)
    for tables in ((0, 0, 0), (0, 1, 2)):
        for one, other in zip(gradients(weighted_gather, *tables), wanted, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
