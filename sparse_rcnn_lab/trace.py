"""What a person looks at: final ``Detections`` and the ``Trace`` of all stages of one image.

Both are frozen, live on the CPU in float32, and check their shapes on construction.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sparse_rcnn_lab import boxes as box_ops
from sparse_rcnn_lab.errors import LabError
from sparse_rcnn_lab.files import write_whole


def _check(owner: str, name: str, value: Tensor, shape: tuple[int | None, ...]) -> None:
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
    proposals: ``[K]`` int64, the proposal each detection comes from; one may give several.
    size: (height, width) of the original image.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    proposals: Tensor
    size: tuple[int, int]
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        k = self.boxes.shape[0]
        _check("Detections", "boxes", self.boxes, (k, 4))
        for name in ("scores", "labels", "proposals"):
            _check("Detections", name, getattr(self, name), (k,))
        if k and int(self.labels.max()) >= len(self.class_names):
            raise LabError(
                f"Detections.labels holds {int(self.labels.max())}, but there are only "
                f"{len(self.class_names)} class names."
            )

    def __len__(self) -> int:
        return self.boxes.shape[0]

    def __getitem__(self, keep: Tensor | slice) -> Detections:
        """The detections that ``keep`` (a mask, indices or a slice) selects."""
        return replace(
            self,
            boxes=self.boxes[keep],
            scores=self.scores[keep],
            labels=self.labels[keep],
            proposals=self.proposals[keep],
        )

    def above(self, threshold: float) -> Detections:
        """Those with a score of at least ``threshold``."""
        return self[self.scores >= threshold]

    def names(self) -> list[str]:
        """Class name of each detection."""
        return [self.class_names[label] for label in self.labels.tolist()]

    def to_coco(
        self, image_id: int = 0, category_ids: Sequence[int] | None = None
    ) -> list[dict[str, Any]]:
        """COCO results: ``image_id``, ``category_id``, ``bbox`` (x, y, w, h), ``score``.

        ``category_ids`` gives the id of each label; without it a label is its own id.
        """
        boxes = box_ops.xyxy_to_xywh(self.boxes).tolist()
        return [
            {
                "image_id": image_id,
                "category_id": category_ids[label] if category_ids is not None else label,
                "bbox": box,
                "score": score,
            }
            for box, score, label in zip(
                boxes, self.scores.tolist(), self.labels.tolist(), strict=True
            )
        ]

    def __str__(self) -> str:
        lines = [
            f"{name:<16} {score:.2f}  " + "  ".join(f"{v:7.1f}" for v in box)
            for name, score, box in zip(
                self.names(), self.scores.tolist(), self.boxes.tolist(), strict=True
            )
        ]
        head = f"{len(self)} detection{'s' * (len(self) != 1)} in {self.size[1]}x{self.size[0]} px"
        return "\n".join([head, *lines])


# Optional tensors of a Trace; what `record=` may ask for.
RECORDABLE = ("attention", "roi_features", "dynamic_filters")


@dataclass(frozen=True, eq=False)
class Trace:
    """Every proposal through every stage of one image. S stages, N proposals, C classes.

    boxes: ``[S+1, N, 4]`` xyxy, pixels of the original image, not clipped; [0] are the learned
        proposals, [s] what stage s made of them.
    logits: ``[S, N, C]`` before the sigmoid.
    features: ``[S+1, N, D]`` proposal features; [0] are the learned ones.
    fpn_level: ``[S, N]`` int64: the level each stage pooled from, 2..5 for p2..p5.
    attention: ``[S, heads, N, N]``; row = the proposal that looks, rows sum to 1. Or None.
    roi_features: ``[S, N, P, P, D]`` what each stage pooled. Or None.
    dynamic_filters: ``[S, N, 2 * D * d]``: the generated layers, first ``[D, d]``, then ``[d, D]``,
        flattened. Or None.
    matches: ``[S, N]`` int64 ground-truth index or -1, where there is a ground truth. Or None.
    gt_boxes, gt_labels: that ground truth, ``[M, 4]`` xyxy original pixels and ``[M]``. Or None.
    proposal_ids: ``[N]`` int64, which learned proposal each row is.
    size: (height, width) of the original image.  scale: (x, y) factors original -> model input.
    image: ``[3, H, W]`` uint8 RGB, the original image, or None.
    """

    boxes: Tensor
    logits: Tensor
    features: Tensor
    fpn_level: Tensor
    proposal_ids: Tensor
    size: tuple[int, int]
    scale: tuple[float, float]
    class_names: tuple[str, ...]
    model_name: str = ""
    attention: Tensor | None = None
    roi_features: Tensor | None = None
    dynamic_filters: Tensor | None = None
    matches: Tensor | None = None
    gt_boxes: Tensor | None = None
    gt_labels: Tensor | None = None
    image: Tensor | None = None

    def __post_init__(self) -> None:
        _check("Trace", "logits", self.logits, (None, None, len(self.class_names)))
        s, n, c = self.num_stages, self.num_proposals, len(self.class_names)
        d = self.features.shape[-1]
        m = None if self.gt_boxes is None else self.gt_boxes.shape[0]
        shapes: dict[str, tuple[int | None, ...]] = {
            "boxes": (s + 1, n, 4),
            "logits": (s, n, c),
            "features": (s + 1, n, d),
            "fpn_level": (s, n),
            "proposal_ids": (n,),
            "attention": (s, None, n, n),
            "roi_features": (s, n, None, None, d),
            "dynamic_filters": (s, n, None),
            "matches": (s, n),
            "gt_boxes": (m, 4),
            "gt_labels": (m,),
            "image": (3, *self.size),
        }
        for name, shape in shapes.items():
            value = getattr(self, name)
            if value is not None:
                _check("Trace", name, value, shape)

    @property
    def num_stages(self) -> int:
        """S, the number of stages that ran."""
        return self.logits.shape[0]

    @property
    def num_proposals(self) -> int:
        """N."""
        return self.logits.shape[1]

    def scores(self) -> Tensor:
        """``[S, N, C]`` class probabilities, 0..1."""
        return self.logits.sigmoid()

    def detections(self, stage: int | None = None, threshold: float = 0.0) -> Detections:
        """What stage ``stage`` (1..S, default the last) detects.

        The N best (proposal, class) pairs with a score of at least ``threshold``; no NMS.
        """
        stage = self.num_stages if stage is None else stage
        if not 1 <= stage <= self.num_stages:
            raise LabError(f"stage must be 1..{self.num_stages}, found {stage}.")
        return select_detections(
            self.logits[stage - 1], self.boxes[stage], self.size, self.class_names, threshold
        )

    def save(self, path: str | Path) -> Path:
        """Writes the trace to one safetensors file (``.trace`` by habit); nothing is lost."""
        tensors, plain = {}, {}
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, Tensor):
                tensors[f.name] = value.detach().cpu().clone().contiguous()
            elif value is not None:
                plain[f.name] = value
        metadata = {"format": "sparse_rcnn_lab.trace", "version": "1", "trace": json.dumps(plain)}
        path = Path(path)
        with write_whole(path) as temporary:
            save_file(tensors, temporary, metadata)
        return path

    @classmethod
    def load(cls, path: str | Path) -> Trace:
        """Reads what :meth:`save` wrote. Raises LabError when the file is not a whole trace."""
        try:
            with safe_open(str(path), framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if metadata.get("format") != "sparse_rcnn_lab.trace":
                raise LabError(f'"{path}" holds tensors, but it is not a trace. Use Trace.save.')
            plain = json.loads(metadata["trace"])
            plain = {k: tuple(v) if isinstance(v, list) else v for k, v in plain.items()}
            return cls(**tensors, **plain)
        except FileNotFoundError:
            raise LabError(f'There is no file "{path}".') from None
        except LabError:
            raise
        except (SafetensorError, OSError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise LabError(
                f'"{path}" is not a whole trace file ({error}). Record it again with trace().'
            ) from error


def top_pairs(logits: Tensor, k: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """The ``k`` best (proposal, class) pairs, best first; k defaults to N and is capped at N * C.

    ``[..., N, C]`` logits -> scores, proposals, labels, each ``[..., k]``. A proposal may appear
    with several classes. This is all the post-processing there is: no NMS.
    """
    n, c = logits.shape[-2:]
    k = min(n if k is None else k, n * c)
    scores, index = logits.flatten(-2).sigmoid().topk(k, dim=-1)
    return scores, index // c, index % c


def select_detections(
    logits: Tensor,
    boxes: Tensor,
    size: tuple[int, int],
    class_names: tuple[str, ...],
    threshold: float = 0.0,
) -> Detections:
    """Decodes one image of one stage: ``[N, C]`` logits, ``[N, 4]`` xyxy original pixels.

    Boxes are clipped to the image and those left without area dropped, as in the authors' code.
    """
    scores, proposals, labels = top_pairs(logits)
    kept = box_ops.clip(boxes, *size)[proposals]
    sides = kept[:, 2:] - kept[:, :2]
    good = (scores >= threshold) & (sides > 0).all(-1)
    return Detections(kept[good], scores[good], labels[good], proposals[good], size, class_names)
