"""Why learned boxes hardly move: how often a gradient reaches them, and how consistent it is."""

from __future__ import annotations

from typing import Any, Unpack

import numpy as np
import torch

from sparse_rcnn_lab.analysis.experiments.cache import CachedRun, Part, RunOptions, limited
from sparse_rcnn_lab.analysis.experiments.variants import StageInputs
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
    "reached": "share of the images whose gradient reaches its learned box at all, 0 to 1: those "
    "in which it is matched at stage 1",
    "centre": "mean length there of the loss's gradient at its centre, for a side of the image",
    "centre_agreement": "length of the mean of these gradients relative to that mean length: 1 "
    "where all images agree, 0 where they cancel; none without a gradient",
    "size": "the same for its width and height",
    "size_agreement": "the same for its width and height",
    "by_chance": "the agreement of random directions: 1 / sqrt(their number)",
}


def learned_box_gradients(
    detector: Detector, data: DetectionData, **options: Unpack[RunOptions]
) -> Table:
    """The gradient of the set loss (as published, one to one) at each learned box, over images.

    Only the regression of stage 1 reaches a learned box: pooling takes boxes as given, and those
    passed on to the next stage are detached. A box that encloses its object gets no gradient at
    its centre, since the gradients of L1 and GIoU at opposite sides cancel. There is one row per
    proposal.  options: :class:`RunOptions`; the default limit is 200.
    Raises LabError when data and detector have different classes.

    >>> import sparse_rcnn_lab as srl
    >>> detector, data = srl.load("nano-shapes"), srl.Shapes(1)
    >>> table = learned_box_gradients(detector, data, cache=False, progress=False)
    >>> int(table.reached.sum()) == len(data[0].boxes)
    True
    """
    run = CachedRun("learned_box_gradients", detector, data, {}, **limited(options, 200))

    def do(images: range) -> Part:
        proposals = detector.model.proposals
        learned = proposals.boxes.requires_grad
        proposals.boxes.requires_grad_(True)
        try:
            found = [_gradient(detector, data, i) for i in images]
            return {"gradients": np.stack(found)}
        finally:
            proposals.boxes.requires_grad_(learned)

    def finish(parts: list[Part]) -> Table:
        gradients = np.concatenate([part["gradients"] for part in parts])  # [images, N, 4]
        rows = [_row(proposal, gradients[:, proposal]) for proposal in range(gradients.shape[1])]
        title = f"{detector.name}: gradients at the learned boxes, {len(gradients)} images"
        return Table.of(title, rows, MEANING, run.about())

    return run.table(do, finish)


def _gradient(detector: Detector, data: DetectionData, image: int) -> np.ndarray:
    inputs = StageInputs.of(detector, data, [image])
    ((boxes, labels),), batch = inputs.truth, inputs.batch
    boxes = box_ops.rescale(boxes.to(batch.sizes.device), batch.scale(0))
    targets = Targets.pad([boxes], [labels.to(boxes.device)], batch.sizes)
    loss = step_loss(detector.model, TrainBatch(batch.images, targets, ("",)), LossConfig()).total()
    (gradient,) = torch.autograd.grad(loss, [detector.model.proposals.boxes])
    return gradient.cpu().numpy()


def _row(proposal: int, gradients: np.ndarray) -> dict[str, Any]:
    there = gradients[np.abs(gradients).max(1) > 0]
    centre, centre_agreement = _agreement(there[:, :2])
    size, size_agreement = _agreement(there[:, 2:])
    return {
        "proposal": proposal,
        "reached": len(there) / len(gradients),
        "centre": centre,
        "centre_agreement": centre_agreement,
        "size": size,
        "size_agreement": size_agreement,
        "by_chance": len(there) ** -0.5 if len(there) else None,
    }


def _agreement(vectors: np.ndarray) -> tuple[float | None, float | None]:
    """The mean length of vectors ``[K, 2]``, and how far they agree in direction."""
    if not len(vectors):
        return None, None
    mean = float(np.linalg.norm(vectors, axis=1).mean())
    return mean, float(np.linalg.norm(vectors.mean(0))) / mean if mean > 1e-9 else None
