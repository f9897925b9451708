"""A made-up class: what students hand in, and the tests each of their mistakes shall cost."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import re
import sys
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparse_rcnn_lab.classroom import guard

SOURCES = Path(__file__).resolve().parent.parent / "notebooks" / "assignments"


@dataclass(frozen=True)
class Mistake:
    """Somebody wrote ``new`` for ``old`` in a solution cell. lost: the tests it shall cost."""

    name: str
    cell: str
    old: str
    new: str
    lost: frozenset[str]


def _m(name: str, cell: str, old: str, new: str, *lost: str) -> Mistake:
    return Mistake(name, cell, old, new, frozenset(lost))


MISTAKES: dict[str, tuple[Mistake, ...]] = {
    "boxes": (
        _m(
            "axes-swapped",
            "formats",
            "return torch.stack([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1], dim=-1)",
            "return torch.stack([(y1 + y2) / 2, (x1 + x2) / 2, y2 - y1, x2 - x1], dim=-1)",
            "formats-to-cxcywh",
        ),
        _m(
            "corner-for-centre",
            "formats",
            "[cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]",
            "[cx, cy, cx + w, cy + h]",
            "formats-to-xyxy",
        ),
        _m(
            "only-two-dimensions",
            "formats",
            "x1, y1, x2, y2 = boxes.unbind(-1)",
            "x1, y1, x2, y2 = boxes[:, 0], boxes[:, 1], boxes[:, 2], boxes[:, 3]",
            "formats-leading",
        ),
        _m(
            "in-place",
            "formats",
            "x1, y1, x2, y2 = boxes.unbind(-1)",
            "x1, y1, x2, y2 = boxes.clone().unbind(-1)\n    boxes[..., 2:] -= boxes[..., :2]",
            "formats-untouched",
        ),
        _m(
            "plus-one",
            "iou",
            "(boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])",
            "(boxes[..., 2] - boxes[..., 0] + 1) * (boxes[..., 3] - boxes[..., 1] + 1)",
            "iou-area",
        ),
        _m("negative-sides", "iou", ".clamp(min=0)", "", "iou-apart"),
        _m(
            "union-counts-twice",
            "iou",
            "area(b)[None] - shared",
            "area(b)[None]",
            "iou-values",
            "iou-same",
        ),
        _m("not-a-number", "iou", "union.clamp(min=1e-6)", "union", "iou-empty"),
        _m(
            "only-partners",
            "iou",
            "top_left = torch.maximum(a[:, None, :2], b[None, :, :2])\n"
            "    bottom_right = torch.minimum(a[:, None, 2:], b[None, :, 2:])",
            "if len(a) != len(b):\n        a, b = a[: len(b)], b[: len(a)]\n"
            "    top_left = torch.maximum(a[:, :2], b[:, :2])[:, None]\n"
            "    bottom_right = torch.minimum(a[:, 2:], b[:, 2:])[:, None]",
            "iou-pairs",
            "iou-empty",
        ),
        _m(
            "hull-not-divided",
            "giou",
            "(hull - union) / hull.clamp(min=1e-6)",
            "(hull - union)",
            "giou-apart",
            "giou-pairs",
        ),
        _m(
            "iou-for-giou",
            "giou",
            "- (hull - union) / hull.clamp(min=1e-6)",
            "",
            "giou-apart",
            "giou-pairs",
            "giou-gradient",
        ),
        _m(
            "factor-missing",
            "deltas",
            "cx + 0.5 * dx * w, cy + 0.5 * dy * h",
            "cx + dx * w, cy + dy * h",
            "deltas-decode",
        ),
        _m(
            "encode-not-log",
            "deltas",
            "(tw / w).log(), (th / h).log()",
            "tw / w - 1, th / h - 1",
            "deltas-encode",
        ),
        _m("no-limit", "deltas", ".clamp(-LIMIT, LIMIT)", "", "deltas-limit"),
        _m(
            "detached-deltas",
            "deltas",
            "deltas.unbind(-1)",
            "deltas.detach().unbind(-1)",
            "deltas-gradient",
        ),
        _m("shift-wrong", "think", "iou_shifted = ", "iou_shifted = 0.1 + 0.5 * ", "think-shifted"),
    ),
    "matching": (
        _m(
            "softmax-for-sigmoid",
            "class-cost",
            "logits.sigmoid()",
            "logits.softmax(-1)",
            "class-one",
            "class-values",
        ),
        _m(
            "alpha-exchanged",
            "class-cost",
            "found = 0.25 * (1 - p) ** 2 * -(p + 1e-12).log()\n    missed = 0.75",
            "found = 0.75 * (1 - p) ** 2 * -(p + 1e-12).log()\n    missed = 0.25",
            "class-one",
            "class-values",
        ),
        _m("log-of-zero", "class-cost", " + 1e-12", "", "class-sure"),
        _m(
            "not-by-object",
            "class-cost",
            "(found - missed)[:, labels]",
            "(found - missed)[:, : len(labels)]",
            "class-one",
            "class-values",
        ),
        _m(
            "pixels",
            "box-cost",
            "torch.cdist(boxes / scale, truth / scale, p=1)",
            "torch.cdist(boxes, truth, p=1)",
            "box-one",
            "box-values",
        ),
        _m(
            "height-for-width",
            "box-cost",
            "height, width = size",
            "width, height = size",
            "box-one",
            "box-values",
        ),
        _m("euclid", "box-cost", "p=1", "p=2", "box-one", "box-values"),
        _m("sign-of-giou", "box-cost", "- 2 * giou", "+ 2 * giou", "total-sign", "total-values"),
        _m("weights-missing", "box-cost", "+ 5 * box_cost", "+ box_cost", "total-values"),
        _m(
            "greedy",
            "match",
            "rows, columns = linear_sum_assignment(cost.detach().numpy())",
            "table, rows, columns = cost.detach().clone(), [], []\n"
            "    for _ in range(min(table.shape)):\n"
            "        r, c = divmod(int(table.argmin()), table.shape[1])\n"
            "        rows, columns = rows + [r], columns + [c]\n"
            "        table[r], table[:, c] = float('inf'), float('inf')\n"
            "    rows, columns = torch.tensor(rows).long(), torch.tensor(columns).long()",
            "match-best",
        ),
        _m("missing-detach", "match", ".detach()", "", "match-gradient"),
        _m(
            "cheapest-for-each",
            "match",
            "rows, columns = linear_sum_assignment(cost.detach().numpy())",
            "columns = torch.arange(cost.shape[1])\n    rows = cost.detach().argmin(0)",
            "match-best",
            "match-few",
        ),
        _m(
            "no-weights", "losses", "return alpha * missed**2 * loss", "return loss", "losses-focal"
        ),
        _m(
            "already-summed",
            "losses",
            "alpha * missed**2 * loss",
            "(alpha * missed**2 * loss).sum()",
            "losses-focal",
            "losses-shape",
        ),
        _m(
            "all-with-all",
            "losses",
            "giou(predicted, truth).diagonal()",
            "giou(predicted, truth)",
            "losses-box-values",
        ),
        _m(
            "means-for-sums", "losses", ".abs().sum()", ".abs().sum(-1).mean()", "losses-box-values"
        ),
        _m(
            "wrong-normaliser",
            "set-loss",
            "max(len(proposals), 1)",
            "len(logits)",
            "set-cls",
            "set-boxes",
            "set-none",
        ),
        _m("divides-by-zero", "set-loss", "max(len(proposals), 1)", "len(proposals)", "set-none"),
        _m(
            "only-matched",
            "set-loss",
            "focal_loss(logits, targets).sum()",
            "focal_loss(logits[proposals], targets[proposals]).sum()",
            "set-cls",
            "set-none",
        ),
        _m("objects-not-ordered", "set-loss", "truth[objects]", "truth", "set-boxes"),
        _m(
            "boxes-detached",
            "set-loss",
            "boxes[proposals]",
            "boxes[proposals].detach()",
            "set-gradient",
        ),
    ),
    "stage": (
        _m(
            "one-side", "level", "(sides[:, 0] * sides[:, 1]).sqrt()", "sides.amax(1)", "level-wide"
        ),
        _m("rounded", "level", ".floor()", ".round()", "level-squares", "level-wide"),
        _m("no-limits", "level", ".clamp(0, 3)", "", "level-squares", "level-limits"),
        _m(
            "axes-swapped",
            "roi",
            "left, top = x.floor().long(), y.floor().long()",
            "x, y = y, x\n    left, top = x.floor().long(), y.floor().long()",
            "bilinear-ramp",
            "bilinear-values",
            "bilinear-border",
        ),
        _m(
            "nearest",
            "roi",
            "u, v = x - left, y - top",
            "u, v = (x - left).round(), (y - top).round()",
            "bilinear-ramp",
            "bilinear-values",
        ),
        _m(
            "beyond-the-border",
            "roi",
            "(left + 1).clamp(max=width - 1), (top + 1).clamp(max=height - 1)",
            "left + 1, top + 1",
            "bilinear-border",
        ),
        _m("half-pixel", "roi", "/ stride - 0.5", "/ stride", "roi-ramp", "roi-values"),
        _m(
            "column-by-column",
            "roi",
            'torch.meshgrid(ys, xs, indexing="ij")',
            'torch.meshgrid(ys, xs, indexing="xy")',
            "roi-ramp",
            "roi-values",
        ),
        _m(
            "corners-of-cells",
            "roi",
            "(torch.arange(side) + 0.5) / side",
            "torch.linspace(0, 1, side)",
            "roi-ramp",
            "roi-values",
        ),
        _m(
            "scale-missing",
            "attention",
            " / (d // heads) ** 0.5",
            "",
            "attention-one-head",
            "attention-heads",
        ),
        _m(
            "softmax-over-askers",
            "attention",
            "softmax(dim=-1)",
            "softmax(dim=-2)",
            "attention-rows",
            "attention-one-head",
            "attention-heads",
        ),
        _m(
            "heads-mixed",
            "attention",
            "x.view(n, heads, d // heads).transpose(0, 1) for x",
            "x.reshape(heads, n, d // heads) for x",
            "attention-heads",
        ),
        _m(
            "not-transposed-back",
            "attention",
            "(weights @ v).transpose(0, 1).reshape",
            "(weights @ v).reshape",
            "attention-heads",
        ),
        _m(
            "filters-for-all",
            "interact",
            "parts.generate(features).split",
            "parts.generate(features).mean(0, keepdim=True).expand(len(features), -1).split",
            "interact-own",
            "interact-values",
        ),
        _m(
            "relu-missing",
            "interact",
            "x = parts.norm_in(x).relu()",
            "x = parts.norm_in(x)",
            "interact-values",
        ),
        _m(
            "relu-last-missing",
            "interact",
            "x.flatten(1))).relu()",
            "x.flatten(1)))",
            "interact-relu",
            "interact-values",
        ),
        _m(
            "residual-missing",
            "stage",
            "parts.norm_interaction(x + interact",
            "parts.norm_interaction(interact",
            "stage-features",
        ),
        _m(
            "heads-read-input",
            "stage",
            "parts.regress(x)), parts.classify(x)",
            "parts.regress(features)), parts.classify(features)",
            "stage-heads",
        ),
        _m("missing-detach", "stage", "boxes = boxes.detach()", "pass", "chain-gradient"),
        _m(
            "features-detached",
            "stage",
            "boxes = boxes.detach()",
            "boxes, features = boxes.detach(), features.detach()",
            "chain-gradient",
        ),
        _m(
            "outputs-detached",
            "stage",
            "boxes, logits, features = stage(boxes, features)\n",
            "boxes, logits, features = stage(boxes, features)\n        boxes = boxes.detach()\n",
            "chain-gradient",
        ),
        _m(
            "always-the-first",
            "stage",
            "boxes, logits, features = stage(boxes, features)\n",
            "boxes, logits, _ = stage(boxes, features)\n",
            "chain-order",
            "chain-gradient",
        ),
    ),
    "experiment": (
        _m(
            "stage-from-zero",
            "measure",
            "stages=[stage]",
            "stages=[max(stage - 1, 1)]",
            "measure-stage",
        ),
        _m(
            "always-the-last",
            "measure",
            "stages=[stage]",
            "stages=[6]",
            "measure-better",
            "measure-stage",
        ),
        _m(
            "proposals-ignored",
            "measure",
            "num_proposals=proposals",
            "num_proposals=20",
            "measure-proposals",
        ),
        _m(
            "percent",
            "measure",
            "per_stage[0].AP",
            "per_stage[0].AP * 100",
            "measure-better",
            "measure-stage",
            "measure-proposals",
        ),
        _m(
            "ap50",
            "measure",
            "per_stage[0].AP",
            "per_stage[0].AP50",
            "measure-stage",
            "measure-proposals",
        ),
        _m("divided-by-n", "spread", "(len(values) - 1)", "len(values)", "spread-error"),
        _m("spread-of-one", "spread", " / len(values) ** 0.5", "", "spread-error"),
        _m(
            "median",
            "spread",
            "mean = sum(values) / len(values)",
            "mean = sorted(values)[len(values) // 2]",
            "spread-mean",
            "spread-error",
        ),
        _m(
            "not-paired",
            "compare",
            "spread([y - x for x, y in zip(a, b, strict=True)])",
            "spread(b)[0] - spread(a)[0], (spread(a)[1] ** 2 + spread(b)[1] ** 2) ** 0.5",
            "compare-error",
        ),
        _m("wrong-way-round", "compare", "y - x for", "x - y for", "compare-sign"),
        _m(
            "two-dials",
            "own-run",
            "for n in (3, 6, 12, 20)",
            'for n in (3, 6)] + [\n    {"stage": 3, "proposals": n} for n in (12, 20)',
            "own-one-dial",
        ),
        _m("too-few", "own-run", "(3, 6, 12, 20)", "(3, 20)", "own-settings"),
        _m("one-group", "own-run", "range(3)", "range(1)", "own-groups"),
    ),
}

# The same answers as other people would write them: full marks.
OTHER_STYLE: dict[str, dict[str, str]] = {
    "boxes": {
        "formats": """
