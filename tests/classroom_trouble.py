"""Submissions that do something else than being wrong: they loop, crash, flood, cheat."""

# ruff: noqa: E501

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Trouble:
    """Solution cells that do something else than being wrong, and the note the marks must have."""

    name: str
    cells: dict[str, str]
    lost: frozenset[str]
    note: str = ""


def _t(name: str, cell: str, text: str, lost: str, note: str = "") -> Trouble:
    return Trouble(name, {cell: text}, frozenset(lost.split()), note)


# fmt: off
_GIOU = "giou-inside giou-apart giou-pairs giou-gradient"
_MATCH = "match-one-each match-best match-few match-none match-gradient"
_ATTENTION = "attention-shapes attention-rows attention-one-head attention-heads"
_MODEL = "model-runs model-learns"
_SPREAD = "spread-mean spread-error"
TROUBLE: dict[str, tuple[Trouble, ...]] = {
    "boxes": (
        _t("loop", "giou", "def giou(a, b):\n    while True:\n        pass\n", _GIOU),
        _t("loop-outside", "giou", "while True:\n    pass\n", _GIOU, "stopped after"),
        _t("loop-that-cannot-be-stopped", "giou",
           "while True:\n    try:\n        while True: pass\n    except BaseException: pass\n",
           _GIOU, "stop"),
        _t("crash", "giou", "import os\nos._exit(3)\n", _GIOU, "process ended"),
        _t("crash-when-called", "giou",
           "import os\n\ndef giou(a, b):\n    os._exit(3)\n",
           _GIOU, "process ended"),
        _t("leaves", "giou", "import sys\n\ndef giou(a, b):\n    sys.exit(0)\n", _GIOU),
        _t("flood", "giou", "for _ in range(300):\n    print('x' * 100_000)\n", _GIOU, "printed"),
        _t("answer", "giou", "from sparse_rcnn_lab.core.boxes import giou\n", _GIOU, "own answer"),
        _t("answer-by-another-name", "giou",
           "import torchvision.ops as o\n"
           "\n"
           "def giou(a, b):\n"
           "    return o.generalized_box_iou(a, b)\n",
           _GIOU),
        _t("shadows-the-check", "giou",
           "def giou(a, b):\n    return a\n\ncheck = lambda *a, **k: None\n",
           _GIOU),
        _t("exits", "giou", "exit()\n", _GIOU),
        _t("does-not-parse", "giou", "def giou(a, b)\n    return a\n", _GIOU),
    ),
    "matching": (
        _t("loop", "match", "def match(cost):\n    while True:\n        pass\n", _MATCH),
        _t("crash", "match", "import os\nos._exit(3)\n", _MATCH, "process ended"),
        _t("answer", "match",
           "from sparse_rcnn_lab.core.matching import assign\n"
           "\n"
           "def match(cost):\n"
           "    r, c = assign(cost.detach().numpy())\n"
           "    return torch.tensor(r), torch.tensor(c)\n",
           _MATCH, "own answer"),
    ),
    "stage": (
        _t("loop", "attention",
           "def attention(q, k, v, heads):\n    while True:\n        pass\n",
           _ATTENTION + " " + _MODEL, "stopped after"),
        _t("answer", "interact",
           "from sparse_rcnn_lab.core.stage import DynamicInteraction\n"
           "\n"
           "def interact(features, roi, parts):\n"
           "    own = DynamicInteraction(parts.dim, parts.inner, 2)\n"
           "    own.generate, own.norm_in, own.norm_out = parts.generate, parts.norm_in, parts.norm_out\n"
           "    own.project, own.norm = parts.project, parts.norm\n"
           "    return own(own.generate(features)[None], roi[None])[0]\n",
           _MODEL + " " + "interact-shape interact-relu interact-own interact-values", "own answer"),
    ),
    "experiment": (
        _t("loop", "spread",
           "def spread(values):\n    while True:\n        pass\n",
           _SPREAD, "stopped after"),
        _t("crash", "figure", "import os\nos._exit(3)\n", "", "process ended"),
    ),
}
# fmt: on
