"""Assignment 1 as thirty people might write it: each function in six ways, and three who copied."""

# ruff: noqa: E501

from __future__ import annotations

import ast
import random
import re

# A line "def" begins a writing; what it needs beside the function stands above it.
WRITINGS = {
    "to_cxcywh": """
def to_cxcywh(boxes):
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1], dim=-1)
---
def to_cxcywh(boxes):
    corner, other = boxes[..., :2], boxes[..., 2:]
    return torch.cat([0.5 * (corner + other), other - corner], -1)
---
MATRIX = torch.tensor([[0.5, 0, -1, 0], [0, 0.5, 0, -1], [0.5, 0, 1, 0], [0, 0.5, 0, 1]])
def to_cxcywh(boxes):
    return boxes @ MATRIX
---
def to_cxcywh(boxes):
    w = boxes[..., 2] - boxes[..., 0]
    h = boxes[..., 3] - boxes[..., 1]
    cx = boxes[..., 0] + w / 2
    cy = boxes[..., 1] + h / 2
    return torch.stack((cx, cy, w, h), -1)
---
def to_cxcywh(boxes):
    out = boxes.clone()
    out[..., 2:] = boxes[..., 2:] - boxes[..., :2]
    out[..., :2] = (boxes[..., 2:] + boxes[..., :2]) / 2
    return out
---
def to_cxcywh(boxes):
    points = boxes.unflatten(-1, (2, 2))
    centre = points.mean(-2)
    size = points.diff(dim=-2).squeeze(-2)
    return torch.cat((centre, size), dim=-1)
""",
    "to_xyxy": """
def to_xyxy(boxes):
    cx, cy, w, h = boxes.unbind(-1)
    return torch.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], dim=-1)
---
def to_xyxy(boxes):
    half = boxes[..., 2:] * 0.5
    result = torch.empty_like(boxes)
    result[..., :2] = boxes[..., :2] - half
    result[..., 2:] = boxes[..., :2] + half
    return result
---
def to_xyxy(boxes):
    c, s = boxes.split(2, dim=-1)
    return torch.cat((c - s / 2, c + s / 2), -1)
---
def to_xyxy(boxes):
    x1 = boxes[..., 0] - boxes[..., 2] / 2
    x2 = boxes[..., 0] + boxes[..., 2] / 2
    y1 = boxes[..., 1] - boxes[..., 3] / 2
    y2 = boxes[..., 1] + boxes[..., 3] / 2
    return torch.stack((x1, y1, x2, y2), -1)
---
BACK = torch.tensor([[1, 0, 1, 0], [0, 1, 0, 1], [-0.5, 0, 0.5, 0], [0, -0.5, 0, 0.5]])
def to_xyxy(boxes):
    return torch.matmul(boxes, BACK)
---
def to_xyxy(boxes):
    sign = torch.tensor([-0.5, 0.5])[:, None]
    spread = sign * boxes[..., None, 2:]
    return (boxes[..., None, :2] + spread).flatten(-2)
""",
    "area": """
def area(boxes):
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
---
def area(boxes):
    return (boxes[..., 2:] - boxes[..., :2]).prod(dim=-1)
---
def area(boxes):
    x1, y1, x2, y2 = boxes.unbind(-1)
    return (x2 - x1) * (y2 - y1)
---
def area(boxes):
    w = boxes[..., 2] - boxes[..., 0]
    h = boxes[..., 3] - boxes[..., 1]
    return w * h
---
def area(boxes):
    size = to_cxcywh(boxes)[..., 2:]
    return size[..., 0] * size[..., 1]
---
def area(boxes):
    return torch.prod(boxes[..., 2:] - boxes[..., :2], -1)
""",
    "iou": """
def iou(a, b):
    top_left = torch.maximum(a[:, None, :2], b[None, :, :2])
    bottom_right = torch.minimum(a[:, None, 2:], b[None, :, 2:])
    side = (bottom_right - top_left).clamp(min=0)
    shared = side[..., 0] * side[..., 1]
    union = area(a)[:, None] + area(b)[None] - shared
    return shared / union.clamp(min=1e-6)
---
def both(p, q):
    w = max(0.0, min(p[2], q[2]) - max(p[0], q[0]))
    h = max(0.0, min(p[3], q[3]) - max(p[1], q[1]))
    cut = w * h
    return cut, (p[2] - p[0]) * (p[3] - p[1]) + (q[2] - q[0]) * (q[3] - q[1]) - cut
def iou(a, b):
    table = torch.zeros(len(a), len(b))
    for i, p in enumerate(a.tolist()):
        for j, q in enumerate(b.tolist()):
            cut, union = both(p, q)
            table[i, j] = cut / union if union > 0 else 0.0
    return table
---
def iou(a, b):
    x1 = torch.max(a[:, None, 0], b[:, 0])
    y1 = torch.max(a[:, None, 1], b[:, 1])
    x2 = torch.min(a[:, None, 2], b[:, 2])
    y2 = torch.min(a[:, None, 3], b[:, 3])
    w, h = (x2 - x1).clamp(0), (y2 - y1).clamp(0)
    inter = w * h
    total = area(a).unsqueeze(1) + area(b).unsqueeze(0)
    return inter / (total - inter + 1e-9)
---
def iou(a, b):
    a, b = a.unsqueeze(1), b.unsqueeze(0)
    lo, hi = torch.max(a[..., :2], b[..., :2]), torch.min(a[..., 2:], b[..., 2:])
    inter = torch.relu(hi - lo).prod(-1)
    union = area(a) + area(b) - inter
    return torch.where(union > 0, inter / union, torch.zeros_like(inter))
---
def overlap_1d(lo1, hi1, lo2, hi2):
    return (torch.minimum(hi1[:, None], hi2) - torch.maximum(lo1[:, None], lo2)).clip(0)
def iou(a, b):
    wide = overlap_1d(a[:, 0], a[:, 2], b[:, 0], b[:, 2])
    high = overlap_1d(a[:, 1], a[:, 3], b[:, 1], b[:, 3])
    common = wide * high
    return torch.nan_to_num(common / (area(a)[:, None] + area(b) - common))
---
def iou(a, b):
    rows = []
    for box in a:
        left_top = torch.maximum(box[:2], b[:, :2])
        right_bottom = torch.minimum(box[2:], b[:, 2:])
        edges = right_bottom - left_top
        edges[edges < 0] = 0
        intersection = edges[:, 0] * edges[:, 1]
        rows.append(intersection / (area(box) + area(b) - intersection).clamp(min=1e-8))
    return torch.stack(rows)
""",
    "giou": """
def giou(a, b):
    overlap = iou(a, b)
    total = area(a)[:, None] + area(b)[None]
    union = total / (1 + overlap)
    low = torch.minimum(a[:, None, :2], b[None, :, :2])
    high = torch.maximum(a[:, None, 2:], b[None, :, 2:])
    hull = (high - low).prod(-1)
    return overlap - (hull - union) / hull.clamp(min=1e-6)
---
def giou(a, b):
    a, b = a[:, None], b[None]
    w = (torch.minimum(a[..., 2], b[..., 2]) - torch.maximum(a[..., 0], b[..., 0])).relu()
    h = (torch.minimum(a[..., 3], b[..., 3]) - torch.maximum(a[..., 1], b[..., 1])).relu()
    union = area(a) + area(b) - w * h
    hull = (torch.maximum(a[..., 2], b[..., 2]) - torch.minimum(a[..., 0], b[..., 0])) * (
        torch.maximum(a[..., 3], b[..., 3]) - torch.minimum(a[..., 1], b[..., 1])
    )
    return w * h / union - 1 + union / hull
---
def giou(a, b):
    result = torch.zeros(len(a), len(b))
    for i in range(len(a)):
        for j in range(len(b)):
            around = torch.cat([torch.min(a[i, :2], b[j, :2]), torch.max(a[i, 2:], b[j, 2:])])
            one = iou(a[i : i + 1], b[j : j + 1])[0, 0]
            u = (area(a[i]) + area(b[j])) / (1 + one)
            result[i, j] = one - 1 + u / area(around)
    return result
---
def giou(a, b):
    first, second = a.unsqueeze(1), b.unsqueeze(0)
    enclosing = torch.cat((torch.min(first, second)[..., :2], torch.max(first, second)[..., 2:]), -1)
    c = area(enclosing)
    i = iou(a, b)
    u = (area(first) + area(second)) / (i + 1.0)
    return i - (c - u) / c
---
def hull_of(a, b):
    x1 = torch.min(a[:, None, 0], b[None, :, 0])
    y1 = torch.min(a[:, None, 1], b[None, :, 1])
    x2 = torch.max(a[:, None, 2], b[None, :, 2])
    y2 = torch.max(a[:, None, 3], b[None, :, 3])
    return (x2 - x1) * (y2 - y1)
def giou(a, b):
    h, value = hull_of(a, b), iou(a, b)
    covered = (area(a)[:, None] + area(b)[None, :]) / (1 + value) / h
    return value + covered - 1
---
def giou(a, b):
    pieces = [torch.cat([torch.minimum(p[:2], b[:, :2]), torch.maximum(p[2:], b[:, 2:])], 1) for p in a]
    surround = torch.stack([area(piece) for piece in pieces])
    table = iou(a, b)
    sums = torch.stack([area(p) + area(b) for p in a])
    wasted = surround - sums / (table + 1)
    return table.sub(wasted.div(surround))
""",
    "encode": """
def encode(boxes, targets):
    cx, cy, w, h = to_cxcywh(boxes).unbind(-1)
    tx, ty, tw, th = to_cxcywh(targets).unbind(-1)
    return torch.stack([2 * (tx - cx) / w, 2 * (ty - cy) / h, (tw / w).log(), (th / h).log()], dim=-1)
---
SCALE = torch.tensor([0.5, 0.5, 1.0, 1.0])
def encode(boxes, targets):
    size, size_t = boxes[:, 2:] - boxes[:, :2], targets[:, 2:] - targets[:, :2]
    middle, middle_t = boxes[:, :2] + size / 2, targets[:, :2] + size_t / 2
    return torch.cat([(middle_t - middle) / size, torch.log(size_t / size)], 1) / SCALE
---
def encode(boxes, targets):
    (c, s), (tc, ts) = (to_cxcywh(x).split(2, dim=1) for x in (boxes, targets))
    return torch.hstack([(tc - c) / (0.5 * s), ts.log() - s.log()])
---
def encode(boxes, targets):
    b, t = to_cxcywh(boxes), to_cxcywh(targets)
    d = torch.zeros_like(b)
    d[:, 0] = (t[:, 0] - b[:, 0]) / (0.5 * b[:, 2])
    d[:, 1] = (t[:, 1] - b[:, 1]) / (0.5 * b[:, 3])
    d[:, 2] = torch.log(t[:, 2] / b[:, 2])
    d[:, 3] = torch.log(t[:, 3] / b[:, 3])
    return d
---
def encode(boxes, targets):
    start, goal = to_cxcywh(boxes), to_cxcywh(targets)
    shift = (goal - start)[..., :2] * 2 / start[..., 2:]
    growth = (goal[..., 2:] / start[..., 2:]).log()
    return torch.cat((shift, growth), dim=-1)
---
def encode(boxes, targets):
    rows = []
    for (cx, cy, w, h), (x, y, u, v) in zip(to_cxcywh(boxes), to_cxcywh(targets)):
        rows.append(torch.stack([(x - cx) / w * 2, (y - cy) / h * 2, torch.log(u / w), torch.log(v / h)]))
    return torch.stack(rows)
""",
    "decode": """
def decode(boxes, deltas):
    cx, cy, w, h = to_cxcywh(boxes).unbind(-1)
    dx, dy, dw, dh = deltas.unbind(-1)
    w_new = w * dw.clamp(-LIMIT, LIMIT).exp()
    h_new = h * dh.clamp(-LIMIT, LIMIT).exp()
    return to_xyxy(torch.stack([cx + 0.5 * dx * w, cy + 0.5 * dy * h, w_new, h_new], dim=-1))
---
def decode(boxes, deltas):
    size = boxes[:, 2:] - boxes[:, :2]
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2 + deltas[:, :2] * 0.5 * size
    new = size * torch.exp(torch.clip(deltas[:, 2:], -LIMIT, LIMIT))
    return torch.cat([middle - new / 2, middle + new / 2], 1)
---
def decode(boxes, deltas):
    c, s = to_cxcywh(boxes).split(2, dim=1)
    c = c + deltas[:, :2] / 2 * s
    s = s * deltas[:, 2:].clamp(min=-LIMIT, max=LIMIT).exp()
    return to_xyxy(torch.hstack([c, s]))
---
def decode(boxes, deltas):
    b = to_cxcywh(boxes)
    limited = torch.clamp(deltas[:, 2:], -LIMIT, LIMIT)
    x = b[:, 0] + 0.5 * deltas[:, 0] * b[:, 2]
    y = b[:, 1] + 0.5 * deltas[:, 1] * b[:, 3]
    w = b[:, 2] * torch.exp(limited[:, 0])
    h = b[:, 3] * torch.exp(limited[:, 1])
    return to_xyxy(torch.stack((x, y, w, h), 1))
---
def decode(boxes, deltas):
    old = to_cxcywh(boxes)
    step = deltas[..., :2].mul(0.5).mul(old[..., 2:])
    factor = deltas[..., 2:].clip(-LIMIT, LIMIT).exp()
    return to_xyxy(torch.cat((old[..., :2] + step, old[..., 2:] * factor), dim=-1))
---
def grow(side, delta):
    return side * delta.clamp(max=LIMIT).clamp(min=-LIMIT).exp()
def decode(boxes, deltas):
    x, y, w, h = to_cxcywh(boxes).T
    a, b, c, d = deltas.T
    moved = [x + a * w / 2, y + b * h / 2, grow(w, c), grow(h, d)]
    return to_xyxy(torch.stack(moved).T)
""",
}


