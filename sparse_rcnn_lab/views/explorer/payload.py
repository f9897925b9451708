"""A ``Trace`` in the form that the explorer's page needs: small, and only what it draws.

300 proposals of six stages take about 190 kB without the image. Everything that a view needs is
computed here once, so that data.js only looks up and draws.
"""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core.trace import Trace
from sparse_rcnn_lab.views import style
from sparse_rcnn_lab.views.draw import as_image, data_uri, display_size, encoded
from sparse_rcnn_lab.views.feature_similarity import FeaturePlane, rows_with_rivals

CLASSES_KEPT = 3  # best classes of a proposal at a stage
ATTENTION_KEPT = 8  # proposals that a proposal attends to most
SIMILAR_KEPT = 6  # most similar proposals at a state
REACH = 4.0  # boxes are kept up to this many long sides away from the image's corner
LONGEST = 960  # pixels; boxes stay in original pixels however small the image becomes
SMALL_ENOUGH = 256  # pixels; drawings up to this size keep every pixel
IMAGE_BYTES = 75_000  # quality is reduced before the page becomes too large to be mailed

RECORD = {
    "attention": 'Record it: detector.trace(image, record=("attention",)).',
    "roi": (
        "Not recorded. With an image: explore(image, model, roi=True). For a trace: "
        'detector.trace(image, record=("roi_features",)).'
    ),
    "filters": (
        "Not recorded. With an image: explore(image, model, roi=True). For a trace: "
        'detector.trace(image, record=("roi_features", "filtered_features")).'
    ),
    "features": "This trace holds no finite proposal features. Record it again with trace().",
    "image": "This trace was saved without its image: boxes are drawn on an empty sheet.",
    "matches": "Add the ground truth to the trace: gt_boxes, gt_labels and matches.",
}


def payload(
    trace: Trace, *, roi: bool = False, image: bool = True, plane: FeaturePlane | None = None
) -> dict[str, Any]:
    """Everything that the explorer shows of a trace, ready for JSON.

    roi: add what each stage pooled and what the dynamic filters made of it, as ``P x P`` maps,
    where the trace has recorded them; off by default, as they double the size.  image: add the
    image, reduced to at most 960 px.  plane: the plane in which features are drawn, by default
    their own PCA; a trace that is compared with another uses the other's.

    Boxes are int16 in steps of ``box_step`` original pixels; -32768 marks a box that is not finite,
    which is reported in ``notes`` and left out of the view.
    """
    logits = torch.nan_to_num(trace.logits, nan=-1e4)
    scores, labels = logits.sigmoid().topk(min(CLASSES_KEPT, logits.shape[-1]), dim=-1)
    has = {
        "attention": trace.attention is not None,
        "roi": roi and trace.roi_features is not None,
        "filters": roi and trace.roi_features is not None and trace.filtered_features is not None,
        "features": bool(trace.features.isfinite().any()),
        "image": trace.image is not None,
        "matches": trace.matches is not None and trace.gt_boxes is not None,
    }
    step = REACH * max(trace.size) / 32767
    return {
        "format": 1,
        "model": trace.model_name or "Sparse R-CNN",
        "size": list(trace.size),
        "stages": trace.num_stages,
        "classes": list(trace.class_names),
        "style": page_style(trace.num_stages, trace.num_proposals),
        "notes": _notes(trace),
        "missing": {name: RECORD[name] for name, there in has.items() if not there},
        "image": None if trace.image is None or not image else _image(trace.image),
        "ids": _packed(trace.proposal_ids, np.uint16),
        "box_step": step,
        "boxes": _boxes(trace, step),
        "scores": _share(scores, np.uint16),
        "labels": _packed(labels, np.uint16),
        "levels": _packed(trace.fpn_level, np.uint8),
        "features": _features(trace, plane) if has["features"] else None,
        "attention": None if trace.attention is None else _attention(trace.attention),
        "roi": _roi(trace) if has["roi"] else None,
        "truth": _truth(trace),
    }


def page_style(num_stages: int, count: int) -> dict[str, Any]:
    """Colours and lines of a page with ``count`` proposals, as colors.js reads them."""
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


def _boxes(trace: Trace, step: float) -> dict[str, Any]:
    """All boxes, ``[S+1, N, 4]`` int16."""
    steps = torch.nan_to_num(trace.boxes.double() / step, nan=0.0, posinf=32767, neginf=-32767)
    small = steps.round().clamp(-32767, 32767)
    small[~trace.boxes.isfinite().all(-1)] = -32768
    return _packed(small, np.int16)


def _notes(trace: Trace) -> list[str]:
    """What a person should know before trusting the view: which values are not finite."""
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
    """How many proposals of ``[S, N]`` are broken at any stage, in words."""
    number = int(broken.any(0).sum())
    return f"{number} proposal{'s' * (number != 1)}"


