"""A ``Trace`` as the explorer's browser half wants it: small, and nothing that it could not draw.

300 proposals of six stages take about 190 kB without the picture. Everything a view needs is
computed here once, so that data.js only looks up and draws.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core.trace import Trace
from sparse_rcnn_lab.views import style
from sparse_rcnn_lab.views.explorer import pack
from sparse_rcnn_lab.views.explorer.alike import features_part
from sparse_rcnn_lab.views.explorer.energy import roi_energy
from sparse_rcnn_lab.views.explorer.plane import Plane

CLASSES_KEPT = 3  # best classes of a proposal at a stage
ATTENTION_KEPT = 8  # strongest partners a proposal looks at
REACH = 4.0  # boxes are kept up to so many long sides away from the image's corner

RECORD = {
    "attention": 'Record it: detector.trace(picture, record=("attention",)).',
    "roi": (
        "Not recorded. With a picture: explore(picture, model, roi=True). For a trace: "
        'detector.trace(picture, record=("roi_features",)).'
    ),
    "filters": (
        "Not recorded. With a picture: explore(picture, model, roi=True). For a trace: "
        'detector.trace(picture, record=("roi_features", "filtered_features")).'
    ),
    "features": "This trace holds no finite proposal features. Record it again with trace().",
    "image": "This trace was saved without its image: boxes are drawn on an empty sheet.",
    "matches": "Add the ground truth to the trace: gt_boxes, gt_labels and matches.",
}


def payload(
    trace: Trace, *, roi: bool = False, image: bool = True, plane: Plane | None = None
) -> dict[str, Any]:
    """Everything the explorer shows of a trace, ready for JSON.

    roi: add what each stage pooled and what the dynamic filters made of it, as ``P x P`` maps,
    where the trace has recorded them; off by default, they double the size.  image: add the
    picture, reduced to at most 960 px.  plane: where features are drawn, default their own PCA;
    a trace to compare with another takes the other's.

    Boxes: int16 in steps of ``box_step`` original pixels; -32768 marks a box that is not a number
    (said in ``notes`` and left out of the picture).
    """
    missing = _missing(trace, roi)
    boxes, step = _boxes(trace)
    scores, labels = _best_classes(trace)
    return {
        "format": 1,
        "model": trace.model_name or "Sparse R-CNN",
        "size": list(trace.size),
        "stages": trace.num_stages,
        "classes": list(trace.class_names),
        "style": _style(trace.num_stages, trace.num_proposals),
        "notes": _notes(trace),
        "missing": {name: RECORD[name] for name in missing},
        "image": None if trace.image is None or not image else pack.picture(trace.image),
        "ids": pack.array(trace.proposal_ids.numpy().astype(np.uint16)),
        "box_step": step,
        "boxes": boxes,
        "scores": scores,
        "labels": labels,
        "levels": pack.array(trace.fpn_level.numpy().astype(np.uint8)),
        "features": None if "features" in missing else features_part(trace, plane),
        "attention": None if trace.attention is None else _attention(trace.attention),
        "roi": roi_energy(trace) if roi and trace.roi_features is not None else None,
        "truth": _truth(trace),
    }


def _missing(trace: Trace, roi: bool) -> list[str]:
    finite = trace.features.numel() and bool(torch.isfinite(trace.features).any())
    has = {
        "attention": trace.attention is not None,
        "roi": roi and trace.roi_features is not None,
        "filters": roi and trace.roi_features is not None and trace.filtered_features is not None,
        "features": bool(finite),
        "image": trace.image is not None,
        "matches": trace.matches is not None and trace.gt_boxes is not None,
    }
    return [name for name, there in has.items() if not there]


def _style(num_stages: int, count: int) -> dict[str, Any]:
    return {
        "stages": [style.stage_color(stage, num_stages) for stage in range(num_stages + 1)],
        "classes": list(style.CLASS_COLORS),
        "accent": style.ACCENT,
        "light": style.LIGHT,
        "truth": style.GROUND_TRUTH_COLOR,
        "truthDash": list(style.GROUND_TRUTH_DASH),
        "minLine": style.MIN_LINE,
        "faintest": style.FAINTEST,
        "learnedLine": style.PROPOSAL_LINE,
        "learnedOpacity": style.learned_opacity(count),
    }


def _boxes(trace: Trace) -> tuple[dict[str, Any], float]:
    """``[S+1, N, 4]`` int16, and the pixels of one step."""
    step = REACH * max(trace.size) / 32767
    values = trace.boxes.double().numpy()
    steps = np.nan_to_num(values / step, nan=0.0, posinf=32767, neginf=-32767)
    small = steps.round().clip(-32767, 32767).astype(np.int16)
    small[~np.isfinite(values).all(-1)] = -32768
    return pack.array(small), step


def _notes(trace: Trace) -> list[str]:
    """What a person should know before they trust the picture: what is not a number."""
    notes = []
    broken = ~trace.boxes.isfinite().all(-1)
    if broken.any():
        states = ", ".join(str(int(s)) for s in broken.any(1).nonzero())
        notes.append(
            f"{_count(broken)} left out at stage {states}: the trace holds boxes that are not "
            "numbers (NaN)."
        )
    broken = ~trace.logits.isfinite().all(-1)
    if broken.any():
        notes.append(f"Scores of {_count(broken)} are not numbers (NaN) and shown as 0.")
    broken = ~trace.features.isfinite().all(-1)
    if broken.any():
        notes.append(f"Features of {_count(broken)} are not numbers (NaN) and shown as zeros.")
    return notes


def _count(broken: Tensor) -> str:
    """How many proposals ``[S, N]`` are broken at any stage, in words."""
    number = int(broken.any(0).sum())
    return f"{number} proposal{'s' * (number != 1)}"


def _best_classes(trace: Trace) -> tuple[dict[str, Any], dict[str, Any]]:
    """``[S, N, K]`` scores (uint16 shares) and labels of the best classes, best first."""
    logits = torch.nan_to_num(trace.logits, nan=-1e4)
    scores, labels = logits.sigmoid().topk(min(CLASSES_KEPT, logits.shape[-1]), dim=-1)
    return pack.share(scores, np.uint16), pack.array(labels.numpy().astype(np.uint16))


def _attention(attention: Tensor) -> dict[str, Any]:
    """The strongest partners of each row, averaged over the heads: ``[S, N, K]`` each."""
    mean = torch.nan_to_num(attention.mean(1))
    weight, index = mean.topk(min(ATTENTION_KEPT, mean.shape[-1]), dim=-1)
    return {
        "index": pack.array(index.numpy().astype(np.uint16)),
        "weight": pack.share(weight),
        "heads": attention.shape[1],
    }


def _truth(trace: Trace) -> dict[str, Any] | None:
    """Ground truth, which of it each proposal belongs to, and its IoU with that at every state."""
    if trace.gt_boxes is None or not len(trace.gt_boxes):
        return None
    boxes = torch.nan_to_num(trace.boxes)
    overlap = box_ops.iou(boxes, trace.gt_boxes)  # [S+1, N, M]
    target = overlap[-1].argmax(-1)
    if trace.matches is not None:
        target = torch.where(trace.matches[-1] >= 0, trace.matches[-1], target)
    own = overlap.gather(-1, target.expand(len(boxes), -1)[..., None])[..., 0]
    labels = trace.gt_labels
    matches = trace.matches
    return {
        "boxes": [[round(v, 2) for v in box] for box in trace.gt_boxes.tolist()],
        "labels": None if labels is None else labels.tolist(),
        "target": pack.array(target.numpy().astype(np.int16)),
        "iou": pack.share(own),
        "matches": None if matches is None else pack.array(matches.numpy().astype(np.int16)),
    }
