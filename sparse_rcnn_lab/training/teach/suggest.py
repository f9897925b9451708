"""Boxes to offer while somebody labels: accepted with a click, they need not be drawn.

On the first image the model offers what it takes for an object: boxes with a score, and boxes on
which many proposals end and the stages agree, which holds for unknown classes too. From the second
image on it has examples, and needs no training step: a ridge regression on what the last stage
pooled and made of each proposal (in closed form, as in arXiv 1805.08136) predicts how well the box
fits an object like those drawn, and its class. After a training the model's detections come first.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.detect.detector import Detector

ON_IT = 0.5  # IoU with a drawn box from which on a proposal is an example of its class
BESIDE = 0.4  # IoU below which a proposal is an example of background
LIKE = 0.3  # the regression's value, about 0..1, from which on a proposal is offered
SCORE = 0.35  # lowest score of a model's own detection that is offered
_TOGETHER = 0.6  # IoU from which on proposals count as being on the same thing
_APART = 0.4  # highest IoU of two offers
_FIRST, _MOST = 4, 12  # most offers on an image: before anything is drawn, and in general
_CELLS = 3  # columns and rows that the pooled features are reduced to
_TRUST = 0.7  # weight of what looks like an object to the model, where examples say nothing
_RIDGE = 0.3  # strength of the regularisation
_IMAGES = 40  # only the last ones are learned from, so that offers come at once

Drawn = Sequence[tuple[str, Sequence[float]]]  # (class, xyxy in pixels of its image) of each box


@dataclass(frozen=True)
class Offer:
    """A box to accept.

    name: its class, "" where only a person can tell.  box: xyxy, pixels of the image.
    score: confidence, 0..1.
    """

    name: str
    box: tuple[float, float, float, float]
    score: float


class _Ended(NamedTuple):
    """Proposals after the last stage: boxes ``[N, 4]``, features ``[N, D]``, scores ``[N, C]``.

    steady: mean IoU of a proposal's boxes after the other stages with its last one.  likely: 0..1,
    how much a proposal looks like an object.
    """

    boxes: Tensor
    features: Tensor
    scores: Tensor
    steady: Tensor
    likely: Tensor


class _Examples(NamedTuple):
    """The examples of one image, one row each: name ("" for background), features, how well the
    proposal fits the drawn box (0..1), how much it looked like an object.
    """

    names: list[str]
    features: Tensor
    quality: Tensor
    likely: Tensor


class Suggestions:
    """Learns from the boxes drawn and offers further ones. It may be used by several threads.

    detector: a model.  taught: whether it has been trained on these same classes.

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
        self._examples: dict[int, _Examples] = {}
        self._counts: dict[int, int] = {}  # number of boxes of each image
        self._lock = threading.Lock()

    def follow(self, drawn: Mapping[int, Drawn], pixels: Callable[[int], Tensor]) -> None:
        """Learns what has changed. drawn: the boxes of each labelled image.  pixels: reads one."""
        now = {image: list(boxes) for image, boxes in drawn.items()}
        with self._lock:
            before, self._drawn = self._drawn, now
        for image in before.keys() - now.keys():
            self.forget(image)
        try:
            for image, boxes in now.items():
                if before.get(image) != boxes:
                    self.learn(image, pixels(image), boxes)
        except Exception:  # an image cannot be read: it and those after it are not learned yet
            with self._lock:
                self._drawn = before
            raise

    def learn(self, image: int, pixels: Tensor, boxes: Drawn) -> None:
        """Learns the boxes drawn on an image, in place of those drawn on it before.

        Without any box the image is all background.
        """
        ended = self._run(pixels)
        names = [name for name, _ in boxes]
        drawn = torch.tensor([list(box) for _, box in boxes]).reshape(-1, 4)
        overlap = F.pad(box_ops.iou(ended.boxes, drawn), (0, 1))
        best, place = overlap.max(dim=1)
        on_it = best >= ON_IT
        sure = on_it | (best < BESIDE)
        said = [names[place[i]] if on_it[i] else "" for i in sure.nonzero()[:, 0].tolist()]
        # A box that fits only partly is an example of half a thing, so that better ones come first.
        quality = ((best - 0.35) * 2).clamp(0, 1) * on_it
        seen = _Examples(said, ended.features[sure], quality[sure], ended.likely[sure])
        with self._lock:
            self._examples.pop(image, None)  # so that it becomes the last one
            self._examples[image] = seen
            self._counts[image] = len(names)

    def forget(self, image: int) -> None:
        """Forgets an image that was removed or is no longer labelled."""
        with self._lock:
            self._examples.pop(image, None)
            self._counts.pop(image, None)

    def offers(self, pixels: Tensor, class_names: Sequence[str]) -> list[Offer]:
        """The boxes to offer on an image ``[3, H, W]`` uint8, most confident first."""
        ended, names = self._run(pixels), sorted(set(class_names))
        with self._lock:
            seen = list(self._examples.values())[-_IMAGES:]
            most = max(self._counts.values(), default=0)
        known = {name.casefold(): name for name in class_names}
        own = [known.get(name.casefold(), "") for name in self.detector.class_names]
        best, labels = ended.scores.max(dim=1)
        found = [own[label] for label in labels.tolist()]
        shown = self._likely(ended, names, seen)
        # A taught model is more reliable than likeness to examples, and that than an untaught one.
        rows = [
            (name, box, score + (2.0 if self.taught else float(bool(name))))
            for name, box, score in zip(found, ended.boxes, best.tolist(), strict=True)
            if score >= SCORE and (name or not most)
        ]
        rows += [(name, box, score + float(bool(name))) for name, box, score in shown]
        if not rows:
            return []
        kept = _suppressed(
            torch.stack([box for _, box, _ in rows]), torch.tensor([score for *_, score in rows])
        )
        # An untaught model offers many; the number of boxes on images so far says how many help.
        count = _MOST if self.taught else min(most + 1, _MOST) if most else _FIRST
        return [
            Offer(rows[i][0], tuple(rows[i][1].tolist()), min(1.0, rows[i][2]))
            for i in kept[:count].tolist()
        ]

    def _likely(
        self, ended: _Ended, names: list[str], seen: Sequence[_Examples]
    ) -> list[tuple[str, Tensor, float]]:
        """Name, box and score of what is like the things drawn or, before any, like an object."""
        said = [name for part in seen for name in part.names]
        own = [name for name in names if name in said]
        likely, label = ended.likely, None
        if own:
            x = F.pad(torch.cat([part.features for part in seen]), (0, 1), value=1.0)  # [K, D + 1]
            quality, before = (
                torch.cat([getattr(part, of) for part in seen]) for of in ("quality", "likely")
            )
            of_class = torch.tensor([[name == other for other in own] for name in said])
            y = torch.cat(
                [(quality - _TRUST * before)[:, None], of_class * quality[:, None]], dim=1
            )
            weights = torch.linalg.solve(x.T @ x + _RIDGE * torch.eye(x.shape[1]), x.T @ y)
            told = F.pad(ended.features, (0, 1), value=1.0) @ weights
            likely, label = told[:, 0] + _TRUST * ended.likely, told[:, 1:].argmax(dim=1)
        # The mean of boxes on the same thing fits better than any of them.
        together = (box_ops.iou(ended.boxes, ended.boxes) >= _TOGETHER).float()
        weight = together * likely.clamp(min=0.01) * ended.steady**2
        boxes = weight @ ended.boxes / weight.sum(dim=1, keepdim=True)
        return [
            ("" if label is None else own[int(label[i])], boxes[i], float(likely[i]))
            for i in (likely >= LIKE).nonzero()[:, 0].tolist()
        ]

    def _run(self, pixels: Tensor) -> _Ended:
        trace = self.detector.trace(pixels, record=("roi_features",))
        assert trace.roi_features is not None
        cells = F.adaptive_avg_pool2d(trace.roi_features[-1].permute(0, 3, 1, 2), _CELLS).flatten(1)
        parts = [
            F.normalize(part - part.mean(dim=0), dim=1) for part in (cells, trace.features[-1])
        ]
        boxes = trace.boxes[-1]
        stages = [box_ops.iou(part, boxes).diagonal() for part in trace.boxes[1:-1]]
        steady = torch.stack(stages).mean(dim=0) if stages else torch.ones(len(boxes))
        crowd = (box_ops.iou(boxes, boxes) >= _TOGETHER).sum(dim=1)
        return _Ended(
            boxes,
            torch.cat(parts, dim=1) / 2**0.5,
            trace.logits[-1].sigmoid(),
            steady,
            (steady * (1 + crowd).log() / 2).clamp(0, 1),
        )


def _suppressed(boxes: Tensor, scores: Tensor) -> Tensor:
    """The rows that NMS keeps, best first."""
    from torchvision.ops import nms  # its import takes seconds

    return nms(boxes, scores, _APART)
