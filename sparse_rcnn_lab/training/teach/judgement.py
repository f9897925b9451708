"""An honest report: what the taught model finds and what it misses on held-out images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from sparse_rcnn_lab.analysis.detection_errors import (
    RIGHT,
    RIGHT_IOU,
    JudgedDetections,
    judge_detections,
)
from sparse_rcnn_lab.core.trace import Trace
from sparse_rcnn_lab.data.coco.folder import CocoFolder
from sparse_rcnn_lab.data.sample import DetectionData
from sparse_rcnn_lab.detect.detector import Detector

THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
_GOOD = 0.8  # share of objects found from which on no more images are asked for
_SURE = 4  # held-out objects of a class below which its result means little
_APART = 1.35  # from this factor between the sizes of missed and training objects on, it is said


@dataclass(frozen=True)
class ClassJudgement:
    """How well one class is found.

    found: how many of its ``objects``.  false: boxes of it where nothing is.  taken_for: how many
    of the missed ones were taken for which other class, were not seen ("background"), or got a box
    in the wrong place ("place").  words: a sentence on it, with what to do.
    """

    name: str
    objects: int
    found: int
    false: int
    taken_for: dict[str, int]
    words: str


@dataclass(frozen=True)
class Judgement:
    """How well a detector does on held-out images.

    threshold: the score at which it does best there, 0..1; all counts are at this threshold.
    images: number of held-out images.  false: boxes where nothing is.  words: a sentence on all
    classes.  classes: one judgement per class.
    """

    threshold: float
    images: int
    false: int
    words: str
    classes: list[ClassJudgement] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """The judgement as plain values that json can hold."""
        return asdict(self)

    def __str__(self) -> str:
        return "\n".join([self.words, *(f"  {one.words}" for one in self.classes)])


def judge(detector: Detector, val: DetectionData, train: CocoFolder | None = None) -> Judgement:
    """Judges a detector on held-out images. train: its training images, to say what they lack.

    >>> import sparse_rcnn_lab as srl
    >>> found = judge(srl.load("nano-shapes"), srl.Shapes(8, seed=9))
    >>> found.images, 0 < found.threshold < 1
    (8, True)
    """
    traces = [detector.trace(val[index]) for index in range(len(val))]
    return judge_traces(traces, val.class_names, _shown_sizes(train))


def judge_traces(
    traces: Sequence[Trace], names: Sequence[str], shown: dict[int, float] | None = None
) -> Judgement:
    """As :func:`judge`, from traces with ground truth; shown: each label's typical size."""
    tried = {t: [judge_detections(trace, threshold=t) for trace in traces] for t in THRESHOLDS}
    threshold = max(THRESHOLDS, key=lambda t: (_f1(tried[t]), -abs(t - 0.5)))
    objects, found, false = Counter[int](), Counter[int](), Counter[int]()
    taken: dict[int, Counter[str]] = {label: Counter() for label in range(len(names))}
    missed_sizes: dict[int, list[float]] = {label: [] for label in range(len(names))}
    for trace, judged in zip(traces, tried[threshold], strict=True):
        boxes, labels = trace.truth()
        seen = judged.detections
        false.update(
            int(seen.labels[i]) for i, kind in enumerate(judged.kinds) if kind == "background"
        )
        for number, label in enumerate(labels.tolist()):
            objects[label] += 1
            if judged.found[number] >= 0:
                found[label] += 1
                continue
            about = (judged.objects == number).nonzero()[:, 0].tolist()
            box = boxes[number]
            area = float((box[2] - box[0]) * (box[3] - box[1]))
            missed_sizes[label].append((area / (trace.size[0] * trace.size[1])) ** 0.5)
            taken[label][_taken_for(judged, about, names)] += 1
    classes = []
    for label, name in enumerate(names):
        size = float(np.median(missed_sizes[label])) if missed_sizes[label] else None
        words = _words(
            name, objects[label], found[label], false[label], taken[label],
            size, (shown or {}).get(label),
        )  # fmt: skip
        classes.append(
            ClassJudgement(
                name, objects[label], found[label], false[label], dict(taken[label]), words
            )
        )
    total, right, wrong = objects.total(), found.total(), false.total()
    words = (
        f"On {len(traces)} held-out images it finds {right} of {total} objects, with "
        f"{wrong} {'box' if wrong == 1 else 'boxes'} where nothing is (score at least "
        f"{threshold:.1f}, IoU at least {RIGHT_IOU:g})."
    )
    return Judgement(threshold, len(traces), wrong, words, classes)


def _taken_for(judged: JudgedDetections, about: list[int], names: Sequence[str]) -> str:
    """What the best detection on a missed object takes it for; "background" where there is none,
    "place" where only its box is wrong."""
    if not about:
        return "background"
    kind = judged.kinds[about[0]]
    return "place" if kind == "localisation" else names[int(judged.detections.labels[about[0]])]


def _words(
    name: str,
    objects: int,
    found: int,
    false: int,
    taken: Counter[str],
    size: float | None,
    shown: float | None,
) -> str:
    if not objects:
        return f"{name}: not in the held-out images, so nobody knows. Take five more of it."
    text = f"{name}: {found} of {objects}"
    if taken:
        what, times = taken.most_common(1)[0]
        often = "often" if times > 1 else "once"
        how = {
            "background": f"{often} not seen (taken for background)",
            "place": f"{often} seen, but its box is badly placed",
        }.get(what, f"{often} taken for {what}")
        text += f"; {how}"
    if false > max(1, objects // 4):
        text += f"; {false} boxes of it where nothing is: take five frames without it"
    elif found < _GOOD * objects:
        text += f": take five more{_from_where(size, shown)}"
    elif objects < _SURE:
        text += f" (only {objects} held out: little to go by)"
    return f"{text}."


def _from_where(size: float | None, shown: float | None) -> str:
    """From where to take more images, by the size of missed objects and of those learned from."""
    if size and shown and size < shown / _APART:
        return " from further away: those that it missed are smaller than what it learned from"
    if size and shown and size > shown * _APART:
        return " from closer: those that it missed are larger than what it learned from"
    return ", from other sides and in other places"


def _f1(judged: Sequence[JudgedDetections]) -> float:
    """The F1 score: the share of right ones among all detections and objects together."""
    right = sum(one.count(RIGHT) for one in judged)
    return 2 * right / max(1, sum(len(one.kinds) + len(one.found) for one in judged))


def _shown_sizes(train: CocoFolder | None) -> dict[int, float]:
    """For each label, the median side of its boxes as a share of the image's side."""
    if train is None:
        return {}
    tables = train.tables
    whole = np.repeat(tables.heights * tables.widths, np.diff(tables.starts))
    shares = np.sqrt(tables.boxes_xywh[:, 2] * tables.boxes_xywh[:, 3] / whole)
    return {k: float(np.median(shares[tables.labels == k])) for k in set(tables.labels.tolist())}
