"""Careers: what each learned proposal does over many pictures."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from sparse_rcnn_lab.analysis.detection_errors import RIGHT, THRESHOLD, outcome
from sparse_rcnn_lab.analysis.table import Table
from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.trace import Trace

Arrays = dict[str, np.ndarray]

MEANING = {
    "proposal": "id",
    "wins": "detections of it that are right at the last stage (IoU 0.5, class)",
    "share": "of all right detections, 0 to 1",
    "errors": "detections of it that are not right",
    "idle": "share of pictures in which it detects nothing, 0 to 1",
    "x": "mean centre of its detections, 0 (left) to 1",
    "y": "mean centre of its detections, 0 (top) to 1",
    "spread": "standard deviation of these centres, in sides of the picture",
    "w": "median width of its detections, in widths of the picture",
    "h": "median height of its detections, in heights of the picture",
    "class": "the class it wins most often",
    "class_share": "share of its wins that are of this class, 0 to 1",
    "start_x": "centre of its learned box, 0 to 1",
    "start_y": "centre of its learned box, 0 to 1",
    "start_w": "width of its learned box, 0 to 1",
    "start_h": "height of its learned box, 0 to 1",
    "way": "mean way of its centre from learned box to detection, in sides of the picture",
}
ENDS = {
    "image": "number of the picture, from 0",
    "proposal": "id of the proposal",
    "x": "centre of the detection, 0 (left) to 1",
    "y": "centre of the detection, 0 (top) to 1",
    "w": "its width, in widths of the picture",
    "h": "its height, in heights of the picture",
    "score": "0 to 1",
    "class": "name",
    "right": "whether it is right (IoU 0.5, class)",
}


@dataclass(frozen=True)
class Careers:
    """proposals: one row a proposal.  ends: one row a detection of the last stage."""

    proposals: Table
    ends: Table

    def __str__(self) -> str:
        return str(self.proposals.sorted("wins", descending=True))

    def of(self, proposal: int) -> dict[str, Any]:
        """The row of one proposal. Raises LabError when there is no such proposal."""
        found = self.proposals.where(proposal=proposal).rows()
        if not found:
            raise LabError(
                f"There is no proposal {proposal} in these careers; they hold "
                f"{len(self.proposals)}."
            )
        return found[0]


def careers_of(traces: Iterable[Trace], threshold: float = THRESHOLD) -> Careers:
    """What every proposal does over these pictures; the traces need ground truth.

    threshold: score from which something is a detection, 0..1. Raises LabError without traces,
    or when they are of different models.
    """
    parts, names = [], None
    for image, trace in enumerate(traces):
        parts.append(career_rows(trace, image, threshold))
        names = trace.class_names
    if names is None:
        raise LabError("There are no traces to tell careers from.")
    return careers_from(parts, names)


def career_rows(trace: Trace, image: int, threshold: float = THRESHOLD) -> Arrays:
    """What :func:`careers_from` needs of one trace.

    ``ends``: ``[K, 10]`` image, id, centre x, y, w, h (0..1), score, label, right, way.
    ``starts``: ``[N, 5]`` id and the learned box, cxcywh 0..1.
    """
    result = outcome(trace, threshold=threshold)
    height, width = trace.size
    whwh = np.array([width, height, width, height])
    starts = box_ops.xyxy_to_cxcywh(trace.boxes[0]).numpy() / whwh
    seen = result.detections
    boxes = box_ops.xyxy_to_cxcywh(seen.boxes).numpy() / whwh
    ids = seen.proposals.tolist()
    rows = [trace.row(proposal) for proposal in ids]
    way = np.linalg.norm(boxes[:, :2] - starts[rows, :2], axis=1)
    right = np.array([kind == RIGHT for kind in result.kinds], dtype=np.float64)
    ends = np.column_stack(
        [np.full(len(ids), image), ids, boxes, seen.scores, seen.labels, right, way]
    )
    return {
        "ends": ends.reshape(-1, 10),
        "starts": np.column_stack([trace.proposal_ids.numpy(), starts]),
        "images": np.array([image]),
    }


def careers_from(
    parts: Iterable[Arrays], class_names: tuple[str, ...], about: dict[str, Any] | None = None
) -> Careers:
    """Careers from the rows of many traces."""
    parts = list(parts)
    ends = np.concatenate([part["ends"] for part in parts])
    starts = parts[0]["starts"]
    if any(len(part["starts"]) != len(starts) for part in parts):
        raise LabError("The traces have different proposals; careers are those of one model.")
    images = sum(len(part["images"]) for part in parts)
    all_wins = max(1.0, ends[:, 8].sum())
    rows = [
        _career(ends[ends[:, 1] == start[0]], start, images, all_wins, class_names)
        for start in starts
    ]
    names = [class_names[int(label)] for label in ends[:, 7]]
    columns: dict[str, Any] = {
        "image": ends[:, 0].astype(int), "proposal": ends[:, 1].astype(int), "x": ends[:, 2],
        "y": ends[:, 3], "w": ends[:, 4], "h": ends[:, 5], "score": ends[:, 6], "class": names,
        "right": ends[:, 8] > 0,
    }  # fmt: skip
    title = f"Careers of {len(starts)} proposals over {images} pictures"
    about = {"pictures": images, "class_names": list(class_names), **(about or {})}
    return Careers(
        Table.of(title, rows, MEANING, about),
        Table(f"Where the proposals end: {len(ends)} detections", columns, ENDS, about),
    )


def _career(
    own: np.ndarray, start: np.ndarray, images: int, all_wins: float, class_names: tuple[str, ...]
) -> dict[str, Any]:
    won = own[own[:, 8] > 0]
    classes = np.bincount(won[:, 7].astype(int), minlength=len(class_names))
    nothing = not len(own)
    middle = [None] * 2 if nothing else own[:, 2:4].mean(0).tolist()
    sides = [None] * 2 if nothing else np.median(own[:, 4:6], axis=0).tolist()
    return {
        "proposal": int(start[0]),
        "wins": len(won),
        "share": len(won) / all_wins,
        "errors": len(own) - len(won),
        "idle": 1 - len(np.unique(own[:, 0])) / images,
        "x": middle[0],
        "y": middle[1],
        "spread": None if nothing else float(own[:, 2:4].std(0).mean()),
        "w": sides[0],
        "h": sides[1],
        "class": class_names[int(classes.argmax())] if len(won) else None,
        "class_share": float(classes.max() / len(won)) if len(won) else None,
        **{f"start_{side}": float(v) for side, v in zip("xywh", start[1:], strict=True)},
        "way": None if nothing else float(own[:, 9].mean()),
    }
