"""The package's functions in the form that the assignments require, and who may call them."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core import losses, matching, pooling
from sparse_rcnn_lab.core.config import LossConfig
from sparse_rcnn_lab.core.stage import DynamicInteraction

_CONFIG = LossConfig()


def class_cost(logits: Tensor, labels: Tensor) -> Tensor:
    """The class cost: ``[N, C]`` logits, ``[M]`` labels -> ``[N, M]``."""
    return matching.focal_cost(logits, labels, _CONFIG)


def box_cost(boxes: Tensor, truth: Tensor, size: tuple[float, float]) -> Tensor:
    """The box cost: ``[N, 4]``, ``[M, 4]`` xyxy pixels, ``size`` (height, width) -> ``[N, M]``."""
    whwh = box_ops.size_as_whwh(torch.tensor([float(size[0]), float(size[1])]))
    return torch.cdist(boxes / whwh, truth / whwh, p=1)


def total_cost(
    logits: Tensor, boxes: Tensor, labels: Tensor, truth: Tensor, size: tuple[float, float]
) -> Tensor:
    """The weighted sum of class cost, box cost and negative GIoU, ``[N, M]``."""
    giou = box_ops.giou(boxes, truth)
    cls, l1 = class_cost(logits, labels), box_cost(boxes, truth, size)
    return _CONFIG.cls * cls + _CONFIG.l1 * l1 - _CONFIG.giou * giou


def match(cost: Tensor) -> tuple[Tensor, Tensor]:
    """``[N, M]`` -> the proposals and objects of the cheapest assignment."""
    proposals, objects = matching.assign(cost.detach().cpu().numpy())
    return torch.from_numpy(proposals), torch.from_numpy(objects)


def focal_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Element-wise focal loss, alpha 0.25, gamma 2, of tensors of one shape; targets are 0 or 1."""
    return losses.focal_loss(logits, targets, _CONFIG.focal_alpha, _CONFIG.focal_gamma)