def to_cxcywh(boxes):
    corner, other = boxes[..., :2], boxes[..., 2:]
    return torch.cat([0.5 * (corner + other), other - corner], -1)

def to_xyxy(boxes):
    half = boxes[..., 2:] * 0.5
    result = torch.empty_like(boxes)
    result[..., :2] = boxes[..., :2] - half
    result[..., 2:] = boxes[..., :2] + half
    return result
""",
        "iou": """
import numpy as np

def area(boxes):
    return (boxes[..., 2:] - boxes[..., :2]).prod(dim=-1)

def both(p, q):
    w = max(0.0, min(p[2], q[2]) - max(p[0], q[0]))
    h = max(0.0, min(p[3], q[3]) - max(p[1], q[1]))
    cut = w * h
    return cut, (p[2] - p[0]) * (p[3] - p[1]) + (q[2] - q[0]) * (q[3] - q[1]) - cut

def iou(a, b):
    table = np.zeros((len(a), len(b)))
    for i, p in enumerate(a.tolist()):
        for j, q in enumerate(b.tolist()):
            cut, union = both(p, q)
            table[i, j] = cut / union if union > 0 else 0.0
    return torch.tensor(table, dtype=torch.float32)
""",
        "giou": """
def giou(a, b):
    a, b = a[:, None], b[None]
    w = (torch.minimum(a[..., 2], b[..., 2]) - torch.maximum(a[..., 0], b[..., 0])).relu()
    h = (torch.minimum(a[..., 3], b[..., 3]) - torch.maximum(a[..., 1], b[..., 1])).relu()
    size = lambda x: (x[..., 2] - x[..., 0]) * (x[..., 3] - x[..., 1])
    union = size(a) + size(b) - w * h
    hull = (torch.maximum(a[..., 2], b[..., 2]) - torch.minimum(a[..., 0], b[..., 0])) * (
        torch.maximum(a[..., 3], b[..., 3]) - torch.minimum(a[..., 1], b[..., 1])
    )
    return w * h / union - 1 + union / hull
