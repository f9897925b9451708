"""Right answers as other people would write them: full marks.

Assignment -> style -> cell -> text; a cell that a style lacks is the reference's.
"""

# ruff: noqa: E501

from __future__ import annotations

_LOOPS: dict[str, dict[str, str]] = {
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

# Names, types and habits: aliases, lambdas, decorators, classes, annotations, double precision, helpers
# called as the tests' own, globals, prints, early returns, asserts on shapes.
_HABITS: dict[str, dict[str, str]] = {
    "boxes": {
        "formats": """
from typing import Callable
from torch import Tensor

def checked(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def wrapper(*args, **kwargs):
        for argument in args:
            assert argument.shape[-1] == 4, argument.shape
        return function(*args, **kwargs)
    return wrapper

MATRIX = torch.tensor([[0.5, 0, -1, 0], [0, 0.5, 0, -1], [0.5, 0, 1, 0], [0, 0.5, 0, 1]])

@checked
def to_cxcywh(boxes: Tensor) -> Tensor:
    print(boxes.shape)
    return boxes @ MATRIX

to_xyxy = checked(lambda b: b @ MATRIX.inverse())
""",
        "iou": """
def sides(boxes):
    return (boxes[..., 2:] - boxes[..., :2]).clip(0)

def prod(pair):
    return pair[..., 0] * pair[..., 1]

def area(bbox):
    return prod(sides(bbox))

def pull(a, b):
    a, b = a.unsqueeze(1), b.unsqueeze(0)
    lo, hi = torch.max(a[..., :2], b[..., :2]), torch.min(a[..., 2:], b[..., 2:])
    return prod(sides(torch.cat([lo, hi], -1)))

def my_iou(a, b):
    inter = pull(a, b)
    total = area(a).reshape(-1, 1) + area(b).reshape(1, -1) - inter
    return torch.where(total > 0, inter / torch.where(total > 0, total, 1), 0)

iou = my_iou
check = "a name of mine"
""",
        "giou": """
class Giou:
    def __call__(self, first, second):
        pairs = [(p, q) for p in first for q in second]
        if not pairs:
            return torch.zeros(len(first), len(second))
        return torch.stack([self.one(p, q) for p, q in pairs]).view(len(first), len(second))

    def one(self, p, q):
        hull = (max(p[2], q[2]) - min(p[0], q[0])) * (max(p[3], q[3]) - min(p[1], q[1]))
        w, h = min(p[2], q[2]) - max(p[0], q[0]), min(p[3], q[3]) - max(p[1], q[1])
        cut = w * h if w > 0 and h > 0 else 0.0 * (w + h)
        union = (p[2] - p[0]) * (p[3] - p[1]) + (q[2] - q[0]) * (q[3] - q[1]) - cut
        return cut / union - (hull - union) / hull

giou = Giou()
""",
        "deltas": """
def encode(boxes, targets):
    (c, s), (tc, ts) = (to_cxcywh(x).double().split(2, dim=1) for x in (boxes, targets))
    return torch.hstack([(tc - c) / (0.5 * s), ts.log() - s.log()])

def decode(boxes, deltas):
    c, s = to_cxcywh(boxes).split(2, dim=1)
    c = c + deltas[:, :2] / 2 * s
    s = s * deltas[:, 2:].clamp(min=-LIMIT, max=LIMIT).exp()
    return to_xyxy(torch.hstack([c, s]))
""",
    },
    "matching": {
        "class-cost": """
eps = 1e-12
def class_cost(logits, labels):
    p = 1 / (1 + torch.exp(-logits.double()))
    table = 0.25 * (1 - p) ** 2 * -torch.log(p + eps) - 0.75 * p**2 * -torch.log(1 - p + eps)
    return torch.stack([table[:, label] for label in labels], dim=1).float()
""",
        "box-cost": """
def box_cost(boxes, truth, size):
    scale = torch.as_tensor([size[1], size[0]] * 2, dtype=torch.float32)
    return (boxes[:, None] / scale - truth[None] / scale).abs().sum(dim=2)

def total_cost(logits, boxes, labels, truth, size):
    return torch.einsum(
        "k,knm->nm",
        torch.tensor([2.0, 5.0, -2.0]),
        torch.stack([class_cost(logits, labels), box_cost(boxes, truth, size), giou(boxes, truth)]),
    )
""",
        "match": """
import scipy.optimize as so
import numpy as np

def match(cost):
    with torch.no_grad():
        array = np.array(cost.tolist()).reshape(cost.shape)
    found = sorted(zip(*so.linear_sum_assignment(array)), reverse=True)
    return (
        torch.tensor([int(p) for p, _ in found], dtype=torch.long),
        torch.tensor([int(o) for _, o in found], dtype=torch.long),
    )
""",
        "losses": """
def focal_loss(logits, targets, alpha=0.25, gamma=2):
    p = logits.sigmoid()
    pt = p * targets + (1 - p) * (1 - targets)
    at = alpha * targets + (1 - alpha) * (1 - targets)
    return -at * (1 - pt) ** gamma * torch.log(pt + 1e-12)

def box_losses(predicted, truth, size):
    if len(predicted) == 0:
        return predicted.sum() * 0, predicted.sum() * 0
    l1 = sum(((predicted - truth)[:, i] / size[(i + 1) % 2]).abs().sum() for i in range(4))
    return l1, len(predicted) - torch.trace(giou(predicted, truth))
""",
        "set-loss": """
def set_loss(logits, boxes, labels, truth, size, proposals, objects):
    pairs = dict(zip(proposals.tolist(), labels[objects].tolist()))
    hot = torch.tensor([[float(pairs.get(n) == c) for c in range(logits.shape[1])] for n in range(len(logits))])
    k = float(len(pairs)) or 1.0
    l1, g = box_losses(boxes.index_select(0, proposals), truth.index_select(0, objects), size)
    return dict(cls=focal_loss(logits, hot).sum().mul(2 / k), l1=l1 * 5 / k, giou=g * 2 / k)
""",
    },
    "stage": {
        "level": """
import numpy as np

def level_of(boxes):
    w, h = (boxes[:, 2] - boxes[:, 0]).numpy(), (boxes[:, 3] - boxes[:, 1]).numpy()
    return torch.from_numpy(np.floor(np.log2(np.sqrt(w * h) / 56)).clip(0, 3).astype(np.int64))
""",
        "roi": """
def bilinear(features, x, y):
    d, h, w = features.shape
    # a tent over every pixel: all of them at once
    tx = (1 - (x[:, None] - torch.arange(w)).abs()).clamp(min=0)
    ty = (1 - (y[:, None] - torch.arange(h)).abs()).clamp(min=0)
    return torch.einsum("dhw,kh,kw->kd", features, ty, tx)

def roi_feature(features, box, stride, side):
    d, h, w = features.shape
    x1, y1, x2, y2 = (box / stride).tolist()
    points = [
        (
            min(max(x1 + (i % side + 0.5) * (x2 - x1) / side - 0.5, 0), w - 1),
            min(max(y1 + (i // side + 0.5) * (y2 - y1) / side - 0.5, 0), h - 1),
        )
        for i in range(side * side)
    ]
    x, y = torch.tensor(points).T
    return bilinear(features, x, y)
""",
        "attention": """
import torch.nn.functional as F

def attention(q, k, v, heads):
    n, d = q.shape
    split = lambda t: t.reshape(n, heads, -1).permute(1, 0, 2)
    q, k, v = split(q), split(k), split(v)
    scores = torch.bmm(q, k.mT) / (d / heads) ** 0.5
    scores = scores - scores.amax(-1, keepdim=True)
    weights = scores.exp() / scores.exp().sum(-1, keepdim=True)
    return F.scaled_dot_product_attention(q, k, v).permute(1, 0, 2).flatten(1), weights
""",
        "interact": """
def interact(features, roi, parts):
    n, d, inner = len(features), parts.dim, parts.inner
    numbers = parts.generate(features)
    w1, w2 = numbers[:, : d * inner].view(n, d, inner), numbers[:, d * inner :].view(n, inner, d)
    for w, norm in ((w1, parts.norm_in), (w2, parts.norm_out)):
        roi = torch.nn.functional.relu(norm(torch.einsum("npa,nab->npb", roi, w)))
    return parts.norm(parts.project(roi.reshape(n, -1))).clamp(min=0)
""",
        "stage": """
def run_stage(parts, boxes, features, roi):
    def add(norm, x, y):
        return norm(x + y)
    mixed, _ = attention(*parts.qkv(features).tensor_split(3, dim=1), parts.heads)
    x = add(parts.norm_attention, features, parts.out(mixed))
    x = add(parts.norm_interaction, x, interact(x, roi, parts.interaction))
    x = add(parts.norm_ffn, x, parts.ffn_out(torch.relu(parts.ffn_in(x))))
    logits, deltas = parts.classify(x), parts.regress(x)
    return decode_deltas(boxes, deltas), logits, x

def chain(stages, boxes, features):
    outputs = [stages[0](boxes, features)]
    for toy in stages[1:]:
        with torch.no_grad():
            boxes = outputs[-1][0].clone()
        outputs += [toy(boxes, outputs[-1][2])]
    return outputs
""",
    },
    "experiment": {
        "measure": """
from functools import lru_cache

@lru_cache(None)
def evaluated(detector, data, proposals):
    return srl.evaluate(detector, data, num_proposals=proposals, progress=False)

def measure(detector, data, stage, proposals):
    found = evaluated(detector, data, proposals)
    return dict(zip(found.stages, found.per_stage))[stage].to_dict()["AP"]
""",
        "spread": """
import statistics

def spread(values):
    return statistics.fmean(values), statistics.stdev(values) / len(values) ** 0.5
""",
        "compare": """
import pandas as pd

def compare(a, b):
    gained = pd.Series(b) - pd.Series(a)
    return gained.mean(), gained.sem()
""",
        "own-run": """
parts = {"with": srl.Ablation(), "without": srl.Ablation(self_attention=False)}
results = []
for attention in parts:
    for n in (5, 20):
        ap = [
            srl.evaluate(
                detector, practice.shapes("val", seed=g), stages=[6], num_proposals=n,
                ablation=parts[attention], progress=False,
            ).per_stage[0].AP
            for g in (1, 2, 3)
        ]
        results.append({"self-attention": attention, "proposals": n, "stage": 6, "ap": ap})
""",
    },
}
STYLES: dict[str, dict[str, dict[str, str]]] = {
    name: {"loops": _LOOPS[name], "habits": _HABITS[name]} for name in _LOOPS
}
