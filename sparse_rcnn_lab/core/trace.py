"""``Trace``: every proposal of one image through all stages, the source of all views and analyses.

A trace is frozen, on the CPU, in float32. Its shapes and types are checked on construction, its
values are not: a model that has diverged gives NaN, and is worth looking at.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sparse_rcnn_lab.core.detections import Detections, check_shape, select_detections
from sparse_rcnn_lab.core.errors import LabError, check_stage

# The optional tensors of a Trace, which `record=` may ask for.
RECORDABLE = ("attention", "roi_features", "dynamic_filters", "filtered_features")


@dataclass(frozen=True, eq=False)
class Trace:
    """Every proposal through every stage of one image. S stages, N proposals, C classes.

    boxes: ``[S+1, N, 4]`` xyxy, pixels of the original image, not clipped; [0] holds the learned
        proposals, [s] what stage s made of them.
    logits: ``[S, N, C]`` before the sigmoid.
    features: ``[S+1, N, D]`` proposal features; [0] holds the learned ones.
    fpn_level: ``[S, N]`` int64, the level each stage pooled from: 2..5 for p2..p5.
    proposal_ids: ``[N]`` int64, which learned proposal each row is.
    size: (height, width) of the original image.  scale: (x, y) factors original -> model input.
    These are None where they were not recorded, or where there is no ground truth:
    attention: ``[S, heads, N, N]``; row = the attending proposal. Rows sum to 1, less what went
        to proposals dropped later; they are 0 where self-attention was switched off.
    roi_features: ``[S, N, P, P, D]`` what each stage pooled.
    dynamic_filters: ``[S, N, 2 * D * d]``: the generated layers ``[D, d]``, then ``[d, D]``, flat.
    filtered_features: ``[S, N, P, P, D]`` what these layers made of the RoI features.
    matches: ``[S, N]`` int64, ground-truth index or -1.
    gt_boxes, gt_labels: the ground truth, ``[M, 4]`` xyxy original pixels and ``[M]``.
    image: ``[3, h, w]`` uint8 RGB: the original image, downscaled to at most 4 megapixels, aspect
        ratio kept; boxes stay in the frame of ``size`` all the same.

    >>> import sparse_rcnn_lab as srl
    >>> srl.load("nano-shapes").trace(srl.Shapes(1)[0])
    <Trace: nano-shapes, 20 proposals, 6 stages, 6 classes, 128x128 px>
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
    filtered_features: Tensor | None = None
    matches: Tensor | None = None
    gt_boxes: Tensor | None = None
    gt_labels: Tensor | None = None
    image: Tensor | None = None

    def __repr__(self) -> str:
        """One line: the model and the trace's size."""
        (h, w), (stages, proposals, classes) = self.size, self.logits.shape
        what = f"{proposals} proposals, {stages} stages, {classes} classes, {w}x{h} px"
        return f"<Trace: {self.model_name or 'a model'}, {what}>"

    def __post_init__(self) -> None:
        self._check_plain()
        check_shape("Trace", "logits", self.logits, (None, None, len(self.class_names)))
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
            "filtered_features": (s, n, None, None, d),
            "matches": (s, n),
            "gt_boxes": (m, 4),
            "gt_labels": (m,),
            "image": (3, None, None),
        }
        for name, shape in shapes.items():
            value = getattr(self, name)
            if value is None:
                continue
            check_shape("Trace", name, value, shape)
            if (name in _WHOLE) == (value.is_floating_point() or value.dtype == torch.bool):
                wanted = "whole numbers" if name in _WHOLE else "floating point"
                raise LabError(f"Trace.{name} holds {value.dtype}, expected {wanted}.")
        for name, low, limit in (("gt_labels", 0, c), ("matches", -1, m or 0)):
            value = getattr(self, name)
            if value is None or not value.numel():
                continue
            if int(value.min()) < low or int(value.max()) >= limit:
                raise LabError(
                    f"Trace.{name} reaches from {int(value.min())} to {int(value.max())}, but "
                    f"there are only {limit} {'classes' if name == 'gt_labels' else 'objects'}."
                )
        if self.image is not None:
            check_aspect("Trace.image", (self.image.shape[1], self.image.shape[2]), self.size)

    def _check_plain(self) -> None:
        whole = len(self.size) == 2 and all(isinstance(side, int) for side in self.size)
        if not whole or min(self.size) < 1:
            raise LabError(f"Trace.size must be (height, width) in pixels, found {self.size}.")
        if len(self.scale) != 2 or not all(0 < factor < math.inf for factor in self.scale):
            raise LabError(f"Trace.scale must be two factors (x, y) above 0, found {self.scale}.")
        names = (*self.class_names, self.model_name)
        if isinstance(self.class_names, str) or not all(isinstance(name, str) for name in names):
            raise LabError("Trace.class_names must be a tuple of names, and model_name a name.")

    @property
    def num_stages(self) -> int:
        """S, the number of stages that ran."""
        return self.logits.shape[0]

    @property
    def num_proposals(self) -> int:
        """N, the number of proposals (rows) in the trace."""
        return self.logits.shape[1]

    def row(self, proposal: int) -> int:
        """The row, of the N, that holds the proposal with this id.

        Raises LabError when the trace does not hold it (it never did, or it was dropped).
        """
        found = torch.as_tensor(self.proposal_ids == proposal).nonzero()  # False for a string
        if not len(found):
            ids = self.proposal_ids
            some = f"{int(ids.min())}..{int(ids.max())}" if len(ids) else "none"
            which = f"There is no proposal {proposal!r} in this trace"
            raise LabError(f"{which}; it holds {len(ids)} ({some}).")
        return int(found[0])

    def scores(self) -> Tensor:
        """``[S, N, C]`` class probabilities, 0..1."""
        return self.logits.sigmoid()

    def detections(self, stage: int | None = None, threshold: float = 0.0) -> Detections:
        """What stage ``stage`` (1..S, default the last) detects.

        The N best (proposal, class) pairs with a score of at least ``threshold``; no NMS.
        """
        stage = self.check_stage(stage)
        found = select_detections(
            self.logits[stage - 1], self.boxes[stage], self.size, self.class_names, threshold
        )
        return replace(found, proposals=self.proposal_ids[found.proposals])

    def check_stage(self, stage: int | None, first: int = 1) -> int:
        """Returns ``stage`` (default: the last). Raises LabError unless it is ``first``..S."""
        return check_stage(self.num_stages if stage is None else stage, self.num_stages, first)

    def truth(self) -> tuple[Tensor, Tensor]:
        """``gt_boxes`` and ``gt_labels``. Raises LabError when there are none."""
        if self.gt_boxes is None or self.gt_labels is None:
            raise _no_truth()
        return self.gt_boxes, self.gt_labels

    def truth_matches(self) -> tuple[Tensor, Tensor]:
        """``matches`` and ``gt_boxes``. Raises LabError when there are none."""
        if self.matches is None or self.gt_boxes is None:
            raise _no_truth()
        return self.matches, self.gt_boxes


_WHOLE = {"fpn_level", "proposal_ids", "matches", "gt_labels", "image"}


def _no_truth() -> LabError:
    how = "Trace a data set's sample, or add the objects with"
    add = "sparse_rcnn_lab.with_ground_truth(trace, boxes, labels)"
    return LabError(f"This trace has no ground truth. {how} {add}.")


def check_aspect(name: str, found: tuple[int, int], size: tuple[int, int]) -> None:
    """Raises LabError unless ``found`` (height, width) has the aspect ratio of ``size``, to the
    nearest pixel.
    """
    factor = max(found) / max(size)
    off = max(abs(side - factor * full) for side, full in zip(found, size, strict=True))
    if off > max(1.0, factor):
        raise LabError(
            f"{name} has {found[1]}x{found[0]} px, which is not the aspect ratio of the original "
            f"image, {size[1]}x{size[0]} px."
        )