""",
        "deltas": """
import math
SCALE = torch.tensor([0.5, 0.5, 1.0, 1.0])

def encode(boxes, targets):
    size, size_t = boxes[:, 2:] - boxes[:, :2], targets[:, 2:] - targets[:, :2]
    middle, middle_t = boxes[:, :2] + size / 2, targets[:, :2] + size_t / 2
    return torch.cat([(middle_t - middle) / size, torch.log(size_t / size)], 1) / SCALE

def decode(boxes, deltas):
    d = deltas * SCALE
    size = boxes[:, 2:] - boxes[:, :2]
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2 + d[:, :2] * size
    new = size * torch.exp(torch.clip(d[:, 2:], -math.log(62.5), math.log(62.5)))
    return torch.cat([middle - new / 2, middle + new / 2], 1)
""",
    },
    "matching": {
        "class-cost": """
import torch.nn.functional as F

def class_cost(logits, labels):
    chosen = logits.index_select(1, labels)
    p = chosen.sigmoid()
    return 0.25 * (1 - p) ** 2 * F.softplus(-chosen) - 0.75 * p**2 * F.softplus(chosen)
""",
        "box-cost": """
def box_cost(boxes, truth, size):
    h, w = size
    whole = torch.zeros(len(boxes), len(truth))
    for place, side in enumerate((w, h, w, h)):
        whole += (boxes[:, place, None] - truth[None, :, place]).abs() / side
    return whole

