"""Matching, looked at: costs of a trace, Hungarian by hand, and where a loss pushes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core.config import LossConfig
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.losses import SetLoss, set_loss
from sparse_rcnn_lab.core.matching import Matches, Targets, assign, focal_cost, match
from sparse_rcnn_lab.core.trace import Trace
from sparse_rcnn_lab.views.figures.canvas import Page
from sparse_rcnn_lab.views.figures.matrices import cost_matrix

_PAPER = LossConfig()


@dataclass(frozen=True, eq=False)
class Costs:
    """What matching weighs at one stage. N proposals, M objects; low is good.

    cls, l1, giou: ``[N, M]`` the weighted parts of equation 1; their sum is ``total``.
    proposals: ids of the rows.  objects: names of the columns.  stage: 1..S.
    """

    cls: Tensor
    l1: Tensor
    giou: Tensor
    proposals: tuple[int, ...]
    objects: tuple[str, ...]
    stage: int

    @property
    def total(self) -> Tensor:
        """``[N, M]``."""
        return self.cls + self.l1 + self.giou

    def hungarian(self) -> list[tuple[int, int]]:
        """The cheapest one-to-one assignment: (row, column), in order of the columns."""
        rows, columns = assign(self.total.numpy())
        pairs = zip(rows.tolist(), columns.tolist(), strict=True)
        return sorted(pairs, key=lambda pair: pair[1])

    def greedy(self) -> list[tuple[int, int]]:
        """Each object in turn takes the cheapest proposal that is left: (row, column)."""
        left, pairs = self.total.clone(), []
        for column in range(left.shape[1]):
            row = int(left[:, column].argmin())
            pairs.append((row, column))
            left[row] = float("inf")
        return pairs

    def price(self, pairs: list[tuple[int, int]]) -> float:
        """What an assignment costs altogether."""
        return float(sum(self.total[row, column] for row, column in pairs))

    def figure(self, pairs: list[tuple[int, int]] | None = None, title: str | None = None) -> Page:
        """The matrix with its parts; the pairs (default: Hungarian) are framed."""
        pairs = self.hungarian() if pairs is None else pairs
        return cost_matrix(
            self.total, self.objects, pairs, proposals=self.proposals,
            parts={"class": self.cls, "L1": self.l1, "GIoU": self.giou},
            title=title or f"Matching cost at stage {self.stage}",
            detail=f"framed: the assignment · it costs {self.price(pairs):.2f} · dark is cheap",
        )  # fmt: skip


def costs(trace: Trace, stage: int | None = None, config: LossConfig = _PAPER) -> Costs:
    """The matching costs of a trace with ground truth at a stage 1..S, default the last.

    config: the weights; default the paper's 2, 5 and 2. Raises LabError without ground truth.
    """
    _, truth = trace.truth_matches()
    assert trace.gt_labels is not None
    stage = trace.check_stage(stage)
    boxes, labels = trace.boxes[stage], trace.gt_labels
    whwh = box_ops.size_as_whwh(torch.tensor(trace.size, dtype=torch.float32))
    cls = focal_cost(trace.logits[stage - 1], labels, config)
    return Costs(
        cls=config.cls * cls,
        l1=config.l1 * torch.cdist(boxes / whwh, truth / whwh, p=1),
        giou=-config.giou * box_ops.giou(boxes, truth),
        proposals=tuple(trace.proposal_ids.tolist()),
        objects=tuple(trace.class_names[label] for label in labels.tolist()),
        stage=stage,
    )


def losses(trace: Trace, config: LossConfig = _PAPER) -> SetLoss:
    """The set loss of a trace at every stage, matched one to one.

    Raises LabError without ground truth.
    """
    return _losses(trace, trace.logits, config)


def push(trace: Trace, stage: int | None = None, config: LossConfig = _PAPER) -> Tensor:
    """Which way the loss pushes each class score at a stage: ``[N, C]``, up above 0, down below.

    It is minus the derivative of the set loss by the logits. Raises LabError without ground truth.
    """
    stage = trace.check_stage(stage)
    logits = trace.logits.clone().requires_grad_()
    _losses(trace, logits, config).total().backward()
    assert logits.grad is not None
    return -logits.grad[stage - 1]


def _losses(trace: Trace, logits: Tensor, config: LossConfig) -> SetLoss:
    _, truth = trace.truth_matches()
    assert trace.gt_labels is not None
    sizes = torch.tensor([trace.size], dtype=torch.float32)
    targets = Targets.pad([truth], [trace.gt_labels], sizes)
    boxes = trace.boxes[1:, None]
    pairs: Matches = match(logits[:, None], boxes, targets, config)
    return set_loss(logits[:, None], boxes, targets, pairs, config)


def matching_game(costs: Costs) -> Any:
    """Hungarian by hand: choose a proposal for each object and watch the sum (an ipywidget).

    Without a kernel (SPARSE_RCNN_LAB_STATIC) the matrix stands still.
    """
    from sparse_rcnn_lab.course.lessons.controls import panel

    if not costs.objects:
        raise LabError("There is no object to match. Take a picture with some.")
    best = costs.price(costs.hungarian())
    start = [0] * len(costs.objects)
    options = [(str(p), row) for row, p in enumerate(costs.proposals)]

    def show(**chosen: int) -> Page:
        pairs = [(row, column) for column, row in enumerate(chosen.values())]
        rows = list(chosen.values())
        own = costs.price(pairs)
        if len(set(rows)) < len(rows):
            said = "one proposal may answer for one object only: choose different ones"
        elif own <= best + 1e-4:
            said = "that is the cheapest there is"
        else:
            said = f"the cheapest assignment costs {own - best:.2f} less"
        return cost_matrix(
            costs.total, costs.objects, pairs, proposals=costs.proposals,
            title=f"Your assignment costs {own:.2f}", detail=said,
        )  # fmt: skip

    return panel(
        show,
        {
            f"object_{column}": (f"{name} {column + 1}", options, start[column])
            for column, name in enumerate(costs.objects)
        },
    )
