"""Compares the proposals' features: cosines, and positions on the axes of their largest variance.

NaN in the trace (of a diverged model) stays NaN.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.trace import Trace
from sparse_rcnn_lab.views.measures import ranked

GROUP = 12  # best proposals that are compared with each other, each with its rival
RIVAL = 0.3  # lowest IoU of a rival


@dataclass(frozen=True, eq=False)
class FeaturePlane:
    """The axes of largest variance (PCA) of some features, on which others can be placed too.

    mean ``[D]``.  axes ``[D, 2]``.  explained ``[2]``: each axis' share of the variance, 0..1.
    reach: the largest coordinate of the features that it was fitted to.
    """

    mean: Tensor
    axes: Tensor
    explained: Tensor
    reach: float

    @classmethod
    def fit(cls, features: Tensor) -> FeaturePlane:
        """PCA of all vectors ``[..., D]`` together, without those that are not finite.

        The sign of an axis is arbitrary; here its largest weight is positive, so that the same
        features always give the same scatter. If D is less than 2, the missing axis is 0.
        """
        d = features.shape[-1]
        flat = features.reshape(-1, d).double()
        flat = flat[flat.isfinite().all(-1)]
        mean = flat.mean(0) if len(flat) else flat.new_zeros(d)
        # A D x D matrix instead of an SVD of all vectors: 7,000 of them take milliseconds.
        variances, axes = torch.linalg.eigh((flat - mean).T @ (flat - mean))
        spare = max(0, 2 - d)
        axes = F.pad(axes.flip(-1)[:, :2], (0, spare))
        largest = axes.gather(0, axes.abs().argmax(0, keepdim=True))
        axes = axes * torch.where(largest < 0, -1.0, 1.0)
        variances = variances.flip(0).clamp(min=0)
        explained = F.pad(variances[:2], (0, spare)) / variances.sum().clamp(min=1e-12)
        reach = float(((flat - mean) @ axes).abs().max()) if len(flat) else 0.0
        return cls(mean, axes, explained.float(), reach or 1.0)

    def place(self, features: Tensor) -> Tensor:
        """Positions of features on the two axes: ``[..., D]`` -> ``[..., 2]``."""
        return ((features.double() - self.mean) @ self.axes).float()


def stage_similarity(trace: Trace, proposal: int) -> Tensor:
    """``[S+1, S+1]`` cosine similarity of a proposal's feature in each pair of states, -1..1."""
    return _cosine(trace.features[:, trace.row(proposal)])


def proposal_similarity(trace: Trace, stage: int) -> Tensor:
    """``[N, N]`` cosine similarity among the proposals' features at state 0..S, -1..1."""
    return _cosine(trace.features[trace.check_stage(stage, 0)])


def _cosine(vectors: Tensor) -> Tensor:
    unit = F.normalize(vectors.float(), dim=-1)
    return (unit @ unit.T).clamp(-1, 1)


def comparable(trace: Trace, stage: int) -> list[int]:
    """Ids of the proposals whose feature at state 0..S is finite, best final score first.

    Raises LabError when there is none.
    """
    finite = trace.features[trace.check_stage(stage, 0)].isfinite().all(-1)
    found = [proposal for proposal in ranked(trace) if finite[trace.row(proposal)]]
    if not found:
        raise LabError(
            f"No proposal's feature at stage {stage} is a finite number (NaN): the model has "
            "diverged there. Choose an earlier stage."
        )
    return found


def rows_with_rivals(trace: Trace) -> Tensor:
    """Rows worth comparing: the best at the last stage, best first, each followed by its rival,
    which is the proposal outside the group whose last box overlaps it most.
    """
    best = [trace.row(proposal) for proposal in ranked(trace, GROUP)]
    boxes = torch.nan_to_num(trace.boxes[-1])
    overlap = box_ops.iou(boxes[best], boxes)
    rows: list[int] = []
    for row, ious in zip(best, overlap, strict=True):
        ious[[*best, *rows]] = -1.0
        rows.append(row)
        if float(ious.max()) >= RIVAL:
            rows.append(int(ious.argmax()))
    return torch.tensor(rows)