def total_cost(logits, boxes, labels, truth, size):
    parts = [2.0 * class_cost(logits, labels), 5.0 * box_cost(boxes, truth, size)]
    parts.append(-2.0 * giou(boxes, truth))
    return sum(parts)
""",
        "match": """
from itertools import permutations

def match(cost):
    n, m = cost.shape
    table = cost.tolist()
    if n >= m:
        best = min(permutations(range(n), m), key=lambda p: sum(table[i][j] for j, i in enumerate(p)))
        pairs = [(i, j) for j, i in enumerate(best)]
    else:
        best = min(permutations(range(m), n), key=lambda p: sum(table[i][j] for i, j in enumerate(p)))
        pairs = list(enumerate(best))
    both = torch.tensor(pairs, dtype=torch.int64).view(-1, 2)
    return both[:, 0], both[:, 1]
""",
        "losses": """
def focal_loss(logits, targets):
    p = torch.sigmoid(logits)
    yes = -0.25 * (1 - p).pow(2) * torch.log(p.clamp(min=1e-12))
    no = -0.75 * p.pow(2) * torch.log((1 - p).clamp(min=1e-12))
    return targets * yes + (1 - targets) * no

def box_losses(predicted, truth, size):
    far, bad = predicted.new_zeros(()), predicted.new_zeros(())
    for p, t in zip(predicted, truth):
        d = (p - t).abs()
        far = far + (d[0] + d[2]) / size[1] + (d[1] + d[3]) / size[0]
        bad = bad + 1 - giou(p[None], t[None])[0, 0]
    return far, bad
