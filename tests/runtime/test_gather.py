"""Pooling's faster backward pass gives the gradients of the ordinary one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sparse_rcnn_lab.core import pooling
from sparse_rcnn_lab.core.pooling import STRIDES, assign_levels, build_pyramid, pool
from sparse_rcnn_lab.runtime import gather
from sparse_rcnn_lab.runtime.gather import weighted_gather


def make_levels(batch: int) -> list[Tensor]:
    return [torch.randn(batch, 5, 128 // s, 192 // s, requires_grad=True) for s in STRIDES]


def random_boxes(batch: int, n: int) -> Tensor:
    corner = torch.rand(batch, n, 2) * 150 - 20
    return torch.cat([corner, corner + torch.rand(batch, n, 2) ** 2 * 300], dim=-1)


def test_gathered_gradient_equals_the_scattered_one() -> None:
    """Catches rows that lose or swap their bags: unread rows, repeated rows, the last row."""
    rows = torch.tensor([[0, 0, 5], [5, 7, 3], [7, 7, 7]])
    weights, outgoing = torch.rand(3, 3), torch.randn(3, 4)
    gradients = []
    for function in (
        weighted_gather,
        pooling.gather,
    ):
        table = torch.linspace(0, 1, 32).view(8, 4).requires_grad_()
        out = function(table, rows, weights)
        out.backward(outgoing)
        gradients.append((out.detach(), table.grad))
    torch.testing.assert_close(gradients[0], gradients[1])
    assert not gradients[0][1][[1, 2, 4, 6]].any() and gradients[0][1][[0, 3, 5, 7]].all()


@pytest.mark.parametrize("share", [0.0, 0.4, 9.0], ids=["each alone", "some", "all at once"])
def test_gathers_from_one_table_share_their_backward_pass(
    share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a stage's gradient lost or counted twice, also when the pyramid is used again."""
    monkeypatch.setattr(gather, "_SHARE", share)
    maps = make_levels(2)
    boxes = [random_boxes(2, 6) for _ in range(3)]

    def gradients(*tables: int) -> list[Tensor]:
        pyramids = [build_pyramid(maps) for _ in range(max(tables) + 1)]
        pooled = [
            pool(pyramids[t], b, assign_levels(b), 7, weighted_gather).square().sum()
            for t, b in zip(tables, boxes, strict=True)
        ]
        loss = torch.stack(pooled).sum() + pyramids[0].level(1).sum()
        first = torch.autograd.grad(loss, maps, retain_graph=True)
        again = torch.autograd.grad(loss, maps)
        for a, b in zip(first, again, strict=True):
            torch.testing.assert_close(a, b)
        return list(first)

    for one, apart in zip(gradients(0, 0, 0), gradients(0, 1, 2), strict=True):
        torch.testing.assert_close(one, apart, rtol=1e-4, atol=1e-4)
