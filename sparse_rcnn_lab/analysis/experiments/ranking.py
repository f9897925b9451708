"""Ranks the proposals of a model that was trained without an order."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Literal, Unpack, get_args

import numpy as np
import torch
from torch import Tensor, nn

from sparse_rcnn_lab.analysis.detection_errors import RIGHT_IOU, THRESHOLD
from sparse_rcnn_lab.analysis.experiments.ap_curve import check_order
from sparse_rcnn_lab.analysis.experiments.cache import CachedRun, Part, RunOptions, limited
from sparse_rcnn_lab.analysis.experiments.variants import StageInputs
from sparse_rcnn_lab.analysis.table import Table
from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.data.sample import DetectionData
from sparse_rcnn_lab.detect.detector import Detector

By = Literal["reach", "wins"]
# An IoU below this counts as nothing; otherwise boxes that merely touch would count as coverage.
REACH_IOU = 0.3

MEANING = {
    "rank": "1 is the best",
    "proposal": "its id",
    "adds": "what it adds to those before it (reach), or how often it wins",
    "reached": "share of all that all proposals together reach or win, up to this rank, 0 to 1",
    "wins": "objects it detects: IoU 0.5 and a score of 0.3 for their class",
}


def rank_proposals(
    detector: Detector,
    data: DetectionData,
    *,
    by: By = "reach",
    **options: Unpack[RunOptions],
) -> Table:
    """Orders the learned proposals so that the first n of them are a good choice of n.

    by: "reach" takes next the proposal whose last boxes add most to the overlap of the previous
    ones with the objects, whatever its scores: with fewer proposals, another one takes over.
    "wins" counts detections, but the best are often neighbours that do the same work.
    data: preferably the images it was trained on, not those on which the order is evaluated.
    options: :class:`RunOptions`; the default limit is 1000.

    ``order = rank_proposals(...)["proposal"]``; then ``ap_curve(..., order=order)`` or
    :func:`reordered`. Raises LabError when data and detector have different classes.

    >>> import sparse_rcnn_lab as srl
    >>> detector, data = srl.load("nano-shapes"), srl.Shapes(4)
    >>> ranking = rank_proposals(detector, data, cache=False, progress=False)
    >>> len(ranking), ranking.reached.is_monotonic_increasing
    (20, True)
    """
    if by not in get_args(By):
        raise LabError(f'by must be "reach" or "wins", found {by!r}.')
    run = CachedRun("rank_proposals", detector, data, {"by": by}, **limited(options, 1000))

    @torch.inference_mode()
    def do(images: range) -> Part:
        inputs = StageInputs.of(detector, data, images)
        output = inputs.run()[-1]
        ious, scores = [], []
        for i, (truth, labels) in enumerate(inputs.truth):
            boxes = box_ops.rescale(output.boxes[i], 1 / inputs.batch.scale(i)).float().cpu()
            ious.append(box_ops.iou(boxes, truth))
            scores.append(output.logits[i].float().cpu().sigmoid()[:, labels])
        return {"iou": torch.cat(ious, 1).numpy(), "score": torch.cat(scores, 1).numpy()}

    def finish(parts: list[Part]) -> Table:
        iou, score = (
            torch.from_numpy(np.concatenate([part[name] for part in parts], axis=1))
            for name in ("iou", "score")
        )
        if not iou.shape[1]:
            raise LabError("These images have no objects, so there is nothing to rank by.")
        wins = ((iou >= RIGHT_IOU) & (score >= THRESHOLD)).float()
        order, adds = greedy_order(reach(iou)) if by == "reach" else counted_order(wins)
        columns: dict[str, Any] = {
            "rank": range(1, len(order) + 1),
            "proposal": order,
            "adds": adds,
            "reached": np.cumsum(adds) / max(sum(adds), 1e-9),
            "wins": wins.sum(1)[order].int(),
        }
        title = f"{detector.name}: proposals by {by}, {iou.shape[1]} objects"
        return Table.of(title, columns, MEANING, run.about())

    return run.table(do, finish)


def reordered(detector: Detector, order: Iterable[int] | Tensor) -> Detector:
    """A copy of the detector with its proposals in this order, so that ``num_proposals=n`` keeps
    the best n. With fewer ids the copy has only these proposals.

    With all proposals the detections stay the same, as they are a set. Raises LabError for an id
    that does not exist or occurs twice.

    >>> import sparse_rcnn_lab as srl
    >>> reordered(srl.load("nano-shapes"), [3, 1, 4]).num_proposals
    3
    """
    ids = torch.tensor(check_order(detector, order))
    model = copy.deepcopy(detector.model)
    proposals = model.proposals
    device = proposals.boxes.device
    with torch.no_grad():
        proposals.boxes = nn.Parameter(proposals.boxes[ids.to(device)])
        proposals.features = nn.Parameter(proposals.features[ids.to(device)])
    model.config = replace(model.config, num_proposals=len(ids))
    info = {**detector.info, "proposal_order": ids.tolist()}
    return Detector(model, detector.class_names, detector.name, info)


def reach(iou: Tensor) -> Tensor:
    """The value of a box with this IoU: 0 up to :data:`REACH_IOU`, then rising linearly to 1."""
    return ((iou - REACH_IOU) / (1 - REACH_IOU)).clamp(0, 1)


def greedy_order(worth: Tensor) -> tuple[list[int], list[float]]:
    """The rows of ``worth`` ``[N, M]`` (0 or more), best first, and what each adds.

    An object counts with the best row chosen so far; the next row is the one that most increases
    the sum over all objects (greedy maximum coverage, at least 63 % of the best possible). Where no
    row adds anything, the one with the largest sum of its own comes first.
    """
    covered = worth.new_zeros(worth.shape[1])
    own = worth.sum(1)
    left = list(range(worth.shape[0]))
    order: list[int] = []
    gains: list[float] = []
    while left:
        added = (worth[left] - covered).clamp(min=0).sum(1)
        best = max(range(len(left)), key=lambda i: (float(added[i]), float(own[left[i]]), -left[i]))
        gains.append(float(added[best]))
        order.append(left.pop(best))
        covered = torch.maximum(covered, worth[order[-1]])
    return order, gains


def counted_order(wins: Tensor) -> tuple[list[int], list[float]]:
    """The rows of ``wins`` ``[N, M]`` (0 or 1), most wins first, and the number of wins of each."""
    counts = wins.sum(1)
    order = counts.argsort(descending=True, stable=True).tolist()
    return order, counts[order].tolist()