""",
    },
    "stage": {
        "level": """
def level_of(boxes):
    levels = []
    for x1, y1, x2, y2 in boxes.tolist():
        size, level = ((x2 - x1) * (y2 - y1)) ** 0.5, 0
        while size >= 112 and level < 3:
            size, level = size / 2, level + 1
        levels.append(level)
    return torch.tensor(levels)
""",
        "roi": """
import torch.nn.functional as F

def bilinear(features, x, y):
    d, h, w = features.shape
    grid = torch.stack([2 * x / (w - 1) - 1, 2 * y / (h - 1) - 1], -1)
    return F.grid_sample(features[None], grid[None, :, None], align_corners=True)[0, :, :, 0].t()

def roi_feature(features, box, stride, side):
    d, h, w = features.shape
    cell_w, cell_h = (box[2] - box[0]) / side, (box[3] - box[1]) / side
    rows = []
    for row in range(side):
        for column in range(side):
            x = (box[0] + (column + 0.5) * cell_w) / stride - 0.5
            y = (box[1] + (row + 0.5) * cell_h) / stride - 0.5
            x, y = torch.clip(x, 0, w - 1), torch.clip(y, 0, h - 1)
            rows.append(bilinear(features, x[None], y[None])[0])
    return torch.stack(rows)
""",
        "attention": """
def attention(q, k, v, heads):
    mixed, weights = [], []
    for q1, k1, v1 in zip(q.chunk(heads, 1), k.chunk(heads, 1), v.chunk(heads, 1)):
        w = torch.einsum("nd,md->nm", q1, k1) * q1.shape[1] ** -0.5
        weights.append(torch.softmax(w, 1))
        mixed.append(weights[-1] @ v1)
    return torch.cat(mixed, 1), torch.stack(weights)
""",
        "interact": """
def interact(features, roi, parts):
    numbers = parts.generate(features)
    cut = parts.dim * parts.inner
    results = []
    for own, cells in zip(numbers, roi):
        x = torch.relu(parts.norm_in(cells @ own[:cut].reshape(parts.dim, parts.inner)))
        x = torch.relu(parts.norm_out(x @ own[cut:].reshape(parts.inner, parts.dim)))
        results.append(torch.relu(parts.norm(parts.project(x.reshape(-1)))))
    return torch.stack(results)
