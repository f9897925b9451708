"""Compares two traces: what a change did to the boxes, the scores and the detections."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core.detections import Detections
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.trace import Trace

SAME_OBJECT = 0.5  # lowest IoU of two detections of the same object


@dataclass(frozen=True, eq=False)
class TraceDiff:
    """What changed between two traces of one image, as :func:`trace_diff` finds it.

    proposal_ids: ``[K]``, the proposals in both.  shift: ``[K]`` distance of the box centres, in
    pixels of the original image.  iou: ``[K]`` of the box before and after, 0..1.  score_change:
    ``[K]`` of the best class score, -1..1.  labels_before, labels_after: ``[K]`` the best class.
    kept: detections after that were there before, with the same class in the same place.
    gained: detections after that match none before.  lost: detections before that match none
    after.  handed_over: (proposal before, proposal after) where another one finds a kept object.
    """

    proposal_ids: Tensor
    shift: Tensor
    iou: Tensor
    score_change: Tensor
    labels_before: Tensor
    labels_after: Tensor
    kept: Detections
    gained: Detections
    lost: Detections
    handed_over: tuple[tuple[int, int], ...]

    def changed_class(self) -> Tensor:
        """``[K]`` bool: whether the best class has changed."""
        return self.labels_before != self.labels_after

    def __repr__(self) -> str:
        """One line; ``print`` describes it in words."""
        kept, gained, lost = len(self.kept), len(self.gained), len(self.lost)
        what = f"{len(self.proposal_ids)} proposals, {kept} kept, {gained} gained, {lost} lost"
        return f"<TraceDiff: {what}>"

    def __str__(self) -> str:
        count = len(self.proposal_ids)
        moved = int((self.shift >= 1).sum())
        lines = [
            f"{moved} of {count} boxes moved by 1 px or more"
            + (f" (most: {float(self.shift.nan_to_num().max()):.0f} px)" if moved else ""),
            f"best class changed for {int(self.changed_class().sum())} proposals, "
            f"largest score change {_largest(self.score_change):+.2f}",
            f"{len(self.kept)} detections kept, {len(self.gained)} gained, {len(self.lost)} lost",
        ]
        for sign, found in (("+", self.gained), ("-", self.lost)):
            lines += [
                f"  {sign} {name} {score:.2f} (proposal {proposal})"
                for name, score, proposal in zip(
                    found.names(), found.scores.tolist(), found.proposals.tolist(), strict=True
                )
            ]
        lines += [f"  proposal {b} takes over from {a}" for a, b in self.handed_over]
        return "\n".join(lines)


def trace_diff(
    before: Trace, after: Trace, stage: int | None = None, threshold: float = 0.3
) -> TraceDiff:
    """Compares two traces of one image, proposal by proposal and detection by detection.

    stage: the state to compare, 1..S; None compares the last state of each, whatever its number.
    threshold: lowest score of a detection, 0..1.
    Raises LabError when they are of different images or classes, or share no proposal.

    >>> import sparse_rcnn_lab as srl
    >>> session = srl.Session(srl.load("nano-shapes"), srl.open_data("shapes", "val")[6])
    >>> change = session.drop(6)
    >>> diff = trace_diff(session.base, session.run(), threshold=0.5)
    >>> len(diff.proposal_ids), len(diff.lost), diff.handed_over  # proposal 13 takes over from 6
    (19, 0, ((6, 13),))
    """
    if before.size != after.size or before.class_names != after.class_names:
        raise LabError(
            f"These traces do not belong together: one has {before.size[1]}x{before.size[0]} px "
            f"and {len(before.class_names)} classes, the other {after.size[1]}x{after.size[0]} px "
            f"and {len(after.class_names)}."
        )
    both = torch.isin(before.proposal_ids, after.proposal_ids)
    ids = before.proposal_ids[both]
    if not len(ids):
        raise LabError("These traces have no proposal in common, so nothing can be compared.")
    old_rows = both.nonzero()[:, 0]
    new_rows = torch.tensor([after.row(i) for i in ids.tolist()])
    found_before = before.detections(stage, threshold)
    found_after = after.detections(stage, threshold)
    old, new = (trace.num_stages if stage is None else stage for trace in (before, after))
    a, b = before.boxes[old, old_rows], after.boxes[new, new_rows]
    score_a, label_a = before.logits[old - 1, old_rows].sigmoid().max(-1)
    score_b, label_b = after.logits[new - 1, new_rows].sigmoid().max(-1)
    pairs = _same_objects(found_before, found_after)
    kept_before, kept_after = [i for i, _ in pairs], [j for _, j in pairs]
    names = zip(
        found_before.proposals[kept_before].tolist(),
        found_after.proposals[kept_after].tolist(),
        strict=True,
    )
    return TraceDiff(
        proposal_ids=ids,
        shift=(_centres(b) - _centres(a)).norm(dim=-1),
        iou=box_ops.paired_iou(a, b),
        score_change=score_b - score_a,
        labels_before=label_a,
        labels_after=label_b,
        kept=found_after[torch.tensor(sorted(kept_after), dtype=torch.long)],
        gained=found_after[_others(len(found_after), kept_after)],
        lost=found_before[_others(len(found_before), kept_before)],
        handed_over=tuple((x, y) for x, y in names if x != y),
    )


def _centres(boxes: Tensor) -> Tensor:
    return box_ops.xyxy_to_cxcywh(boxes)[..., :2]


def _largest(values: Tensor) -> float:
    values = values.nan_to_num()
    return float(values[values.abs().argmax()])


def _others(count: int, taken: list[int]) -> Tensor:
    rest = torch.ones(count, dtype=torch.bool)
    rest[taken] = False
    return rest


def _same_objects(before: Detections, after: Detections) -> list[tuple[int, int]]:
    """Pairs of the same class and place: first those of the same proposal, then by overlap."""
    if not len(before) or not len(after):
        return []
    overlap = box_ops.iou(before.boxes, after.boxes)
    possible = (before.labels[:, None] == after.labels) & (overlap >= SAME_OBJECT)
    own = before.proposals[:, None] == after.proposals
    rank = torch.where(possible, overlap + own, torch.zeros(()))
    pairs = []
    while rank.max() > 0:
        i, j = divmod(int(rank.argmax()), rank.shape[1])
        pairs.append((i, j))
        rank[i], rank[:, j] = 0, 0
    return pairs
