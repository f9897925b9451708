"""Boxes to offer while somebody labels: accepted with a click, they need not be drawn.

From the first image on the model offers what it takes for an object. From the second one on it is
taught, without a step of training: the proposals that ended on boxes already drawn are examples of
their class, all others examples of background, and ridge regression on what the last stage pooled
and made of them (in closed form, as in arXiv 1805.08136) names the proposals of the next image.
After a training the taught model's own detections come first.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.detect.detector import Detector

ON_IT = 0.5  # IoU of a proposal with a drawn box from which on it is an example of it
BESIDE = 0.4  # IoU below which a proposal is an example of background
LIKE = 0.3  # what regression says, about 0..1, from which on a proposal is offered by a name
SCORE = 0.35  # of a model's own detections
_APART = 0.45  # IoU of two offers at most
_MOST = 12  # offers an image
_CELLS = 3  # of the pooled features, across and down
_RIDGE = 0.3  # how much the regression is held back
_IMAGES = 40  # the last ones are learned from, so that an answer takes a moment alone

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
        self._examples: dict[int, tuple[list[str], Tensor]] = {}  # names ("" background), features
        self._most: dict[int, dict[str, int]] = {}
        self._lock = threading.Lock()

    def follow(self, drawn: Mapping[int, Drawn], pixels: Callable[[int], Tensor]) -> None:
        """Learns what has changed. drawn: of each labelled image, by id.  pixels: gives one."""
        now = {image: list(boxes) for image, boxes in drawn.items()}
        with self._lock:
            before, self._drawn = self._drawn, now
        for image in before.keys() - now.keys():
            self.forget(image)
        for image, boxes in now.items():
            if before.get(image) != boxes:
                self.learn(image, pixels(image), boxes)

    def learn(self, image: int, pixels: Tensor, boxes: Drawn) -> None:
        """Takes what somebody drew on an image, in place of what was drawn on it before.

        No box: there is nothing on it but background.
        """
        found, features, _ = self._run(pixels)
        names = [name for name, _ in boxes]
        drawn = torch.tensor([list(box) for _, box in boxes]).reshape(-1, 4)
        overlap = torch.cat([box_ops.iou(found, drawn), torch.zeros(len(found), 1)], dim=1)
        best, place = overlap.max(dim=1)
        sure = (best >= ON_IT) | (best < BESIDE)
        said = [names[place[i]] if best[i] >= ON_IT else "" for i in sure.nonzero()[:, 0].tolist()]
        with self._lock:
            self._examples.pop(image, None)  # it is the last one now
            self._examples[image] = said, features[sure]
            self._most[image] = {name: names.count(name) for name in names}

    def forget(self, image: int) -> None:
        """An image that is gone, or not labelled any more."""
        with self._lock:
            self._examples.pop(image, None)
            self._most.pop(image, None)

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
        kept = _suppressed(torch.stack([box for _, box, _ in rows]), order)
        return [
            Offer(rows[i][0], tuple(rows[i][1].tolist()), min(1.0, rows[i][2]))
            for i in kept[:_MOST].tolist()
        ]

    def _alike(
        self, boxes: Tensor, features: Tensor, names: set[str]
    ) -> list[tuple[str, Tensor, float]]:
        """What regression takes for a class; of each as many as one image has shown."""
        with self._lock:
            seen = list(self._examples.values())[-_IMAGES:]
            counts = list(self._most.values())
        own = sorted(names & {name for said, _ in seen for name in said})
        if not own:
            return []
        said = [name for part, _ in seen for name in part]
        x = F.pad(torch.cat([part for _, part in seen]), (0, 1), value=1.0)  # [K, D + 1]
        y = torch.tensor([[float(one == name) for name in own] for one in said])
        held = x.T @ x + _RIDGE * torch.eye(x.shape[1])
        weights = torch.linalg.solve(held, x.T @ y)
        score, label = (F.pad(features, (0, 1), value=1.0) @ weights).max(dim=1)
        kept = _suppressed(boxes, score)
        left = {name: max(count.get(name, 0) for count in counts) for name in own}
        rows: list[tuple[str, Tensor, float]] = []
        for i in kept[score[kept] >= LIKE].tolist():
            name = own[int(label[i])]
            if left[name]:
                left[name] -= 1
                rows.append((name, boxes[i], float(score[i])))
        return rows

    def _run(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes ``[N, 4]``, features ``[N, D]`` (length 1), scores ``[N, C]`` of the last stage."""
        trace = self.detector.trace(pixels, record=("roi_features",))
        assert trace.roi_features is not None
        cells = F.adaptive_avg_pool2d(trace.roi_features[-1].permute(0, 3, 1, 2), _CELLS)
        ended = trace.features[-1]
        parts = (cells.flatten(1), ended - ended.mean(dim=0))
        features = torch.cat([F.normalize(part, dim=1) / 2**0.5 for part in parts], dim=1)
        return trace.boxes[-1], features, trace.logits[-1].sigmoid()


def _suppressed(boxes: Tensor, scores: Tensor) -> Tensor:
    """The rows that NMS keeps, the best first."""
    from torchvision.ops import nms  # its import takes seconds

    return nms(boxes, scores, _APART)