""",
    },
    "experiment": {
        "measure": """
def measure(detector, data, stage, proposals):
    every = srl.evaluate(detector, data, num_proposals=proposals, progress=False)
    return float(every.per_stage[stage - 1].AP)
""",
        "spread": """
import numpy as np

def spread(values):
    return np.mean(values), np.std(values, ddof=1) / np.sqrt(len(values))
""",
        "compare": """
import torch

def compare(a, b):
    gained = torch.tensor(b, dtype=torch.float64) - torch.tensor(a, dtype=torch.float64)
    return gained.mean().item(), (gained.std() / len(gained) ** 0.5).item()
""",
        "own-run": """
settings = [dict(stage=s, proposals=20) for s in range(1, 7)]
groups = [practice.shapes("val", seed=g) for g in range(4)]
results = [
    {"stage": s["stage"], "proposals": 20, "ap": [measure(detector, g, s["stage"], 20) for g in groups]}
    for s in settings
]
""",
    },
}


@dataclass(frozen=True)
class Trouble:
    """Solution cells that do something else than being wrong, and the note the marks must have."""

    name: str
    cells: dict[str, str]
    lost: frozenset[str]
    note: str = ""


def _t(name: str, cells: dict[str, str], *lost: str, note: str = "") -> Trouble:
    return Trouble(name, cells, frozenset(lost), note)


_GIOU = ("giou-inside", "giou-apart", "giou-pairs", "giou-gradient")
_MATCH = ("match-one-each", "match-best", "match-few", "match-none", "match-gradient")
_ATTENTION = ("attention-shapes", "attention-rows", "attention-one-head", "attention-heads")
_MODEL = ("model-runs", "model-learns")
_SPREAD = ("spread-mean", "spread-error")
TROUBLE: dict[str, tuple[Trouble, ...]] = {
    "boxes": (
        _t("loop", {"giou": "def giou(a, b):\n    while True:\n        pass\n"}, *_GIOU),
        _t("loop-outside", {"giou": "while True:\n    pass\n"}, *_GIOU, note="stopped after"),
        _t(
            "loop-that-cannot-be-stopped",
            {
                "giou": "while True:\n    try:\n        while True: pass\n    except BaseException: pass\n"
            },
            *_GIOU,
            note="stop",
        ),
        _t("crash", {"giou": "import os\nos._exit(3)\n"}, *_GIOU, note="process ended"),
        _t(
            "crash-when-called",
            {"giou": "import os\n\ndef giou(a, b):\n    os._exit(3)\n"},
            *_GIOU,
            note="process ended",
        ),
        _t("leaves", {"giou": "import sys\n\ndef giou(a, b):\n    sys.exit(0)\n"}, *_GIOU),
        _t(
            "flood",
            {"giou": "for _ in range(300):\n    print('x' * 100_000)\n"},
            *_GIOU,
            note="printed",
        ),
        _t(
            "answer",
            {"giou": "from sparse_rcnn_lab.boxes import giou\n"},
            *_GIOU,
            note="own answer",
        ),
        _t(
            "answer-by-another-name",
            {
                "giou": "import torchvision.ops as o\n\ndef giou(a, b):\n    return o.generalized_box_iou(a, b)\n"
            },
            *_GIOU,
        ),
        _t(
            "shadows-the-check",
            {"giou": "def giou(a, b):\n    return a\n\ncheck = lambda *a, **k: None\n"},
            *_GIOU,
        ),
        _t("does-not-parse", {"giou": "def giou(a, b)\n    return a\n"}, *_GIOU),
    ),
    "matching": (
        _t("loop", {"match": "def match(cost):\n    while True:\n        pass\n"}, *_MATCH),
        _t("crash", {"match": "import os\nos._exit(3)\n"}, *_MATCH, note="process ended"),
        _t(
            "answer",
            {
                "match": "from sparse_rcnn_lab.training.matching import assign\n\ndef match(cost):\n"
                "    r, c = assign(cost.detach().numpy())\n    return torch.tensor(r), torch.tensor(c)\n"
            },
            *_MATCH,
            note="own answer",
        ),
    ),
    "stage": (
        _t(
            "loop",
            {"attention": "def attention(q, k, v, heads):\n    while True:\n        pass\n"},
            *_ATTENTION,
            *_MODEL,
            note="stopped after",
        ),
        _t(
            "answer",
            {
                "interact": "from sparse_rcnn_lab.model.stage import DynamicInteraction\n\n"
                "def interact(features, roi, parts):\n"
                "    own = DynamicInteraction(parts.dim, parts.inner, 2)\n"
                "    own.generate, own.norm_in, own.norm_out = parts.generate, parts.norm_in, parts.norm_out\n"
                "    own.project, own.norm = parts.project, parts.norm\n"
                "    return own(own.generate(features)[None], roi[None])[0]\n"
            },
            "interact-shape",
            "interact-relu",
            "interact-own",
            "interact-values",
            *_MODEL,
            note="own answer",
        ),
    ),
    "experiment": (
        _t(
            "loop",
            {"spread": "def spread(values):\n    while True:\n        pass\n"},
            *_SPREAD,
            "compare-sign",
            "compare-error",
            note="stopped after",
        ),
        _t("crash", {"figure": "import os\nos._exit(3)\n"}, note="process ended"),
    ),
}


# Cells that take long; the round trip runs them.
LONG = {"train", "model-runs", "model-learns"}


def rehearse(notebook: Any) -> frozenset[str]:
    """The tests that a notebook fails, its cells run in this process: seconds less than a kernel.

    What only a kernel shows (crashes, loops, floods of print) is in the round trip.
    """
    name, main = "__main__", types.ModuleType("__main__")
    real, failed = sys.modules[name], set()
    sys.modules[name] = main
    try:
        for c in notebook["cells"]:
            if c["cell_type"] != "code" or _id(c) in LONG:
                continue
            try:
                with contextlib.redirect_stdout(io.StringIO()):
                    exec(compile(c["source"], _id(c) or "cell", "exec"), main.__dict__)
            except Exception:
                failed.add(_id(c))
    finally:
        sys.modules[name] = real
        guard.serve_everybody()
    return frozenset(failed) & all_tests(notebook)


def with_hidden_tests(notebook: Any, source: Any) -> Any:
    """What nbgrader does before it runs a submission: its test cells are the instructor's."""
    notebook = copy.deepcopy(notebook)
    for c in notebook["cells"]:
        if c["metadata"].get("nbgrader", {}).get("locked"):
            c["source"] = cell(source, _id(c))["source"]
    return notebook


