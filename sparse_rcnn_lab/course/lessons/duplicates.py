"""Why no NMS: how many detections each stage has that non-maximum suppression would take away."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torchvision.ops import nms

from sparse_rcnn_lab.core.detections import Detections
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.trace import Trace


@dataclass(frozen=True)
class Duplicates:
    """Sums over some pictures. objects: in the ground truth.  found, kept: one number a stage,
    detections, and those that NMS would keep.
    """

    objects: int
    found: tuple[int, ...]
    kept: tuple[int, ...]


def suppressed(found: Detections, overlap: float = 0.5) -> Detections:
    """The detections that NMS keeps: of two that overlap by an IoU above ``overlap``, whatever
    their class, the better scored.
    """
    return found[nms(found.boxes, found.scores, overlap)]


def count_duplicates(
    traces: Iterable[Trace], threshold: float = 0.3, overlap: float = 0.5
) -> Duplicates:
    """Counts detections with a score of at least ``threshold`` before and after NMS, by stage.

    Raises LabError when there is no trace, or one has no ground truth.
    """
    objects, found, kept = 0, [], []
    for trace in traces:
        if trace.gt_boxes is None:
            raise LabError("Counting duplicates needs ground truth: trace a data set's samples.")
        objects += len(trace.gt_boxes)
        stages = [trace.detections(s, threshold) for s in range(1, trace.num_stages + 1)]
        found.append([len(detections) for detections in stages])
        kept.append([len(suppressed(detections, overlap)) for detections in stages])
    if not found:
        raise LabError("There is no trace to count in.")
    return Duplicates(
        objects,
        tuple(sum(column) for column in zip(*found, strict=True)),
        tuple(sum(column) for column in zip(*kept, strict=True)),
    )
