"""The one-gather pooling against torchvision's RoIAlign, level by level; the faster backward pass
of a training."""

import math

import pytest
import torch
from torch import Tensor
from torchvision.ops import roi_align

from sparse_rcnn_lab.core.pooling import STRIDES, assign_levels, build_pyramid, gather, pool
from sparse_rcnn_lab.runtime.gather import weighted_gather

HEIGHT, WIDTH, DIM = 128, 192, 5

# Inside, outside on each side, of no area, inverted, larger than the image, exactly at its edge.
BOXES = torch.tensor(
    [
        [10.0, 20.0, 60.0, 70.0],
        [3.3, 4.4, 120.5, 100.1],
        [-40.0, -30.0, 20.0, 25.0],
        [150.0, 100.0, 260.0, 190.0],
        [-500.0, 0.0, -300.0, 90.0],
        [400.0, 400.0, 500.0, 500.0],
        [50.0, 50.0, 50.0, 50.0],
        [50.0, 60.0, 50.0, 90.0],
        [80.0, 80.0, 60.0, 100.0],
        [0.0, 0.0, 192.0, 128.0],
        [-1000.0, -1000.0, 1000.0, 1000.0],
        [-1.0, -1.0, 2.0, 2.0],
        [190.0, 126.0, 194.0, 130.0],
    ]
)


def make_levels(batch: int) -> list[Tensor]:
    return [torch.randn(batch, DIM, HEIGHT // s, WIDTH // s, requires_grad=True) for s in STRIDES]


def by_torchvision(maps: list[Tensor], boxes: Tensor, levels: Tensor, side: int) -> Tensor:
    """``[B, N, P * P, D]``, slow and obvious."""
    batch, n = boxes.shape[:2]
    out = torch.zeros(batch, n, side * side, DIM)
    for b in range(batch):
        for i in range(n):
            level = int(levels[b, i])
            roi = torch.cat([torch.zeros(1), boxes[b, i]])[None]
            crop = roi_align(
                maps[level][b : b + 1],
                roi,
                side,
                spatial_scale=1 / STRIDES[level],
                sampling_ratio=2,
                aligned=True,
            )
            out[b, i] = crop[0].flatten(1).T
    return out


def random_boxes(batch: int, n: int) -> Tensor:
    corner = torch.rand(batch, n, 2) * torch.tensor([WIDTH, HEIGHT]) * 1.2 - 20
    return torch.cat([corner, corner + torch.rand(batch, n, 2) ** 2 * 200], dim=-1)


@pytest.mark.parametrize("side", [7, 3])
def test_equals_torchvision(side):
    """Catches crossed images or levels, x and y exchanged, a border or half-pixel slip."""
    maps = make_levels(3)
    boxes = torch.cat([random_boxes(3, 12), BOXES.expand(3, -1, -1)], dim=1)
    levels = torch.arange(boxes.shape[1]).repeat(3, 1) % 4  # each level whatever the size
    levels[1] = assign_levels(boxes[1])
    ours = pool(build_pyramid(maps), boxes, levels, side)
    theirs = by_torchvision(maps, boxes, levels, side)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert theirs.abs().amax((0, 2, 3)).count_nonzero() > 20  # most boxes do see the image


@pytest.mark.parametrize("how", [gather, weighted_gather])
def test_gradient_equals_torchvision(how):
    """Catches a gradient lost on a level, at a border or for a box seen twice."""
    maps = make_levels(2)
    boxes = torch.cat([random_boxes(2, 8), BOXES.expand(2, -1, -1)], dim=1)
    levels = torch.arange(boxes.shape[1]).repeat(2, 1) % 4
    weight = torch.randn(2, boxes.shape[1], 49, DIM)
    pooled = pool(build_pyramid(maps), boxes, levels, 7, how)
    ours = torch.autograd.grad((pooled * weight).sum(), maps)
    theirs = torch.autograd.grad((by_torchvision(maps, boxes, levels, 7) * weight).sum(), maps)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
        assert b.any()


def test_boxes_get_no_gradient():
    """Catches coordinates that train through the pooling, unlike everywhere published."""
    boxes = random_boxes(1, 4).requires_grad_()
    pooled = pool(build_pyramid(make_levels(1)), boxes, assign_levels(boxes), 7)
    (gradient,) = torch.autograd.grad(pooled.sum(), boxes, allow_unused=True)
    assert gradient is None


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 3e38])
@pytest.mark.parametrize("place", [0, 3])
def test_impossible_boxes(bad, place):
    """Catches an index outside the table (a crash, or another image's pixels)."""
    boxes = BOXES[:3].clone()[None]
    boxes[0, 1, place] = bad
    maps = make_levels(1)
    levels = assign_levels(boxes)
    assert ((levels >= 0) & (levels <= 3)).all()
    pooled = pool(build_pyramid(maps), boxes, levels, 7)
    assert pooled.isfinite().all()
    good = [0, 2]
    wanted = by_torchvision(maps, boxes[:, good], levels[:, good], 7)
    torch.testing.assert_close(pooled[:, good], wanted, rtol=1e-4, atol=1e-4)


def test_level_thresholds():
    """Catches another finest scale, a threshold of the longer side, or no clamping."""
    sides = torch.tensor([0.0, 1, 56, 111.9, 112, 223.9, 224, 447.9, 448, 1e5])
    square = torch.stack([sides * 0, sides * 0, sides, sides], dim=-1)
    assert assign_levels(square).tolist() == [0, 0, 0, 0, 1, 1, 2, 2, 3, 3]
    long = torch.tensor([[0.0, 0.0, 448.0, 28.0], [30.0, 0.0, 0.0, 448.0]])  # area of 112 x 112
    assert assign_levels(long).tolist() == [1, 0]


def test_level_gives_the_map_back():
    """Catches a table whose rows are in another order than its maps."""
    maps = make_levels(2)
    pyramid = build_pyramid(maps)
    for index, level in enumerate(maps):
        assert torch.equal(pyramid.level(index), level)


@pytest.mark.parametrize("share", [0.0, 0.4, 9.0], ids=["each alone", "some", "all at once"])
def test_gathers_from_one_table_share_their_backward_pass(share, monkeypatch):
    """Catches a stage's gradient lost or counted twice, also when the pyramid is used again, and
    that of what else reads the pyramid lost."""
    monkeypatch.setattr("sparse_rcnn_lab.runtime.gather._SHARE", share)
    maps = make_levels(2)
    boxes = [random_boxes(2, 6) for _ in range(3)]

    def gradients(how, *tables: int) -> list[Tensor]:
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

    wanted = gradients(gather, 0, 0, 0)
    for tables in ((0, 0, 0), (0, 1, 2)):
        for one, other in zip(gradients(weighted_gather, *tables), wanted, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
