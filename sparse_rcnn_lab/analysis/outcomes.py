"""Verdicts: which stage found an object, improved it, lost it or found it twice."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from sparse_rcnn_lab.analysis.detection_errors import (
    ERRORS,
    KINDS,
    RIGHT,
    THRESHOLD,
    outcome,
    truth_of,
)
from sparse_rcnn_lab.analysis.table import Table
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.trace import Trace

MOVED = 0.05  # a change of IoU worth a word

OBJECTS = {
    "image": "number of the picture in its data set, from 0",
    "object": "number of the object in its picture, from 0",
    "class": "its class",
    "verdict": "missed: by every stage. lost: found, not at the last stage. duplicated: found "
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
    "objects": "objects in the ground truth",
    "right": "detections that are right: objects found",
    "new": "objects found that the stage before had not",
    "gone": "objects not found that the stage before had",
    "improved": "objects whose IoU rose by 0.05 or more since the stage before",
    "worsened": "objects whose IoU fell by 0.05 or more since the stage before",
    "class": "detections in the place of an object, with a wrong class",
    "place": "detections of the right class, badly placed",
    "both": "detections with wrong class and place",
    "duplicate": "detections of an object that has one already",
    "background": "detections where nothing is",
    "missed": "objects that no detection is about",
}
IMAGES = {
    "image": "number of the picture in its data set, from 0",
    "objects": "objects in the ground truth",
    "disagreement": "pairs of stages that disagree, summed over the objects (found or not) and "
    "the number of wrong detections",
    "found_first": "objects that the first stage finds",
    "found_last": "objects that the last stage finds",
    "wrong_last": "wrong detections at the last stage",
}


@dataclass(frozen=True)
class Verdicts:
    """objects: one row an object.  stages: one a stage.  images: one a picture."""

    objects: Table
    stages: Table
    images: Table

    def __str__(self) -> str:
        return f"{self.stages}\n\n{self.summary()}"

    def summary(self) -> Table:
        """How many objects have which verdict."""
        words = ("kept", "improved", "worsened", "duplicated", "lost", "missed")
        given = self.objects["verdict"]
        rows = [
            {"verdict": w, "objects": given.count(w), "share": given.count(w) / max(1, len(given))}
            for w in words
        ]
        meaning = {
            "verdict": OBJECTS["verdict"], "objects": "how many", "share": "of all, 0 to 1",
        }  # fmt: skip
        return Table.of("Verdicts over all objects", rows, meaning, self.objects.about)


def verdicts_of(traces: Iterable[Trace], threshold: float = THRESHOLD) -> Verdicts:
    """The verdict on every object of these pictures; the traces need ground truth.

    threshold: score from which something is a detection, 0..1. Raises LabError without traces, or
    when one has no ground truth.
    """
    parts, names = [], None
    for number, trace in enumerate(traces):
        parts.append(verdict_rows(trace, number, threshold))
        names = trace.class_names
    if names is None:
        raise LabError("There are no traces to judge.")
    return verdicts_from(parts, names)


def verdict_rows(trace: Trace, image: int, threshold: float = THRESHOLD) -> dict[str, np.ndarray]:
    """What :func:`verdicts_from` needs of one trace; S stages, M objects.

    ``objects``: ``[M, 3]`` image, number, label.  ``iou``, ``score``, ``extra``: ``[M, S]`` of the
    right detection (NaN without one), and of superfluous ones the number.
    ``kinds``: ``[1, S, 6]`` detections of each kind.  ``missed``: ``[1, S]``.  ``images``: ``[1]``.
    """
    _, labels = truth_of(trace)
    stages, count = trace.num_stages, len(labels)
    iou, score = np.full((count, stages), np.nan), np.full((count, stages), np.nan)
    extra = np.zeros((count, stages))
    kinds, missed = np.zeros((1, stages, len(KINDS))), np.zeros((1, stages))
    for s in range(stages):
        result = outcome(trace, s + 1, threshold)
        there = (result.found >= 0).numpy()
        by = result.found[result.found >= 0]
        iou[there, s], score[there, s] = result.ious[by], result.detections.scores[by]
        extra[:, s] = result.duplicates()
        kinds[0, s] = [result.count(kind) for kind in KINDS]
        missed[0, s] = int(result.missed.sum())
    objects = np.column_stack([np.full(count, image), np.arange(count), labels.numpy()])
    return {
        "objects": objects.reshape(count, 3), "iou": iou, "score": score, "extra": extra,
        "kinds": kinds, "missed": missed, "images": np.array([image]),
    }  # fmt: skip


def verdicts_from(
    parts: Iterable[dict[str, np.ndarray]],
    class_names: tuple[str, ...],
    about: dict[str, Any] | None = None,
) -> Verdicts:
    """Verdicts from the rows of many traces."""
    parts = list(parts)
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    about = about or {}
    ious, total = joined["iou"], len(joined["iou"])
    rows = [
        {
            "image": int(image),
            "object": int(number),
            "class": class_names[int(label)],
            **_verdict(iou, score[-1], extra[-1]),
        }
        for (image, number, label), iou, score, extra in zip(
            joined["objects"], ious, joined["score"], joined["extra"], strict=True
        )
    ]
    return Verdicts(
        Table.of(f"Verdicts on {total} objects", rows, OBJECTS, about),
        Table.of("What each stage does", _stages(joined), STAGES, about),
        Table.of("Pictures by how much the stages disagree", _images(joined), IMAGES, about).sorted(
            "disagreement", descending=True
        ),
    )


def _verdict(iou: np.ndarray, score_last: float, extra_last: float) -> dict[str, Any]:
    """One object's, from its IoU at each stage ``[S]``, NaN where it is not found."""
    stages = np.flatnonzero(np.isfinite(iou)) + 1
    if not len(stages):
        nothing = dict.fromkeys(
            ("found", "lost", "best", "iou_found", "iou_best", "iou_last", "score_last")
        )
        return {"verdict": "missed", "stages": 0, "duplicates": 0, **nothing}
    first, last = iou[stages[0] - 1], iou[-1]
    best = int(np.nanargmax(iou)) + 1
    if stages[-1] < len(iou):
        verdict = "lost"
    elif extra_last:
        verdict = "duplicated"
    elif abs(last - first) >= MOVED:
        verdict = "improved" if last > first else "worsened"
    else:
        verdict = "kept"
    return {
        "verdict": verdict,
        "found": int(stages[0]),
        "lost": int(stages[-1]) + 1 if verdict == "lost" else None,
        "stages": len(stages),
        "best": best,
        "iou_found": first,
        "iou_best": iou[best - 1],
        "iou_last": last,
        "score_last": score_last,
        "duplicates": int(extra_last),
    }


