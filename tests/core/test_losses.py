"""The set loss against numbers worked out by hand."""

import math

import pytest
import torch
from torch import Tensor

from sparse_rcnn_lab.core.config import LossConfig
from sparse_rcnn_lab.core.losses import set_loss
from sparse_rcnn_lab.core.matching import Matches, Targets


def pairs(*rows: tuple[int, int, int, int]) -> Matches:
    """(stage, image, proposal, target), as many as there are."""
    table = torch.tensor(rows, dtype=torch.long).reshape(-1, 4)
    return Matches(*table.T)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def positive(x: float) -> float:
    return -0.25 * (1 - sigmoid(x)) ** 2 * math.log(sigmoid(x))


def negative(x: float) -> float:
    return -0.75 * sigmoid(x) ** 2 * math.log(1 - sigmoid(x))


SIZES = torch.tensor([[50.0, 100.0], [80.0, 80.0]])


def make_targets() -> Targets:
    boxes = [torch.tensor([[0.0, 0, 10, 10], [20, 20, 40, 40]]), torch.tensor([[8.0, 8, 16, 16]])]
    return Targets.pad(boxes, [torch.tensor([1, 0]), torch.tensor([0])], SIZES)


def test_loss_by_hand():
    """Catches a wrong weight, normaliser, label, image size, or pairs summed into one stage."""
    logits = torch.zeros(2, 2, 2, 2)  # stages, images, proposals, classes
    logits[0, 0, 1, 1] = 2.0
    boxes = torch.tensor([0.0, 0, 20, 10]).repeat(2, 2, 2, 1)
    loss = set_loss(
        logits, boxes, make_targets(), pairs((0, 0, 1, 0), (0, 1, 0, 0), (1, 0, 0, 1)), LossConfig()
    )
    assert loss.positives.tolist() == [2, 1]
    # Stage 1: 8 logits; the two positives are at 2 and at 0, the others at 0.
    first = positive(2) + positive(0) + 6 * negative(0)
    second = positive(0) + 7 * negative(0)
    assert loss.cls.tolist() == pytest.approx([2 * first / 2, 2 * second], rel=1e-5)
    l1_a = 10 / 100  # one side off by 10 of 100
    l1_b = (8 + 8 + 4 + 6) / 80
    l1_c = 20 / 100 + 20 / 50 + 20 / 100 + 30 / 50
    assert loss.l1.tolist() == pytest.approx([5 * (l1_a + l1_b) / 2, 5 * l1_c], rel=1e-5)
    giou_a = 1 / 2
    inter, union, hull = 8 * 2, 200 + 64 - 16, 20 * 16
    giou_b = inter / union - (hull - union) / hull
    giou_c = 0 - (40 * 40 - 600) / 1600
    wanted = [2 * (2 - giou_a - giou_b) / 2, 2 * (1 - giou_c)]
    assert loss.giou.tolist() == pytest.approx(wanted, rel=1e-5)
    parts = [*loss.cls.tolist(), *loss.l1.tolist(), *loss.giou.tolist()]
    assert loss.total().item() == pytest.approx(sum(parts), rel=1e-6)


def outputs() -> tuple[Tensor, Tensor]:
    logits = torch.randn(2, 2, 3, 2).requires_grad_()
    corner = torch.rand(2, 2, 3, 2) * 40
    return logits, torch.cat([corner, corner + 10], dim=-1).requires_grad_()


def test_without_objects():
    """Catches division by zero, or boxes that are pulled when there is nothing to find."""
    logits, boxes = outputs()
    empty = Targets.pad([torch.zeros(0, 4)] * 2, [torch.zeros(0, dtype=torch.long)] * 2, SIZES)
    loss = set_loss(logits, boxes, empty, pairs(), LossConfig())
    assert loss.positives.tolist() == [0, 0]
    loss.total().backward()
    assert loss.total().isfinite()
    assert logits.grad is not None and logits.grad.isfinite().all()
    assert (logits.grad > 0).all()  # every score is pushed down
    assert boxes.grad is None or not boxes.grad.any()


def test_normaliser():
    """Catches an average over processes that is ignored, or let below 1."""
    logits, boxes = outputs()
    matches = pairs((0, 0, 0, 0), (0, 0, 1, 1), (1, 1, 2, 0))
    own = set_loss(logits, boxes, make_targets(), matches, LossConfig())
    given = set_loss(
        logits, boxes, make_targets(), matches, LossConfig(), torch.tensor([4.0, 0.25])
    )
    torch.testing.assert_close(given.cls, own.cls * torch.tensor([0.5, 1.0]))
    torch.testing.assert_close(given.l1, own.l1 * torch.tensor([0.5, 1.0]))


def test_only_matched_boxes_get_gradient():
    """Catches an index that is shifted by a stage, an image or a proposal."""
    logits, boxes = outputs()
    matches = pairs((0, 0, 2, 1), (1, 1, 0, 0))
    set_loss(logits, boxes, make_targets(), matches, LossConfig(cls=0)).total().backward()
    assert boxes.grad.any(-1).nonzero().tolist() == [[0, 0, 2], [1, 1, 0]]


def test_half_precision_outputs():
    """Catches a loss summed in float16, which overflows beyond 65,504."""
    logits = torch.full((1, 1, 300, 80), 20.0, dtype=torch.float16)
    boxes = torch.tensor([0.0, 0, 9, 9], dtype=torch.float16).repeat(1, 1, 300, 1)
    empty = Targets.pad([torch.zeros(0, 4)], [torch.zeros(0, dtype=torch.long)], SIZES[:1])
    loss = set_loss(logits, boxes, empty, pairs(), LossConfig())
    assert loss.total().item() == pytest.approx(2 * 0.75 * 20 * 300 * 80, rel=1e-3)