def a_class(seed: int, honest: int = 27) -> tuple[dict[str, str], set[tuple[str, str]]]:
    """Code by student, of which the last three copied; the three pairs."""
    dice = random.Random(seed)
    chosen = [
        [dice.choice(ways.split("---\n")).strip() for ways in WRITINGS.values()]
        for _ in range(honest)
    ]
    texts = {f"s{number:02}": "\n\n\n".join(parts) for number, parts in enumerate(chosen)}
    donors = dice.sample(sorted(texts), 3)
    tricks = {"x-renamed": renamed, "x-reordered": reordered, "x-reformatted": reformatted}
    for donor, (name, trick) in zip(donors, tricks.items(), strict=True):
        texts[name] = trick(texts[donor])
    return texts, set(zip(donors, tricks, strict=True))


def renamed(code: str) -> str:
    """Every variable and helper has another name."""
    tree = ast.parse(code)
    names = {
        n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
    }
    names |= {n.arg for n in ast.walk(tree) if isinstance(n, ast.arg)}
    names |= {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)} - WRITINGS.keys()
    new = {name: f"my_{number}_var" for number, name in enumerate(sorted(names))}
    for node in ast.walk(tree):
        for field in ("id", "arg", "name"):
            if not isinstance(node, ast.keyword) and getattr(node, field, None) in new:
                setattr(node, field, new[getattr(node, field)])
    return ast.unparse(tree)


def reordered(code: str) -> str:
    """Functions the other way round; in each, two neighbours that do not mind change places."""
    tree = ast.parse(code)
    for function in tree.body:
        body = getattr(function, "body", [])
        for i in range(len(body) - 2):
            first, second = body[i], body[i + 1]
            if not _stored(first) & _used(second) and isinstance(first, ast.Assign | ast.AugAssign):
                body[i], body[i + 1] = second, first
                break
    tree.body.reverse()
    return ast.unparse(tree)


def _stored(node: ast.AST) -> set[str]:
    return {
        n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
    }


def _used(node: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}


def reformatted(code: str) -> str:
    """Comments, docstrings, types, other spaces, brackets and lines."""
    code = re.sub(
        r"(?m)^def (\w+)\((\w+), (\w+)\):",
        r'def \1(\2: "Tensor", \3: "Tensor") -> "Tensor":\n    """Done by me."""',
        code,
    )
    code = re.sub(r"(?m)^( +)return (.*[^(])$", r"\1# the result\n\1return (\n\1    \2\n\1)", code)
    return code.replace(", ", " ,  ").replace(" = ", "  =  ")
