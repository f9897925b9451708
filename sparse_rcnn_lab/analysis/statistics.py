"""Proposal statistics: what each learned proposal does over many images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sparse_rcnn_lab.analysis.detection_errors import (
    RIGHT,
    THRESHOLD,
    Rows,
    judge_detections,
    rows_of_all,
)
from sparse_rcnn_lab.analysis.table import Table
from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.trace import Trace

PROPOSALS = {
    "proposal": "id",
    "wins": "detections of it that are right at the last stage (IoU 0.5, class)",
    "share": "of all right detections, 0 to 1",
    "errors": "detections of it that are not right",
    "idle": "share of images in which it detects nothing, 0 to 1",
    "x": "mean centre of its detections, 0 (left) to 1",
    "y": "mean centre of its detections, 0 (top) to 1",
    "spread": "standard deviation of these centres, in sides of the image",
    "w": "median width of its detections, in widths of the image",
    "h": "median height of its detections, in heights of the image",
    "class": "the class it wins most often",
    "class_share": "share of its wins that are of this class, 0 to 1",
    "start_x": "centre of its learned box, 0 to 1",
    "start_y": "centre of its learned box, 0 to 1",
    "start_w": "width of its learned box, 0 to 1",
    "start_h": "height of its learned box, 0 to 1",
    "moved": "mean distance of its centre from learned box to detection, in sides of the image",
}
DETECTIONS = {
    "image": "number of the image, from 0",
    "proposal": "id of the proposal",
    "x": "centre of the detection, 0 (left) to 1",
    "y": "centre of the detection, 0 (top) to 1",
    "w": "its width, in widths of the image",
    "h": "its height, in heights of the image",
    "score": "0 to 1",
    "class": "name",
    "right": "whether it is right (IoU 0.5, class)",
}
# Columns of the rows that are kept for each image.
_KEPT = ("image", "proposal", "x", "y", "w", "h", "score", "label", "right", "moved")


@dataclass(frozen=True, eq=False)
class ProposalStatistics:
    """proposals: one row per proposal.  detections: one row per detection of the last stage.

    >>> import sparse_rcnn_lab as srl
    >>> found = proposal_statistics_of([srl.load("nano-shapes").trace(srl.Shapes(4)[3])])
    >>> found.of(9)["wins"]
    0
    """

    proposals: Table
    detections: Table

    def __str__(self) -> str:
        return str(self.proposals.sort_values("wins", ascending=False, kind="stable"))

    def of(self, proposal: int) -> dict[str, Any]:
        """The row of one proposal. Raises LabError when there is no such proposal."""
        found = self.proposals[self.proposals.proposal == proposal].records()
        if not found:
            raise LabError(
                f"There is no proposal {proposal} in these statistics; they hold "
                f"{len(self.proposals)}."
            )
        return dict(found[0])


def proposal_statistics_of(
    traces: Iterable[Trace], threshold: float = THRESHOLD
) -> ProposalStatistics:
    """What every proposal does over these images; the traces need ground truth.

    threshold: lowest score of a detection, 0..1. Raises LabError without traces, or when they are
    of different models.

    >>> import sparse_rcnn_lab as srl
    >>> found = proposal_statistics_of([srl.load("nano-shapes").trace(srl.Shapes(4)[3])])
    >>> int(found.proposals.wins.sum()), len(found.detections)
    (2, 2)
    """
    return statistics_from(*rows_of_all(traces, statistics_rows, threshold))


def statistics_rows(trace: Trace, image: int, threshold: float = THRESHOLD) -> Rows:
    """The numbers that :func:`statistics_from` needs of one trace.

    ``detections``: ``[K, 10]`` image, id, centre x, y, w, h (0..1), score, label, right, moved.
    ``starts``: ``[N, 5]`` id and the learned box, cxcywh 0..1.  ``images``: ``[1]``.
    """
    judged = judge_detections(trace, threshold=threshold)
    height, width = trace.size
    whwh = np.array([width, height, width, height])
    starts = box_ops.xyxy_to_cxcywh(trace.boxes[0]).numpy() / whwh
    seen = judged.detections
    boxes = box_ops.xyxy_to_cxcywh(seen.boxes).numpy() / whwh
    ids = seen.proposals.tolist()
    moved = boxes[:, :2] - starts[[trace.row(proposal) for proposal in ids], :2]
    right = [kind == RIGHT for kind in judged.kinds]
    detections = np.column_stack(
        [
            np.full(len(ids), image), ids, boxes, seen.scores, seen.labels, right,
            np.linalg.norm(moved, axis=1),
        ]
    )  # fmt: skip
    return {
        "detections": detections.reshape(-1, len(_KEPT)),
        "starts": np.column_stack([trace.proposal_ids.numpy(), starts]),
        "images": np.array([image]),
    }


def statistics_from(
    parts: Iterable[Rows], class_names: tuple[str, ...], about: dict[str, Any] | None = None
) -> ProposalStatistics:
    """Proposal statistics from the rows of many traces."""
    parts = list(parts)
    found = np.concatenate([part["detections"] for part in parts])
    starts = parts[0]["starts"]
    if any(len(part["starts"]) != len(starts) for part in parts):
        raise LabError("The traces have different proposals. Give traces of one model.")
    images = sum(len(part["images"]) for part in parts)
    seen = pd.DataFrame(found, columns=list(_KEPT)).astype(
        {"image": int, "proposal": int, "label": int, "right": bool}
    )
    seen["class"] = [class_names[label] for label in seen.label]
    all_wins = max(1, int(seen.right.sum()))
    rows = []
    for start in starts:
        own = seen[seen.proposal == int(start[0])]
        won = np.bincount(own.label[own.right], minlength=len(class_names))
        wins = int(won.sum())
        rows.append(
            {
                "proposal": int(start[0]),
                "wins": wins,
                "share": wins / all_wins,
                "errors": len(own) - wins,
                "idle": 1 - own.image.nunique() / images,
                "x": own.x.mean(),
                "y": own.y.mean(),
                "spread": own[["x", "y"]].std(ddof=0).mean(),
                "w": own.w.median(),
                "h": own.h.median(),
                "class": class_names[int(won.argmax())] if wins else None,
                "class_share": won.max() / wins if wins else None,
                **{f"start_{side}": v for side, v in zip("xywh", start[1:], strict=True)},
                "moved": own.moved.mean(),
            }
        )
    about = {"images": images, "class_names": list(class_names), **(about or {})}
    title = f"{len(starts)} proposals over {images} images"
    return ProposalStatistics(
        Table.of(title, rows, PROPOSALS, about),
        Table.of(f"{len(seen)} detections", dict(seen), DETECTIONS, about),
    )