def solved(source: Any, release: Any) -> Any:
    """The released notebook with the reference solutions in it."""
    notebook = copy.deepcopy(release)
    answers = {_id(cell): "".join(cell["source"]) for cell in source["cells"] if _id(cell)}
    for cell in notebook["cells"]:
        if cell["metadata"].get("nbgrader", {}).get("solution"):
            cell["source"] = re.sub(
                r"[ \t]*###? ?(BEGIN|END) SOLUTION[ \t]*\n?", "", answers[_id(cell)]
            )
    return notebook


def cell(notebook: Any, name: str) -> Any:
    """The cell called so."""
    (found,) = (c for c in notebook["cells"] if _id(c) == name)
    return found


def with_mistake(perfect: Any, mistake: Mistake) -> Any:
    """A copy with the mistake, which must be possible."""
    notebook = copy.deepcopy(perfect)
    target = cell(notebook, mistake.cell)
    assert mistake.old in target["source"], f"{mistake.name}: the solution has changed"
    target["source"] = target["source"].replace(mistake.old, mistake.new)
    return notebook


def with_answers(perfect: Any, answers: dict[str, str]) -> Any:
    """A copy in which some solution cells are other ones."""
    notebook = copy.deepcopy(perfect)
    for name, text in answers.items():
        cell(notebook, name)["source"] = text
    return notebook


def all_tests(notebook: Any) -> frozenset[str]:
    """The names of all graded code cells."""
    return frozenset(
        _id(c)
        for c in notebook["cells"]
        if c["metadata"].get("nbgrader", {}).get("grade") and c["cell_type"] == "code"
    )


def read(path: Path) -> Any:
    """A notebook as plain values, each source one string."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for c in notebook["cells"]:
        c["source"] = "".join(c["source"])
    return notebook


def hand_in(folder: Path, student: str, assignment: str, notebook: Any) -> None:
    """Writes a submission as a plain folder has it."""
    path = folder / student / f"{assignment}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(notebook), encoding="utf-8")


def _id(c: Any) -> str:
    name: str = c["metadata"].get("nbgrader", {}).get("grade_id", "")
    return name
