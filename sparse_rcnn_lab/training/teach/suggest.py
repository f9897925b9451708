"""Boxes to offer while somebody labels: accepted with a click, they need not be drawn.

From the first image on the model offers what it takes for an object. From the second one on it is
taught, without a step of training: the proposals that ended on boxes already drawn are examples of
their class, and a proposal whose feature is close to one of them is offered by that name (a nearest
neighbour in the features of the last stage, as in matching networks, arXiv 1606.04080). After a
training the taught model's own detections come first.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import batched_nms

from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.detect.detector import Detector

ON_IT = 0.5  # IoU of a proposal with a drawn box from which on it is an example of it
LIKE = 0.55  # cosine similarity, 0..1, from which on a proposal is offered by a name
SCORE = 0.35  # of a model's own detections
_APART = 0.45  # IoU of two offers at most
_MOST = 12  # offers an image

Drawn = Sequence[tuple[str, Sequence[float]]]  # (class, xyxy in pixels of its image) of each box


@dataclass(frozen=True)
class Offer:
    """A box to accept. name: of its class, "" where only somebody who looks knows.

    box: xyxy, pixels of the image.  score: 0..1, how sure.
    """

    name: str
    box: tuple[float, float, float, float]
    score: float


class Suggestions:
    """Learns from what is drawn, offers for what is not. Safe to use from several threads.

    detector: a model that was taught or not.  taught: whether it knows these very classes.

    >>> import sparse_rcnn_lab as srl
    >>> drawn = srl.Shapes(2, seed=1)
    >>> suggestions = Suggestions(srl.load("nano-shapes"))
    >>> suggestions.learn(0, drawn[0].image, [("thing", box.tolist()) for box in drawn[0].boxes])
    >>> {offer.name for offer in suggestions.offers(drawn[1].image, ["thing"])}
    {'thing'}
    """

    def __init__(self, detector: Detector, taught: bool = False) -> None:
        self.detector, self.taught = detector, taught
        self._drawn: dict[int, list[tuple[str, Sequence[float]]]] = {}
        self._examples: dict[int, list[tuple[str, Tensor]]] = {}
        self._most: dict[int, dict[str, int]] = {}
        self._lock = threading.Lock()

    def follow(self, drawn: Mapping[int, Drawn], pixels: Callable[[int], Tensor]) -> None:
        """Learns what has changed. drawn: of each labelled image, by id.  pixels: gives one."""
        with self._lock:
            before = dict(self._drawn)
            self._drawn = {image: list(boxes) for image, boxes in drawn.items()}
        for image in {*before, *drawn}:
            if before.get(image) != list(drawn.get(image, ())):
                boxes = drawn.get(image, ())
                self.learn(image, pixels(image) if boxes else torch.empty(0), boxes)

    def learn(self, image: int, pixels: Tensor, boxes: Drawn) -> None:
        """Takes what somebody drew on an image, in place of what was drawn on it before."""
        with self._lock:
            self._examples.pop(image, None)
            self._most.pop(image, None)
        if not boxes:
            return
        found, features, _ = self._run(pixels)
        overlap = box_ops.iou(torch.tensor([list(box) for _, box in boxes]), found)  # [M, N]
        best, place = overlap.max(dim=1)
        examples = [
            (name, features[place[row]])
            for row, (name, _) in enumerate(boxes)
            if best[row] >= ON_IT
        ]
        names = [name for name, _ in boxes]
        with self._lock:
            self._examples[image] = examples
            self._most[image] = {name: names.count(name) for name in names}

    def offers(self, pixels: Tensor, class_names: Sequence[str]) -> list[Offer]:
        """What to offer on an image ``[3, H, W]`` uint8, the surest first."""
        boxes, features, scores = self._run(pixels)
        known = {name.casefold(): name for name in class_names}
        rows: list[tuple[str, Tensor, float]] = []
        best, labels = scores.max(dim=1)
        for row in (best >= SCORE).nonzero()[:, 0].tolist():
            own = self.detector.class_names[int(labels[row])]
            name = known.get(own.casefold(), "")
            # A taught model is surer than likeness, and that than a stranger's idea of an object.
            rows.append((name, boxes[row], float(best[row]) + (1.0 if self.taught else 0.0)))
        rows += self._alike(boxes, features, set(class_names))
        if not rows:
            return []
        order = torch.tensor([score + (1.0 if name else 0.0) for name, _, score in rows])
        every = torch.zeros(len(rows), dtype=torch.long)
        kept = batched_nms(torch.stack([box for _, box, _ in rows]), order, every, _APART)
        return [
            Offer(rows[i][0], tuple(rows[i][1].tolist()), min(1.0, rows[i][2]))
            for i in kept[:_MOST].tolist()
        ]

    def _alike(
        self, boxes: Tensor, features: Tensor, names: set[str]
    ) -> list[tuple[str, Tensor, float]]:
        """Proposals that are like an example; of a class as many as one image has shown."""
        with self._lock:
            examples = [e for part in self._examples.values() for e in part if e[0] in names]
            most = {n: max(c.get(n, 0) for c in self._most.values()) for n, _ in examples}
        if not examples:
            return []
        near = features @ torch.stack([feature for _, feature in examples]).T  # [N, examples]
        rows: list[tuple[str, Tensor, float]] = []
        for name in dict.fromkeys(name for name, _ in examples):
            own = [i for i, (other, _) in enumerate(examples) if other == name]
            rest = [i for i, (other, _) in enumerate(examples) if other != name]
            score = near[:, own].amax(dim=1)
            if rest:
                score = torch.where(score > near[:, rest].amax(dim=1), score, torch.zeros(()))
            kept = batched_nms(boxes, score, torch.zeros(len(boxes), dtype=torch.long), _APART)
            kept = kept[score[kept] >= LIKE][: most[name]]
            rows += [(name, boxes[i], float(score[i])) for i in kept.tolist()]
        return rows

    def _run(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes ``[N, 4]``, features ``[N, D]`` (length 1), scores ``[N, C]`` of the last stage."""
        trace = self.detector.trace(pixels)
        features = trace.features[-1]
        features = F.normalize(features - features.mean(dim=0), dim=1)
        return trace.boxes[-1], features, trace.logits[-1].sigmoid()