def _stages(joined: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    iou, kinds = joined["iou"], joined["kinds"].sum(0)
    there = np.isfinite(iou)
    rows = []
    for s in range(kinds.shape[0]):
        before = there[:, s - 1] if s else np.zeros(len(iou), dtype=bool)
        # NaN compares as False: an object that comes or goes has neither improved nor worsened.
        change = iou[:, s] - iou[:, s - 1] if s else np.full(len(iou), np.nan)
        rows.append(
            {
                "stage": s + 1,
                "objects": len(iou),
                "right": int(kinds[s, KINDS.index(RIGHT)]),
                "new": int((there[:, s] & ~before).sum()),
                "gone": int((before & ~there[:, s]).sum()),
                "improved": int((change >= MOVED).sum()),
                "worsened": int((change <= -MOVED).sum()),
                **{kind: int(kinds[s, KINDS.index(kind)]) for kind in ERRORS},
                "missed": int(joined["missed"][:, s].sum()),
            }
        )
    return rows


def _images(joined: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    rows = []
    for number, image in enumerate(joined["images"]):
        there = np.isfinite(joined["iou"][joined["objects"][:, 0] == image])  # [M, S]
        wrong = joined["kinds"][number, :, 1:].sum(-1)
        finding = there.sum(1)
        pairs = (finding * (there.shape[1] - finding)).sum()
        pairs += np.abs(wrong[:, None] - wrong[None, :]).sum() / 2
        rows.append(
            {
                "image": int(image),
                "objects": len(there),
                "disagreement": int(pairs),
                "found_first": int(there[:, 0].sum()),
                "found_last": int(there[:, -1].sum()),
                "wrong_last": int(wrong[-1]),
            }
        )
    return rows
