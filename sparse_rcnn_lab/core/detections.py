"""``Detections``: what was found in one image. Decoding is a top-k and nothing more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core.errors import LabError, check_threshold


def check_shape(owner: str, name: str, value: Tensor, shape: tuple[int | None, ...]) -> None:
    """Raises LabError unless ``value`` has ``shape``; None stands for any number."""
    if value.dim() != len(shape) or any(
        want is not None and got != want for got, want in zip(value.shape, shape, strict=True)
    ):
        wanted = ", ".join("any" if want is None else str(want) for want in shape)
        raise LabError(f"{owner}.{name} has shape {list(value.shape)}, expected [{wanted}].")


@dataclass(frozen=True, eq=False)
class Detections:
    """What was found in one image, best first.

    boxes: ``[K, 4]`` float32 xyxy, pixels of the original image, clipped to it.
    scores: ``[K]`` 0..1.  labels: ``[K]`` int64, index into ``class_names``.
    proposals: ``[K]`` int64, the id of the proposal behind each; one proposal may give several.
    size: (height, width) of the original image.

    >>> import sparse_rcnn_lab as srl
    >>> srl.load("nano-shapes")(srl.Shapes(1)[0].image).above(0.5).names()
    ['circle', 'circle', 'cross']
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    proposals: Tensor
    size: tuple[int, int]
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        k = self.boxes.shape[0]
        check_shape("Detections", "boxes", self.boxes, (k, 4))
        for name in ("scores", "labels", "proposals"):
            check_shape("Detections", name, getattr(self, name), (k,))
        low, high = (int(self.labels.min()), int(self.labels.max())) if k else (0, -1)
        if low < 0 or high >= len(self.class_names):
            which = f"Detections.labels holds {low if low < 0 else high}, but there are only"
            raise LabError(f"{which} {len(self.class_names)} class names.")

    def __repr__(self) -> str:
        """One line; ``print`` shows the whole table."""
        return f"<Detections: {len(self)} in {self.size[1]}x{self.size[0]} px>"

    def __len__(self) -> int:
        return self.boxes.shape[0]

    def __getitem__(self, keep: Tensor | slice | int) -> Detections:
        """The detections that ``keep`` selects: a mask, indices, a slice, or one index."""
        rows = torch.arange(len(self), device=self.boxes.device)[keep].reshape(-1)
        kept = (self.boxes[rows], self.scores[rows], self.labels[rows], self.proposals[rows])
        return Detections(*kept, self.size, self.class_names)

    def above(self, threshold: float) -> Detections:
        """The detections with a score of at least ``threshold``, 0..1."""
        check_threshold(threshold)
        return self[self.scores >= threshold]

    def names(self) -> list[str]:
        """The class name of each detection."""
        return [self.class_names[label] for label in self.labels.tolist()]

    def to_coco(
        self, image_id: int = 0, category_ids: Sequence[int] | None = None
    ) -> list[dict[str, Any]]:
        """A COCO result for each: ``image_id``, ``category_id``, ``bbox`` (x, y, w, h), ``score``.

        ``category_ids`` gives the category id of each label; by default a label is its own id.
        """
        boxes = box_ops.xyxy_to_xywh(self.boxes).tolist()
        rows = zip(boxes, self.scores.tolist(), self.labels.tolist(), strict=True)
        return [
            {
                "image_id": image_id,
                "category_id": label if category_ids is None else int(category_ids[label]),
                "bbox": box,
                "score": score,
            }
            for box, score, label in rows
        ]

    def __str__(self) -> str:
        rows = zip(self.names(), self.scores.tolist(), self.boxes.tolist(), strict=True)
        lines = [
            f"{name:<16} {score:.2f}  " + "  ".join(f"{v:7.1f}" for v in box)
            for name, score, box in rows
        ]
        head = f"{len(self)} detection{'s' * (len(self) != 1)} in {self.size[1]}x{self.size[0]} px"
        return "\n".join([head, *lines])


def top_pairs(logits: Tensor, k: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """The ``k`` best (proposal, class) pairs, best first; k defaults to N and is capped at N * C.

    ``[..., N, C]`` logits -> scores, proposals, labels, each ``[..., k]``. A proposal may appear
    with several classes. This is all the post-processing there is: no NMS. A NaN logit gets the
    score -1 and comes last.
    """
    n, c = logits.shape[-2:]
    k = min(n if k is None else k, n * c)
    # topk would put NaN first, ahead of all real detections.
    scores, index = logits.flatten(-2).sigmoid().nan_to_num(nan=-1.0).topk(k, dim=-1)
    return scores, index // c, index % c


def select_detections(
    logits: Tensor,
    boxes: Tensor,
    size: tuple[int, int],
    class_names: tuple[str, ...],
    threshold: float = 0.0,
) -> Detections:
    """Decodes one image of one stage: ``[N, C]`` logits, ``[N, 4]`` boxes xyxy, original pixels.

    Boxes are clipped to the image; those left without area are dropped, as in the authors' code.
    """
    check_threshold(threshold)
    scores, proposals, labels = top_pairs(logits)
    kept = box_ops.clip(boxes, *size)[proposals]
    sides = kept[:, 2:] - kept[:, :2]
    good = (scores >= threshold) & (sides > 0).all(-1)
    return Detections(kept[good], scores[good], labels[good], proposals[good], size, class_names)
