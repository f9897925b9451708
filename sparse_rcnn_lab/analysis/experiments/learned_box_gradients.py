"""Why learned boxes hardly move: how often, and whether always the same way, they are pulled."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from sparse_rcnn_lab.analysis.experiments.cache import Cache, Job, Part, Tables
from sparse_rcnn_lab.analysis.experiments.variants import label_map
from sparse_rcnn_lab.analysis.table import Table
from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core.config import LossConfig
from sparse_rcnn_lab.core.matching import Targets
from sparse_rcnn_lab.data.sample import DetectionData
from sparse_rcnn_lab.detect.detector import Detector
from sparse_rcnn_lab.training.loader import TrainBatch
from sparse_rcnn_lab.training.step import step_loss

MEANING = {
    "proposal": "id",
    "pulled": "share of the pictures that pull at its learned box at all, 0 to 1: those in which "
    "it is matched at stage 1",
    "centre": "mean length of the pull at its centre there: the loss's gradient, for a side of the "
    "image",
    "centre_agreement": "length of the mean of these pulls relative to that mean length: 1 where "
    "all pictures pull the same way, 0 where they cancel; none without a pull",
    "size": "the same for its width and height",
    "size_agreement": "the same for its width and height",
    "by_chance": "the agreement of pulls in random directions: 1 / sqrt(their number)",
}


def box_pulls(
    detector: Detector,
    data: DetectionData,
    *,
    limit: int | None = 200,
    cache: Cache = None,
    progress: bool = True,
) -> Table:
    """The gradient of the set loss (as published, one to one) at each learned box, by picture.

    Only the regression of stage 1 reaches a learned box: pooling takes boxes as given, and those
    handed on to the next stage are detached. A box that encloses its object is not pulled at its
    centre: what L1 and GIoU want of opposite sides cancels. One row a proposal.
    Raises LabError when data and detector have different classes.
    """
    job = Job("box_pulls", detector, data, limit, {}, cache, progress)
    labels_of = label_map(detector, data)

    def do(images: range) -> Part:
        proposals = detector.model.proposals
        learned = proposals.boxes.requires_grad
        proposals.boxes.requires_grad_(True)
        try:
            return {"pulls": np.stack([_pull(detector, data[i], labels_of) for i in images])}
        finally:
            proposals.boxes.requires_grad_(learned)

    def finish(parts: list[Part]) -> Tables:
        pulls = np.concatenate([part["pulls"] for part in parts])  # [images, N, 4]
        rows = [_row(proposal, pulls[:, proposal]) for proposal in range(pulls.shape[1])]
        title = f"{detector.name}: pulls at the learned boxes, {len(pulls)} pictures"
        return {"pulls": Table.of(title, rows, MEANING, job.about())}

    return job.run(do, finish)["pulls"]


def _pull(detector: Detector, sample: Any, labels_of: torch.Tensor) -> np.ndarray:
    batch = detector.prepare([sample.image])
    boxes = box_ops.rescale(sample.boxes.to(batch.sizes.device), batch.scale(0))
    targets = Targets.pad([boxes], [labels_of[sample.labels].to(boxes.device)], batch.sizes)
    taught = TrainBatch(batch.images, targets, (sample.name,))
    loss = step_loss(detector.model, taught, LossConfig()).total()
    (gradient,) = torch.autograd.grad(loss, [detector.model.proposals.boxes])
    return gradient.cpu().numpy()


def _row(proposal: int, pulls: np.ndarray) -> dict[str, Any]:
    there = pulls[np.abs(pulls).max(1) > 0]
    centre, centre_agreement = _agreement(there[:, :2])
    size, size_agreement = _agreement(there[:, 2:])
    return {
        "proposal": proposal,
        "pulled": len(there) / len(pulls),
        "centre": centre,
        "centre_agreement": centre_agreement,
        "size": size,
        "size_agreement": size_agreement,
        "by_chance": len(there) ** -0.5 if len(there) else None,
    }


def _agreement(pulls: np.ndarray) -> tuple[float | None, float | None]:
    """Mean length of vectors ``[K, 2]``, and how far they point the same way."""
    if not len(pulls):
        return None, None
    mean = float(np.linalg.norm(pulls, axis=1).mean())
    return mean, float(np.linalg.norm(pulls.mean(0))) / mean if mean > 1e-9 else None
