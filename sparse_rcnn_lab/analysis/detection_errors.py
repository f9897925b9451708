"""Which detections are right, and what is wrong with the others (kinds after TIDE, 2008.08115)."""

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
# Of a detection; a missed object has none.
ERRORS = ("class", "localisation", "both", "duplicate", "background")
KINDS = (RIGHT, *ERRORS)

THRESHOLD = 0.3  # score from which a detection counts
RIGHT_IOU = 0.5  # from here on a box is well localised
NEAR_IOU = 0.1  # below, a box has nothing to do with any object


@dataclass(frozen=True, eq=False)
class JudgedDetections:
    """The detections of one stage beside the ground truth. K detections, M objects.

    detections: best first.  kinds: of each, out of :data:`KINDS`.
    objects: ``[K]`` int64, the object each is about, or -1 (background).  ious: ``[K]`` with it.
    found: ``[M]`` int64, which detection is right about the object, or -1.
    missed: ``[M]`` bool: no detection is about the object at all, not even one with a wrong class
    or a badly localised one of its class.
    """

    detections: Detections
    kinds: tuple[str, ...]
    objects: Tensor
    ious: Tensor
    found: Tensor
    missed: Tensor

    def count(self, kind: str) -> int:
        """How many detections are of this kind."""
        return self.kinds.count(kind)

    def duplicates(self) -> Tensor:
        """``[M]`` int64: superfluous right boxes of the right class on each object."""
        extra = [i for i, kind in enumerate(self.kinds) if kind == "duplicate"]
        return torch.bincount(self.objects[extra], minlength=len(self.found))


def judge_detections(
    trace: Trace, stage: int | None = None, threshold: float = THRESHOLD
) -> JudgedDetections:
    """Judges the detections of stage 1..S (default the last) with a score of ``threshold``.

    Best score first, each object is given once, to the detection of its class with the largest IoU
    of at least 0.5: right. Of the others, the first that holds:
    duplicate: at 0.5 of an object of its class, which was given already;
    class: at 0.5 of an object of another class;  localisation: at 0.1 of an object of its class;
    both: at 0.1 of an object of another class;  background: of none.

    Unlike TIDE this counts at one threshold, as a person looks at detections, and does not say
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
    """Kind of a detection with overlaps ``[M]``, and the objects ``[M]`` it can be about."""
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
    """``rows(trace, number, threshold)`` of each trace, and the names of the classes of all.

    Raises LabError without traces, or when their classes differ.
    """
    parts: list[Rows] = []
    names: tuple[str, ...] | None = None
    for number, trace in enumerate(traces):
        if names not in (None, trace.class_names):
            raise LabError("The traces have different classes; give those of one model.")
        names = trace.class_names
        parts.append(rows(trace, number, threshold))
    if names is None:
        raise LabError("There are no traces to judge.")
    return parts, names
