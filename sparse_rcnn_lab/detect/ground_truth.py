"""Ground truth for a trace: which proposal is matched to which object at every stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core.config import LossConfig
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.matching import Targets, match
from sparse_rcnn_lab.core.trace import Trace

# As in the paper, one proposal per object at every stage, whatever a preset trained with.
ONE_TO_ONE = LossConfig()


def with_ground_truth(
    trace: Trace,
    boxes: Tensor | Sequence[Sequence[float]],
    labels: Tensor | Sequence[int],
    config: LossConfig = ONE_TO_ONE,
) -> Trace:
    """The same trace with ``gt_boxes``, ``gt_labels`` and the Hungarian ``matches`` of each stage.

    boxes: ``[M, 4]`` xyxy, pixels of the original image.  labels: ``[M]``, indices into
    ``trace.class_names``; M may be 0.  config: weights of the matching cost (paper, section 3.2).
    At a stage whose boxes or logits are not all finite every match is -1.
    Raises LabError when boxes and labels do not fit each other or the trace.

    >>> import sparse_rcnn_lab as srl
    >>> sample = srl.Shapes(length=1, seed=1)[0]
    >>> trace = srl.load("nano-shapes").trace(sample.image)
    >>> trace = srl.with_ground_truth(trace, sample.boxes, sample.labels)
    >>> last = trace.matches[-1]  # [N]: the object of each proposal, or -1
    >>> int((last >= 0).sum()) == len(sample.boxes)
    True
    """
    truth, classes = check_ground_truth(boxes, labels, len(trace.class_names))
    check_place(truth, trace.size)
    scale = torch.tensor(trace.scale)
    sizes = torch.tensor([trace.size]) * scale.flip(0)
    targets = Targets.pad([box_ops.rescale(truth, scale)], [classes], sizes)
    found = box_ops.rescale(trace.boxes[1:], scale)
    index = torch.full((trace.num_stages, trace.num_proposals), -1)
    # A stage that has diverged is shown as it is: none of its proposals is matched.
    sound = (trace.logits.isfinite().all(-1) & found.isfinite().all(-1)).all(-1)
    for s in sound.nonzero()[:, 0].tolist():
        repeats = config.matches_per_object
        own = replace(config, matches_per_object=(repeats[min(s, len(repeats) - 1)],))
        pairs = match(trace.logits[s, None, None], found[s, None, None], targets, own)
        index[s] = pairs.as_index((1, 1, trace.num_proposals))[0, 0]
    return replace(trace, matches=index, gt_boxes=truth, gt_labels=classes)


def check_place(boxes: Tensor, size: tuple[int, ...]) -> None:
    """Raises LabError for a box outside an image of (height, width), or boxes given in 0..1."""
    height, width = size
    outside = (boxes[:, :2] >= torch.tensor([width, height])) | (boxes[:, 2:] <= 0)
    shares = len(boxes) > 0 and float(boxes.max()) <= 1 < min(height, width) - 1
    if shares or outside.any():
        row = 0 if shares else int(outside.any(dim=1).nonzero()[0])
        raise LabError(
            f"box {row} is {boxes[row].tolist()} in an image of {width}x{height}; expected left, "
            "top, right, bottom in its pixels."
        )


def check_ground_truth(
    boxes: Tensor | Sequence[Sequence[float]], labels: Tensor | Sequence[int], num_classes: int
) -> tuple[Tensor, Tensor]:
    """Boxes ``[M, 4]`` float32 and labels ``[M]`` int64 on the CPU. Raises LabError if invalid."""
    try:
        truth = torch.as_tensor(boxes, dtype=torch.float32).detach().cpu()
        numbers = torch.as_tensor(labels)
        classes = numbers.to(torch.long).detach().cpu()
        if numbers.is_floating_point() and (numbers != numbers.round()).any():
            raise ValueError("a label is not a whole number")
    except (TypeError, ValueError, RuntimeError) as error:
        raise LabError(
            f"Ground truth must be numbers, boxes [M, 4] and labels [M]: {error}."
        ) from None
    if truth.numel() == 0 and classes.numel() == 0:
        return torch.zeros(0, 4), torch.zeros(0, dtype=torch.long)
    if truth.dim() != 2 or truth.shape[1] != 4 or classes.shape != truth.shape[:1]:
        raise LabError(
            f"Ground truth needs boxes [M, 4] and labels [M], found {list(truth.shape)} and "
            f"{list(classes.shape)}."
        )
    bad = ~(truth.isfinite().all(-1) & (truth[:, 2:] > truth[:, :2]).all(-1))
    if bad.any():
        first = int(bad.nonzero()[0])
        raise LabError(
            f"Ground-truth box {first} is {truth[first].tolist()}; expected left, top, right, "
            "bottom in pixels with right > left and bottom > top."
        )
    if int(classes.min()) < 0 or int(classes.max()) >= num_classes:
        raise LabError(
            f"Ground-truth labels must be 0..{num_classes - 1}, found {classes.min()}.."
            f"{classes.max()}; they index the detector's class_names."
        )
    return truth, classes
