"""Right answers as other people would write them."""

# ruff: noqa: E501

from __future__ import annotations

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
        "stage": """
def run_stage(parts, boxes, features, roi):
    third = features.shape[1]
    qkv = parts.qkv(features)
    q, k, v = qkv[:, :third], qkv[:, third : 2 * third], qkv[:, 2 * third :]
    after = parts.norm_attention(torch.add(features, parts.out(attention(q, k, v, parts.heads)[0])))
    after = parts.norm_interaction(torch.add(after, interact(after, roi, parts.interaction)))
    hidden = torch.clamp(parts.ffn_in(after), min=0)
    after = parts.norm_ffn(torch.add(after, parts.ffn_out(hidden)))
    deltas = parts.regress(after)
    return decode_deltas(boxes, deltas), parts.classify(after), after

def chain(stages, boxes, features, outputs=None):
    if not stages:
        return []
    now = stages[0](boxes, features)
    return [now] + chain(stages[1:], now[0].detach(), now[2])
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