def box_losses(
    predicted: Tensor, truth: Tensor, size: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    """Sums over K pairs ``[K, 4]``, ``[K, 4]``: L1 distance relative to the image, 1 - GIoU."""
    whwh = box_ops.size_as_whwh(torch.tensor([float(size[0]), float(size[1])]))
    distance = (predicted / whwh - truth / whwh).abs().sum()
    return distance, (1 - box_ops.paired_giou(predicted, truth)).sum()


def bilinear(features: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """``[D, H, W]`` sampled at K points, in map pixels with centres at .0 -> ``[K, D]``."""
    height, width = features.shape[1:]
    for name, at, last in (("x", x, width - 1), ("y", y, height - 1)):
        if at.numel() and not (at.min() >= -1e-3 and at.max() <= last + 1e-3):
            raise ValueError(
                f"bilinear takes {name} from 0 to {last}, on the map; here it is "
                f"{at.min():.2f} to {at.max():.2f}."
            )
    grid = torch.stack([2 * x / max(width - 1, 1) - 1, 2 * y / max(height - 1, 1) - 1], dim=-1)
    found = torch.nn.functional.grid_sample(
        features[None], grid[None, None], align_corners=True, padding_mode="border"
    )
    return found[0, :, 0].T


def attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    """``[N, D]`` each -> mixed ``[N, D]`` and weights ``[heads, N, N]``."""
    n, d = q.shape
    q, k, v = (x.view(n, heads, d // heads).transpose(0, 1) for x in (q, k, v))
    weights = (q @ k.transpose(-1, -2) / (d // heads) ** 0.5).softmax(-1)
    return (weights @ v).transpose(0, 1).reshape(n, d), weights


def interact(features: Tensor, roi: Tensor, parts: DynamicInteraction) -> Tensor:
    """``[N, D]``, ``[N, P * P, D]`` -> ``[N, D]``."""
    seen, _, _ = parts(features[None], roi[None])
    return seen[0]


def spread(values: list[float]) -> tuple[float, float]:
    """Mean and standard error of the mean."""
    drawn = torch.tensor(values, dtype=torch.float64)
    return drawn.mean().item(), (drawn.std() / len(drawn) ** 0.5).item()


# Assignment -> the name that a student's function has -> what may stand in for it.
SOLUTIONS: dict[str, dict[str, Callable[..., Any]]] = {
    "boxes": {
        "to_cxcywh": box_ops.xyxy_to_cxcywh,
        "to_xyxy": box_ops.cxcywh_to_xyxy,
        "area": box_ops.area,
        "iou": box_ops.iou,
        "giou": box_ops.giou,
        "encode": box_ops.encode_deltas,
        "decode": box_ops.decode_deltas,
    },
    "matching": {
        f.__name__: f for f in (class_cost, box_cost, total_cost, match, focal_loss, box_losses)
    },
    "stage": {
        "level_of": pooling.assign_levels,
        **{f.__name__: f for f in (bilinear, attention, interact)},
    },
    "experiment": {"spread": spread},
}
# Assignment -> modules, by the beginning of their names -> functions and classes.
_ANSWERS: dict[str, dict[str, str]] = {
    "boxes": {
        "sparse_rcnn_lab.core.boxes": (
            "xyxy_to_cxcywh cxcywh_to_xyxy xyxy_to_xywh xywh_to_xyxy area intersection paired_iou "
            "paired_giou iou giou encode_deltas decode_deltas"
        ),
        "torchvision.ops": (
            "box_area box_convert box_iou generalized_box_iou distance_box_iou complete_box_iou "
            "generalized_box_iou_loss sigmoid_focal_loss roi_align"
        ),
    },
    "matching": {
        "sparse_rcnn_lab.core.matching": "focal_cost matching_cost assign match",
        "sparse_rcnn_lab.core.losses": "focal_loss set_loss",
        __name__: "class_cost box_cost total_cost match focal_loss box_losses",
        "torchvision.ops": "sigmoid_focal_loss generalized_box_iou_loss",
    },
    "stage": {
        "sparse_rcnn_lab.core.stage": (
            "SelfAttention SelfAttention.forward DynamicInteraction DynamicInteraction.forward "
            "DynamicInteraction.filter DynamicInteraction.condense Stage.forward"
        ),
        "sparse_rcnn_lab.core.pooling": "assign_levels pool",
        __name__: "bilinear attention interact",
        "torchvision.ops": "roi_align",
    },
    "experiment": {__name__: "spread"},
}
# Callers that count as the student: the notebook, or a check that was given the function itself;
# and modules of torch that may be in between, as for ``no_grad`` or a called layer.
_STUDENTS = ("__main__", "sparse_rcnn_lab.course.classroom.checks")
_BETWEEN = ("torch.utils._contextlib", "torch.nn.modules.module")


class NotYourOwn(Exception):
    """The notebook called a function that the student is to write."""


def standing_in(function: Callable[..., Any]) -> Callable[..., Any]:
    """A wrapper through which the notebook, which ``refusing`` stops, can call the function."""

    def stand_in(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return stand_in


@contextlib.contextmanager
def refusing(assignment: str) -> Iterator[None]:
    """A context in which the answers to ``assignment`` refuse calls from the notebook.

    This holds however they were imported, while the package can still use them. It stops honest
    people who copy too quickly, but it is not a lock.
    """
    answers = {home: set(names.split()) for home, names in _ANSWERS[assignment].items()}
    names = set().union(*answers.values())  # asked first: this runs at every call

    def look(frame: FrameType, event: str, _: Any) -> None:
        name, caller = frame.f_code.co_qualname.removesuffix(".__init__"), frame.f_back
        if event != "call" or name not in names:
            return
        while caller and caller.f_globals.get("__name__") in _BETWEEN:
            caller = caller.f_back
        module = frame.f_globals.get("__name__", "")
        found = any(module.startswith(home) and name in answers[home] for home in answers)
        if found and caller and caller.f_globals.get("__name__") in _STUDENTS:
            raise NotYourOwn(
                f"{module}.{name} is what this assignment asks for. Write it yourself."
            )

    before = sys.getprofile()
    sys.setprofile(look)
    try:
        yield
    finally:
        sys.setprofile(before)
