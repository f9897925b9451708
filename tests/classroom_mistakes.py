"""Typical mistakes, and the tests each of them shall cost."""

from __future__ import annotations

from dataclasses import dataclass


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
