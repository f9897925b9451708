"""Ranked proposals: an order for a model that was trained without one."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from sparse_rcnn_lab.analysis.detection_errors import RIGHT_IOU, THRESHOLD
from sparse_rcnn_lab.analysis.experiments.ap_curve import check_order
from sparse_rcnn_lab.analysis.experiments.cache import Cache, Job, Part, Tables
from sparse_rcnn_lab.analysis.experiments.variants import label_map
from sparse_rcnn_lab.analysis.ranking import counted_order, greedy_order, reach
from sparse_rcnn_lab.analysis.table import Table
from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.data.sample import DetectionData
from sparse_rcnn_lab.detect.detector import Detector

By = Literal["reach", "wins"]

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
    limit: int | None = 1000,
    batch_size: int = 8,
    cache: Cache = None,
    progress: bool = True,
) -> Table:
    """Orders the learned proposals, so that the first n of them are a good choice of n.

    by: "reach" takes next the proposal whose last boxes add most to what those before it reach of
    the objects, whether or not it scores there: with fewer proposals, another one takes over.
    "wins" counts detections; such proposals are often neighbours that do the same work.
    data: the images it was trained on, rather than those that the order is judged on.

    ``order = rank_proposals(...)["proposal"]``; then ``ap_curve(..., order=order)`` or
    :func:`reordered`. Raises LabError when data and detector have different classes.
    """
    if by not in get_args(By):
        raise LabError(f'by must be "reach" or "wins", found {by!r}.')
    job = Job("rank_proposals", detector, data, limit, {"by": by}, cache, progress)
    labels_of = label_map(detector, data)

    @torch.inference_mode()
    def do(images: range) -> Part:
        samples = [data[i] for i in images]
        batch = detector.prepare([sample.image for sample in samples])
        output = detector.run(batch)[-1]
        ious, scores = [], []
        for i, sample in enumerate(samples):
            boxes = box_ops.rescale(output.boxes[i], 1 / batch.scale(i)).float().cpu()
            ious.append(box_ops.iou(boxes, sample.boxes))
            scores.append(output.logits[i].float().cpu().sigmoid()[:, labels_of[sample.labels]])
        return {"iou": torch.cat(ious, 1).numpy(), "score": torch.cat(scores, 1).numpy()}

    def finish(parts: list[Part]) -> Tables:
        iou = torch.from_numpy(np.concatenate([part["iou"] for part in parts], axis=1))
        score = torch.from_numpy(np.concatenate([part["score"] for part in parts], axis=1))
        if not iou.shape[1]:
            raise LabError("These images have no objects; there is nothing to rank by.")
        wins = ((iou >= RIGHT_IOU) & (score >= THRESHOLD)).float()
        order, adds = greedy_order(reach(iou)) if by == "reach" else counted_order(wins)
        reached = np.cumsum(adds) / max(sum(adds), 1e-9)
        rows: list[dict[str, Any]] = [
            {
                "rank": rank + 1,
                "proposal": proposal,
                "adds": adds[rank],
                "reached": float(reached[rank]),
                "wins": int(wins[proposal].sum()),
            }
            for rank, proposal in enumerate(order)
        ]
        title = f"{detector.name}: proposals by {by}, {iou.shape[1]} objects"
        return {"ranking": Table.of(title, rows, MEANING, job.about())}

    return job.run(do, finish, batch_size)["ranking"]


def reordered(detector: Detector, order: Sequence[int] | Tensor) -> Detector:
    """A copy of the detector with its proposals in this order, so that ``num_proposals=n`` keeps
    the best n; with fewer ids, the others are gone for good.

    The answer of all proposals stays the same: they are a set. Raises LabError for an id that
    does not exist or comes twice.
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