def _features(trace: Trace, plane: FeaturePlane | None) -> dict[str, Any]:
    """Positions in the PCA plane, the cosine of each pair of states, the most similar proposals at
    each state, and the cosines among the best proposals and their rivals at each state.
    """
    known = torch.nan_to_num(trace.features)
    s, n, _ = known.shape
    plane = plane or FeaturePlane.fit(trace.features)
    points = (plane.place(known) / plane.reach).clamp(-1.5, 1.5) / 1.5  # room for edits outside
    unit = F.normalize(known, dim=-1)
    stages = torch.einsum("snd,tnd->nst", unit, unit)
    first, second = torch.triu_indices(s, s, offset=1)
    cosines = unit @ unit.transpose(1, 2)
    rows = rows_with_rivals(trace)
    one, other = torch.triu_indices(len(rows), len(rows), offset=1)
    among = cosines[:, rows[one], rows[other]]
    cosines.diagonal(dim1=1, dim2=2).fill_(-2)
    cosine, near = cosines.topk(min(SIMILAR_KEPT, max(n - 1, 0)), dim=-1)
    return {
        "points": _packed((points * 32767).round(), np.int16),
        "explained": [round(part, 4) for part in plane.explained.tolist()],
        "between": _share(stages[:, first, second], np.int8),
        "near": _packed(near, np.uint16),
        "near_cosine": _share(cosine, np.int8),
        "group": _packed(rows, np.uint16),
        "group_cosine": _share(among, np.int8),
    }


def _attention(attention: Tensor) -> dict[str, Any]:
    """The strongest weights of each row, averaged over the heads: ``[S, N, K]`` each."""
    mean = torch.nan_to_num(attention.mean(1))
    weight, index = mean.topk(min(ATTENTION_KEPT, mean.shape[-1]), dim=-1)
    return {
        "index": _packed(index, np.uint16),
        "weight": _share(weight),
        "heads": attention.shape[1],
    }


def _roi(trace: Trace) -> dict[str, Any]:
    """``before`` and ``after`` the dynamic filters: ``[S, N, P, P]`` shares 0..1.

    A bin's value is the distance of its feature from the mean of its RoI (how much it stands out),
    relative to the proposal's largest one at all stages. after: None without ``filtered_features``.
    """

    def contrast(features: Tensor | None) -> dict[str, Any] | None:
        if features is None:
            return None
        bins = torch.nan_to_num(features).flatten(2, 3)  # a large copy, changed in place
        bins -= bins.mean(2, keepdim=True)
        away = torch.linalg.vector_norm(bins, dim=-1)
        shares = away / away.amax((0, 2), keepdim=True).clamp(min=1e-12)
        return _share(shares.unflatten(2, features.shape[2:4]))

    return {"before": contrast(trace.roi_features), "after": contrast(trace.filtered_features)}


def _truth(trace: Trace) -> dict[str, Any] | None:
    """Ground truth, which object each proposal belongs to, and its IoU with it at every state."""
    if trace.gt_boxes is None or not len(trace.gt_boxes):
        return None
    overlap = box_ops.iou(torch.nan_to_num(trace.boxes), trace.gt_boxes)  # [S+1, N, M]
    target = overlap[-1].argmax(-1)
    if trace.matches is not None:
        target = torch.where(trace.matches[-1] >= 0, trace.matches[-1], target)
    own = overlap.gather(-1, target.expand(len(overlap), -1)[..., None])[..., 0]
    return {
        "boxes": [[round(v, 2) for v in box] for box in trace.gt_boxes.tolist()],
        "labels": None if trace.gt_labels is None else trace.gt_labels.tolist(),
        "target": _packed(target, np.int16),
        "iou": _share(own),
        "matches": None if trace.matches is None else _packed(trace.matches, np.int16),
    }


def _packed(values: Tensor, kind: type[np.integer[Any]]) -> dict[str, Any]:
    """``{"type", "shape", "data"}``: little-endian bytes in base64; data.js reads it back."""
    small = np.ascontiguousarray(values.numpy().astype(np.dtype(kind).newbyteorder("<")))
    data = base64.b64encode(small.tobytes()).decode("ascii")
    return {"type": np.dtype(kind).name, "shape": list(small.shape), "data": data}


def _share(values: Tensor, kind: type[np.integer[Any]] = np.uint8) -> dict[str, Any]:
    """Numbers 0..1 (-1..1 for a signed ``kind``) times its largest, rounded; NaN becomes 0."""
    limits = np.iinfo(kind)
    known = values.double().nan_to_num(nan=0.0).clamp(-1 if limits.min else 0, 1)
    return _packed((known * limits.max).round(), kind)


def _image(image: Tensor) -> str:
    """``[3, H, W]`` uint8 RGB -> a data URI: PNG where small, else JPEG of at most 960 px."""
    shown = as_image(image)
    if max(shown.size) <= SMALL_ENOUGH:
        return data_uri(encoded(shown, "PNG", optimize=True), "png")
    longest = min(LONGEST, max(shown.size))
    while True:
        size = display_size(*shown.size, max_side=longest)
        small = shown.resize(size, Image.Resampling.LANCZOS)
        for quality in (85, 75, 65, 50):
            data = encoded(small, "JPEG", quality=quality, optimize=True)
            if len(data) <= IMAGE_BYTES:
                return data_uri(data)
        longest = round(longest * 0.8)  # needed for an image of noise
