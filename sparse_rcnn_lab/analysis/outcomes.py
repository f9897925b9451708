"""Object outcomes: which stage found an object, improved it, lost it or found it twice."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparse_rcnn_lab.analysis.detection_errors import (
    ERRORS,
    KINDS,
    THRESHOLD,
    Rows,
    judge_detections,
    rows_of_all,
)
from sparse_rcnn_lab.analysis.table import Table
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.trace import Trace

MOVED = 0.05  # a change of IoU that counts
OUTCOMES = ("kept", "improved", "worsened", "duplicated", "lost", "missed")

OBJECTS = {
    "image": "number of the image in its data set, from 0",
    "object": "number of the object in its image, from 0",
    "class": "its class",
    "outcome": "missed: by every stage. lost: found, not at the last stage. duplicated: found "
    "more than once at the last stage. improved, worsened: its IoU has changed by 0.05 since it "
    "was found. kept: none of these",
    "found": "first stage with a right detection (IoU 0.5, class)",
    "lost": "the stage from which on it is not found any more",
    "stages": "number of stages that find it",
    "best": "stage with the best IoU among those that find it",
    "iou_found": "IoU at the stage that found it, 0 to 1",
    "iou_best": "IoU at the best stage, 0 to 1",
    "iou_last": "IoU at the last stage, 0 to 1",
    "score_last": "score at the last stage, 0 to 1",
    "duplicates": "superfluous detections of it at the last stage",
}
STAGES = {
    "stage": "1 to S",
    "AP": "COCO AP, 0 to 1",
    "objects": "objects in the ground truth",
    "right": "detections that are right: objects found",
    "new": "objects found that the stage before had not",
    "gone": "objects not found that the stage before had",
    "improved": "objects whose IoU rose by 0.05 or more since the stage before",
    "worsened": "objects whose IoU fell by 0.05 or more since the stage before",
    "class": "detections at an object, with a wrong class",
    "localisation": "detections of the right class, badly localised",
    "both": "detections with wrong class, badly localised",
    "duplicate": "detections of an object that has one already",
    "background": "detections where nothing is",
    "missed": "objects that no detection is about",
}
IMAGES = {
    "image": "number of the image in its data set, from 0",
    "objects": "objects in the ground truth",
    "disagreement": "pairs of stages that disagree, summed over the objects (found or not) and "
    "the number of wrong detections",
    "found_first": "objects that the first stage finds",
    "found_last": "objects that the last stage finds",
    "wrong_last": "wrong detections at the last stage",
}


@dataclass(frozen=True, eq=False)
class ObjectOutcomes:
    """objects: one row per object.  stages: one row per stage.  images: one row per image, first
    those on which the stages disagree most.

    >>> import sparse_rcnn_lab as srl
    >>> found = object_outcomes_of([srl.load("nano-shapes").trace(srl.Shapes(4)[3])])
    >>> print(found.stages[["stage", "new", "duplicate"]].head(3))
    What each stage does
    stage new duplicate
        1   0         0
        2   1         0
        3   1         1
    """

    objects: Table
    stages: Table
    images: Table

    def __str__(self) -> str:
        return f"{self.stages}\n\n{self.summary()}"

    def summary(self) -> Table:
        """The number of objects with each outcome."""
        given = self.objects["outcome"].tolist()
        counts = [given.count(outcome) for outcome in OUTCOMES]
        columns = {
            "outcome": OUTCOMES,
            "objects": counts,
            "share": [count / max(1, len(given)) for count in counts],
        }
        meaning = {
            "outcome": OBJECTS["outcome"], "objects": "how many", "share": "of all, 0 to 1",
        }  # fmt: skip
        return Table.of("Outcomes of all objects", columns, meaning, self.objects.about)


def object_outcomes_of(traces: Iterable[Trace], threshold: float = THRESHOLD) -> ObjectOutcomes:
    """The outcome of every object in these images; the traces need ground truth.

    threshold: lowest score of a detection, 0..1. Raises LabError without traces, when one has no
    ground truth, or when they are of different models.

    >>> import sparse_rcnn_lab as srl
    >>> found = object_outcomes_of([srl.load("nano-shapes").trace(srl.Shapes(4)[3])])
    >>> print(found.objects[["class", "outcome", "found", "best"]])
    Outcomes of 2 objects
    class outcome found best
    heart    kept     2    5
     star    kept     3    6
    """
    parts, names = rows_of_all(traces, outcome_rows, threshold)
    if len({part["iou"].shape[1] for part in parts}) > 1:
        raise LabError("The traces have different numbers of stages. Give traces of one model.")
    return outcomes_from(parts, names)


def matched_proposals(trace: Trace) -> Tensor:
    """``[S, M]`` int64: id of the proposal that each object is matched to at each stage, or -1.

    Raises LabError when the trace has no ground truth.

    >>> import sparse_rcnn_lab as srl
    >>> matched_proposals(srl.load("nano-shapes").trace(srl.Shapes(4)[3])).shape
    torch.Size([6, 2])
    """
    matches, truth = trace.truth_matches()
    found = torch.full((trace.num_stages, len(truth)), -1, dtype=torch.long)
    stage, row = (matches >= 0).nonzero().unbind(1)
    found[stage, matches[stage, row]] = trace.proposal_ids[row]
    return found


def outcome_rows(trace: Trace, image: int, threshold: float = THRESHOLD) -> Rows:
    """The numbers that :func:`outcomes_from` needs of one trace with S stages and M objects.

    ``objects``: ``[M, 3]`` image, number, label.  ``iou``, ``score``: ``[M, S]`` of the right
    detection (NaN without one).  ``extra``: ``[M, S]`` number of duplicates.
    ``kinds``: ``[1, S, 6]`` detections of each kind.  ``missed``: ``[1, S]``.  ``images``: ``[1]``.
    """
    _, labels = trace.truth()
    stages, count = trace.num_stages, len(labels)
    iou, score = np.full((count, stages), np.nan), np.full((count, stages), np.nan)
    extra = np.zeros((count, stages))
    kinds, missed = np.zeros((1, stages, len(KINDS))), np.zeros((1, stages))
    for s in range(stages):
        judged = judge_detections(trace, s + 1, threshold)
        there = (judged.found >= 0).numpy()
        by = judged.found[judged.found >= 0]
        iou[there, s], score[there, s] = judged.ious[by], judged.detections.scores[by]
        extra[:, s] = judged.duplicates()
        kinds[0, s] = [judged.count(kind) for kind in KINDS]
        missed[0, s] = int(judged.missed.sum())
    objects = np.column_stack([np.full(count, image), np.arange(count), labels.numpy()])
    return {
        "objects": objects.reshape(count, 3), "iou": iou, "score": score, "extra": extra,
        "kinds": kinds, "missed": missed, "images": np.array([image]),
    }  # fmt: skip


def outcomes_from(
    parts: Iterable[Rows],
    class_names: tuple[str, ...],
    about: dict[str, Any] | None = None,
    ap: Sequence[float] | None = None,
) -> ObjectOutcomes:
    """Object outcomes from the rows of many traces. ap: that of each stage, where it is known."""
    parts = list(parts)
    kept = ("objects", "iou", "score", "extra", "kinds", "missed", "images")
    joined = {name: np.concatenate([part[name] for part in parts]) for name in kept}
    columns = (joined["objects"], joined["iou"], joined["score"], joined["extra"])
    objects = [
        _outcome(iou, score[-1], extra[-1])
        | {"image": image, "object": number, "class": class_names[label]}
        for (image, number, label), iou, score, extra in zip(*columns, strict=True)
    ]
    stages = _stages(joined) | ({} if ap is None else {"AP": ap})
    meaning = {name: text for name, text in STAGES.items() if name in stages}
    images = Table.of("Images by how much the stages disagree", _images(joined), IMAGES, about)
    return ObjectOutcomes(
        Table.of(f"Outcomes of {len(objects)} objects", objects, OBJECTS, about),
        Table.of("What each stage does", stages, meaning, about),
        images.sort_values("disagreement", ascending=False, kind="stable", ignore_index=True),
    )


def _outcome(iou: np.ndarray, score_last: float, extra_last: float) -> dict[str, Any]:
    """The outcome of one object from its IoU at each stage ``[S]``, NaN where it is not found."""
    stages = np.flatnonzero(np.isfinite(iou)) + 1
    if not len(stages):
        nothing = dict.fromkeys(OBJECTS, None)
        return {**nothing, "outcome": "missed", "stages": 0, "duplicates": 0}
    first, last, best = iou[stages[0] - 1], iou[-1], int(np.nanargmax(iou)) + 1
    if stages[-1] < len(iou):
        outcome = "lost"
    elif extra_last:
        outcome = "duplicated"
    elif abs(last - first) >= MOVED:
        outcome = "improved" if last > first else "worsened"
    else:
        outcome = "kept"
    return {
        "outcome": outcome,
        "found": int(stages[0]),
        "lost": int(stages[-1]) + 1 if outcome == "lost" else None,
        "stages": len(stages),
        "best": best,
        "iou_found": first,
        "iou_best": iou[best - 1],
        "iou_last": last,
        "score_last": score_last,
        "duplicates": int(extra_last),
    }


def _stages(joined: Rows) -> dict[str, Any]:
    iou, kinds = joined["iou"], joined["kinds"].sum(0).astype(int)  # [M, S], [S, 6]
    there = np.isfinite(iou)
    before = np.pad(there, ((0, 0), (1, 0)))[:, :-1]
    # NaN compares as False, so an object that comes or goes has neither improved nor worsened.
    change = np.diff(iou, axis=1, prepend=np.nan)
    return {
        "stage": np.arange(len(kinds)) + 1,
        "objects": np.full(len(kinds), len(iou)),
        "new": (there & ~before).sum(0),
        "gone": (before & ~there).sum(0),
        "improved": (change >= MOVED).sum(0),
        "worsened": (change <= -MOVED).sum(0),
        **dict(zip(KINDS, kinds.T, strict=True)),
        "missed": joined["missed"].sum(0).astype(int),
    }


def _images(joined: Rows) -> list[dict[str, Any]]:
    rows = []
    for number, image in enumerate(joined["images"]):
        there = np.isfinite(joined["iou"][joined["objects"][:, 0] == image])  # [M, S]
        wrong = joined["kinds"][number, :, -len(ERRORS) :].sum(-1)
        finding = there.sum(1)
        pairs = (finding * (there.shape[1] - finding)).sum()
        pairs += np.abs(wrong[:, None] - wrong[None, :]).sum() / 2
        rows.append(
            {
                "image": image,
                "objects": len(there),
                "disagreement": int(pairs),
                "found_first": there[:, 0].sum(),
                "found_last": there[:, -1].sum(),
                "wrong_last": int(wrong[-1]),
            }
        )
    return rows
