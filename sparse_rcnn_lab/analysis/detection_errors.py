"""Which detections are right, and what is wrong with the others (as in TIDE, arXiv 2008.08115)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core.detections import Detections
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.trace import Trace

Rows = dict[str, np.ndarray]

RIGHT = "right"
# The kinds of a detection; a missed object has no detection.
ERRORS = ("class", "localisation", "both", "duplicate", "background")
KINDS = (RIGHT, *ERRORS)

THRESHOLD = 0.3  # lowest score of a detection that counts
RIGHT_IOU = 0.5  # lowest IoU of a well localised box
NEAR_IOU = 0.1  # below this IoU a box has nothing to do with an object


@dataclass(frozen=True, eq=False)
class JudgedDetections:
    """The detections of one stage beside the ground truth. K detections, M objects.

    detections: best first.  kinds: the kind of each, out of :data:`KINDS`.
    objects: ``[K]`` int64, the object that each is about, or -1 (background).  ious: ``[K]``, the
    IoU with it.  found: ``[M]`` int64, the right detection of the object, or -1.
    missed: ``[M]`` bool: whether no detection is about the object at all, not even one with a wrong
    class or a badly localised one of its class.
    """

    detections: Detections
    kinds: tuple[str, ...]
    objects: Tensor
    ious: Tensor
    found: Tensor
    missed: Tensor

    def count(self, kind: str) -> int:
        """The number of detections of this kind."""
        return self.kinds.count(kind)

    def duplicates(self) -> Tensor:
        """``[M]`` int64: how many duplicates there are of each object's right detection."""
        extra = [i for i, kind in enumerate(self.kinds) if kind == "duplicate"]
        return torch.bincount(self.objects[extra], minlength=len(self.found))


def judge_detections(
    trace: Trace, stage: int | None = None, threshold: float = THRESHOLD
) -> JudgedDetections:
    """Judges the detections of stage 1..S (default: the last) that score at least ``threshold``.

    In the order of scores, a detection is right if its IoU with a free object of its class is at
    least 0.5; it takes the one with the largest IoU. The kind of any other is the first that holds:
    duplicate: IoU 0.5 with an object of its class that is taken already;
    class: IoU 0.5 with an object of another class;  localisation: IoU 0.1 with one of its class;
    both: IoU 0.1 with an object of another class;  background: none of these.

    Unlike TIDE this counts at one threshold, as a person looks at detections, and does not compute
    what AP would be without a kind. Raises LabError without ground truth.

    >>> import sparse_rcnn_lab as srl
    >>> trace = srl.load("nano-shapes").trace(srl.Shapes(4)[3])
    >>> judge_detections(trace, stage=3).kinds
    ('right', 'right', 'duplicate')
    """
    truth, labels = trace.truth()
    seen = trace.detections(stage, threshold)
    overlap = box_ops.iou(seen.boxes, truth)  # [K, M]
    same = seen.labels[:, None] == labels
    found = torch.full((len(truth),), -1, dtype=torch.long)
    kinds: list[str] = []
    objects = torch.full((len(seen),), -1, dtype=torch.long)
    ious = torch.zeros(len(seen))
    for i in range(len(seen)):
        kind, among = _kind(overlap[i], same[i], found < 0)
        kinds.append(kind)
        if kind == "background":
            continue
        best = int(torch.where(among, overlap[i], -1.0).argmax())
        objects[i], ious[i] = best, overlap[i, best]
        if kind == RIGHT:
            found[best] = i
    about = torch.zeros(len(truth), dtype=torch.bool)
    about[objects[[i for i, kind in enumerate(kinds) if kind in ("class", "localisation")]]] = True
    return JudgedDetections(seen, tuple(kinds), objects, ious, found, (found < 0) & ~about)


def _kind(overlap: Tensor, same: Tensor, free: Tensor) -> tuple[str, Tensor]:
    """The kind of a detection with overlaps ``[M]``, and the objects ``[M]`` it can be about."""
    well, near = overlap >= RIGHT_IOU, overlap >= NEAR_IOU
    for kind, among in (
        (RIGHT, well & same & free),
        ("duplicate", well & same),
        ("class", well & ~same),
        ("localisation", near & same),
        ("both", near),
    ):
        if bool(among.any()):
            return kind, among
    return "background", near


def rows_of_all(
    traces: Iterable[Trace], rows: Callable[[Trace, int, float], Rows], threshold: float
) -> tuple[list[Rows], tuple[str, ...]]:
    """``rows(trace, number, threshold)`` of each trace, and the class names that they share.

    Raises LabError without traces, or when their classes differ.
    """
    parts: list[Rows] = []
    names: tuple[str, ...] | None = None
    for number, trace in enumerate(traces):
        if names not in (None, trace.class_names):
            raise LabError("The traces have different classes. Give traces of one model.")
        names = trace.class_names
        parts.append(rows(trace, number, threshold))
    if names is None:
        raise LabError("There are no traces to judge.")
    return parts, names
