"""The proposals' features for the explorer: places in a plane, and who is like whom."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core.trace import Trace
from sparse_rcnn_lab.views.explorer import pack
from sparse_rcnn_lab.views.explorer.plane import Plane
from sparse_rcnn_lab.views.measures import score_by_stage

SIMILAR_KEPT = 6  # most similar proposals at a state
GROUP = 12  # best proposals in the matrix of all with all; each brings its rival
RIVAL = 0.3  # least IoU of a rival


def features_part(trace: Trace, plane: Plane | None) -> dict[str, Any]:
    """Places in the PCA plane, cosine of each two states, most similar proposals at each state,
    and the cosines among a group of proposals (see :func:`group_rows`) at each state.
    """
    known = torch.nan_to_num(trace.features)
    s, n, _ = known.shape
    plane = plane or Plane.fit(known)
    points = plane.place(known).clamp(-1.5, 1.5) / 1.5  # room for what an edit moves outside
    unit = F.normalize(known, dim=-1)
    stages = torch.einsum("snd,tnd->nst", unit, unit)
    first, second = torch.triu_indices(s, s, offset=1)
    cosines = unit @ unit.transpose(1, 2)
    rows = group_rows(trace)
    one, other = torch.triu_indices(len(rows), len(rows), offset=1)
    among = cosines[:, rows[one], rows[other]]
    near = cosines
    near.diagonal(dim1=1, dim2=2).fill_(-2)
    cosine, index = near.topk(min(SIMILAR_KEPT, max(n - 1, 0)), dim=-1)
    return {
        "points": pack.array((points * 32767).round().numpy().astype(np.int16)),
        "explained": [round(part, 4) for part in plane.explained],
        "between": pack.signed_share(stages[:, first, second]),
        "near": pack.array(index.numpy().astype(np.uint16)),
        "near_cosine": pack.signed_share(cosine),
        "group": pack.array(rows.numpy().astype(np.uint16)),
        "group_cosine": pack.signed_share(among),
    }


def group_rows(trace: Trace) -> Tensor:
    """Rows worth comparing: the best at the last stage, best first, each followed by its rival,
    the proposal outside the group whose last box overlaps it most.
    """
    scores = score_by_stage(trace)[0][-1].nan_to_num(nan=-1.0)
    best = scores.argsort(descending=True, stable=True)[:GROUP].tolist()
    boxes = torch.nan_to_num(trace.boxes[-1])
    overlap = box_ops.iou(boxes[best], boxes)
    rows: list[int] = []
    for row, ious in zip(best, overlap, strict=True):
        ious = ious.clone()
        ious[[*best, *rows]] = -1.0
        rows.append(row)
        if float(ious.max()) >= RIVAL:
            rows.append(int(ious.argmax()))
    return torch.tensor(rows)
