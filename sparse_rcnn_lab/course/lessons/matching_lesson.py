"""Matching in detail: a trace's costs, matching by hand, the loss's gradient, and why no NMS."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core.config import LossConfig
from sparse_rcnn_lab.core.detections import Detections
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.losses import SetLoss, set_loss
from sparse_rcnn_lab.core.matching import Matches, Targets, assign, focal_cost, match
from sparse_rcnn_lab.core.trace import Trace
from sparse_rcnn_lab.course.lessons.lesson_charts import panel
from sparse_rcnn_lab.views.figures.canvas import Page
from sparse_rcnn_lab.views.figures.matrices import cost_matrix

_PAPER = LossConfig()


@dataclass(frozen=True, eq=False)
class Costs:
    """The matching costs at one stage. N proposals, M objects; low is good.

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
        """Each object in turn takes the cheapest proposal that is left, if any: (row, column)."""
        left, pairs = self.total.clone(), []
        for column in range(min(left.shape)):
            row = int(left[:, column].argmin())
            pairs.append((row, column))
            left[row] = float("inf")
        return pairs

    def price(self, pairs: list[tuple[int, int]]) -> float:
        """The total cost of an assignment."""
        return float(sum(self.total[row, column] for row, column in pairs))

    def figure(self, pairs: list[tuple[int, int]] | None = None, title: str | None = None) -> Page:
        """The matrix with its parts; the pairs (default: Hungarian; []: none) are framed."""
        pairs = self.hungarian() if pairs is None else pairs
        framed = f"framed: the assignment · it costs {self.price(pairs):.2f} · " if pairs else ""
        return cost_matrix(
            self.total, self.objects, pairs, proposals=self.proposals,
            parts={"class": self.cls, "L1": self.l1, "GIoU": self.giou},
            title=title or f"Matching cost at stage {self.stage}",
            detail=f"{framed}dark is cheap",
        )  # fmt: skip


def costs(trace: Trace, stage: int | None = None, config: LossConfig = _PAPER) -> Costs:
    """The matching costs of a trace with ground truth at a stage 1..S, default: the last.

    config: the weights; default: the paper's 2, 5 and 2. Raises LabError without ground truth.

    >>> import sparse_rcnn_lab as srl
    >>> sample = srl.Shapes(4)[3]
    >>> weighed = costs(srl.load("nano-shapes").trace(sample), stage=4)
    >>> list(weighed.total.shape) == [20, len(sample.boxes)]
    True
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

    >>> import sparse_rcnn_lab as srl
    >>> loss = losses(srl.load("nano-shapes").trace(srl.Shapes(4)[3]))
    >>> list(loss.cls.shape), bool(loss.l1[0] > loss.l1[5])
    ([6], True)
    """
    return _losses(trace, trace.logits, config)


def push(trace: Trace, stage: int | None = None, config: LossConfig = _PAPER) -> Tensor:
    """How the loss pushes each class score at a stage: ``[N, C]``, up if above 0, down if below.

    It is the negative gradient of the set loss with respect to the logits. Raises LabError without
    ground truth.

    >>> import sparse_rcnn_lab as srl
    >>> sample = srl.Shapes(4)[3]
    >>> up = push(srl.load("nano-shapes").trace(sample), stage=6) > 0
    >>> int(up.sum()) == len(sample.boxes)
    True
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
    """Matching by hand: choose a proposal for each object and watch the sum (an ipywidget).

    Without a kernel (SPARSE_RCNN_LAB_STATIC) only the matrix is shown. Raises LabError without an
    object.

    >>> game = matching_game(Costs(*torch.ones(3, 5, 2), tuple(range(5)), ("a", "b"), 1))
    >>> [control.description for control in game.children[0].children]
    ['a 1', 'b 2']
    """
    if not costs.objects:
        raise LabError("There is no object to match. Take an image with some.")
    best = costs.price(costs.hungarian())
    options = [(str(p), row) for row, p in enumerate(costs.proposals)]

    def show(**chosen: int) -> Page:
        pairs = [(row, column) for column, row in enumerate(chosen.values())]
        rows = list(chosen.values())
        own = costs.price(pairs)
        if len(set(rows)) < len(rows):
            said = "one proposal may be matched to one object only: choose different ones"
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
            f"object_{column}": (f"{name} {column + 1}", options, 0)
            for column, name in enumerate(costs.objects)
        },
    )


@dataclass(frozen=True)
class Duplicates:
    """Sums over some images. objects: in the ground truth.  found, kept: for each stage, the
    detections, and those that NMS would keep.
    """

    objects: int
    found: tuple[int, ...]
    kept: tuple[int, ...]


def suppressed(found: Detections, overlap: float = 0.5) -> Detections:
    """The detections that NMS keeps: of two that overlap by an IoU above ``overlap``, whatever
    their class, the one with the better score.

    >>> import sparse_rcnn_lab as srl
    >>> found = srl.load("nano-shapes")(srl.Shapes(4)[3].image, threshold=0.0)
    >>> len(suppressed(found)) < len(found)
    True
    """
    from torchvision.ops import nms  # its import takes seconds

    return found[nms(found.boxes, found.scores, overlap)]


def count_duplicates(
    traces: Iterable[Trace], threshold: float = 0.3, overlap: float = 0.5
) -> Duplicates:
    """Counts detections with a score of at least ``threshold`` before and after NMS, by stage.

    Raises LabError when there is no trace, or one has no ground truth.

    >>> import sparse_rcnn_lab as srl
    >>> counted = count_duplicates([srl.load("nano-shapes").trace(srl.Shapes(4)[3])])
    >>> len(counted.found), counted.kept[-1] <= counted.found[-1]
    (6, True)
    """
    objects, found, kept = 0, [], []
    for trace in traces:
        if trace.gt_boxes is None:
            raise LabError("Counting duplicates needs ground truth: trace a data set's samples.")
        objects += len(trace.gt_boxes)
        stages = [trace.detections(s, threshold) for s in range(1, trace.num_stages + 1)]
        found.append([len(detections) for detections in stages])
        kept.append([len(suppressed(detections, overlap)) for detections in stages])
    if not found:
        raise LabError("There is no trace to count in.")
    return Duplicates(
        objects,
        tuple(sum(column) for column in zip(*found, strict=True)),
        tuple(sum(column) for column in zip(*kept, strict=True)),
    )
