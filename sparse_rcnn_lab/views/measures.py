"""The numbers behind the figures: small functions from a trace to tensors, which proposals a figure
shows by default, and what they are called.

Proposals are named by id. NaN in the trace (of a diverged model) stays NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core.errors import LabError, check_stage
from sparse_rcnn_lab.core.trace import Trace
from sparse_rcnn_lab.views import style

FINEST_STRIDE = 4  # pixels of the model's input in a cell of p2; each level doubles it
MOST = 12  # lines and labels that can be told apart
DEFAULT_GRID = 7  # side of the RoI grid where the trace has no RoI features


def need(trace: Trace, *names: str) -> None:
    """Raises LabError, saying how to record them, when the trace lacks one of these fields."""
    lacking = [name for name in names if getattr(trace, name) is None]
    if lacking:
        wanted = ", ".join(f'"{name}"' for name in names) + "," * (len(names) == 1)
        raise LabError(
            f"This trace has no {' and no '.join(lacking)}. Record it with "
            f"detector.trace(image, record=({wanted}))."
        )


def need_image(trace: Trace) -> Tensor:
    """The trace's image. Raises LabError where the trace was saved without it."""
    if trace.image is None:
        raise LabError("This trace was saved without its image, so there is nothing to draw on.")
    return trace.image


def broken(trace: Trace) -> Tensor:
    """``[N]`` bool: whether a proposal has a box, logit or feature that is not finite."""
    parts = (trace.boxes, trace.logits, trace.features)
    bad = [~part.isfinite().all(-1).all(0) for part in parts]
    return torch.stack(bad).any(0)


def score_by_stage(trace: Trace) -> tuple[Tensor, Tensor]:
    """Each proposal's best class at each stage: score ``[S, N]`` 0..1 and label ``[S, N]``."""
    best, labels = trace.logits.max(-1)
    return best.sigmoid(), labels


def centres(trace: Trace) -> Tensor:
    """``[S+1, N, 2]`` box centres (x, y), pixels of the original image: each proposal's trail."""
    return box_ops.xyxy_to_cxcywh(trace.boxes)[..., :2]


def ranked(trace: Trace, count: int | None = None) -> list[int]:
    """The ids of the proposals with the best scores at the last stage, best first."""
    scores = score_by_stage(trace)[0][-1].nan_to_num(nan=-1.0)
    order = scores.argsort(descending=True, stable=True)
    return trace.proposal_ids[order].tolist()[:count]


@dataclass(frozen=True, eq=False)
class Links:
    """The proposals that a proposal attends to, strongest first, without itself.

    proposals: ``[K]`` ids.  weights: ``[K]`` 0..1.  itself: the weight on itself.  rest: the weight
    on all proposals that are not listed.
    """

    proposals: Tensor
    weights: Tensor
    itself: float
    rest: float


def attention_links(
    trace: Trace, proposal: int, stage: int, top: int = 8, head: int | None = None
) -> Links:
    """The ``top`` other proposals that ``proposal`` attends to most at a stage 1..S.

    head: one head (0-based) instead of the mean over all. Raises LabError when attention is not
    recorded, or there is no such head.
    """
    row = trace.row(proposal)
    need(trace, "attention")
    assert trace.attention is not None
    heads = trace.attention[trace.check_stage(stage) - 1, :, row]  # [heads, N]
    head = None if head is None else check_stage(head, len(heads) - 1, 0, "head")
    weights = (heads.mean(0) if head is None else heads[head]).nan_to_num()
    itself = float(weights[row])
    others = weights.clone()
    others[row] = -1.0
    values, order = others.sort(descending=True, stable=True)
    count = min(max(top, 0), trace.num_proposals - 1)
    rest = max(0.0, float(weights.sum()) - itself - float(values[:count].sum()))
    return Links(trace.proposal_ids[order[:count]], values[:count], itself, rest)


@dataclass(frozen=True, eq=False)
class RoiGrid:
    """Where a stage pooled a proposal's RoI, in pixels of the original image.

    box: ``[4]`` xyxy.  edges_x, edges_y: ``[P+1]`` borders of the bins.  samples: ``[P, P, 4, 2]``
    the four points (x, y) that each bin averages.  level: 2..5, the pyramid level that is read.
    cell: (width, height) of one cell of that level.
    """

    box: Tensor
    edges_x: Tensor
    edges_y: Tensor
    samples: Tensor
    level: int
    cell: tuple[float, float]


def roi_grid(trace: Trace, proposal: int, stage: int) -> RoiGrid:
    """The P x P grid that stage 1..S pooled for a proposal, on its box of the state before.

    P is that of the recorded RoI features, or else 7 (RoIAlign, 2x2 samples per bin).
    """
    stage, row = trace.check_stage(stage), trace.row(proposal)
    side = DEFAULT_GRID if trace.roi_features is None else trace.roi_features.shape[2]
    box = trace.boxes[stage - 1, row]
    x1, y1, x2, y2 = box.unbind()
    steps = torch.arange(side + 1) / side
    inner = (torch.arange(2 * side) + 0.5) / (2 * side)
    xs, ys = x1 + inner * (x2 - x1), y1 + inner * (y2 - y1)
    points = torch.stack(torch.meshgrid(xs, ys, indexing="xy"), dim=-1)  # [2P, 2P, 2], rows down
    samples = points.view(side, 2, side, 2, 2).transpose(1, 2).reshape(side, side, 4, 2)
    level = int(trace.fpn_level[stage - 1, row])
    stride = FINEST_STRIDE * 2 ** (level - 2)
    return RoiGrid(
        box,
        x1 + steps * (x2 - x1),
        y1 + steps * (y2 - y1),
        samples,
        level,
        (stride / trace.scale[0], stride / trace.scale[1]),
    )


def filter_effect(trace: Trace, proposal: int, stage: int) -> tuple[Tensor, Tensor]:
    """A proposal's RoI features ``[P, P, D]`` at a stage, before and after its dynamic filters.

    Raises LabError when ``roi_features`` and ``filtered_features`` are not recorded.
    """
    need(trace, "roi_features", "filtered_features")
    assert trace.roi_features is not None and trace.filtered_features is not None
    at = trace.check_stage(stage) - 1, trace.row(proposal)
    return trace.roi_features[at], trace.filtered_features[at]


def contrast(cells: Tensor) -> Tensor:
    """How much each cell stands out: ``[P, P, D]`` -> ``[P, P]``, its distance from the mean cell,
    relative to the largest.
    """
    away = (cells - cells.mean((0, 1))).norm(dim=-1)
    return away / away.max().clamp(min=1e-12)


@dataclass(frozen=True)
class Selection:
    """Proposals (ids) to show, best first, with their rows in the trace and their names
    (:func:`describe`), and a note on those that are not shown.
    """

    proposals: tuple[int, ...]
    rows: list[int]
    texts: list[str]
    note: str


def select(
    trace: Trace,
    proposals: int | Sequence[int] | None,
    threshold: float,
    chosen: int | None = None,
) -> Selection:
    """The given proposals, or else those that end as detections, or else the best three.

    threshold: lowest score of a detection, 0..1.  chosen: a proposal to show with them. Raises
    LabError for a proposal that is not in the trace.
    """
    notes = []
    if proposals is not None:
        try:
            given = torch.as_tensor(proposals).flatten()
        except (TypeError, ValueError, RuntimeError):
            given = torch.zeros(0, dtype=torch.bool)
        if given.dtype == torch.bool:  # a mask would name 0 and 1
            raise LabError(f"Proposals are named by their ids, found {proposals!r}.")
        wanted = list(dict.fromkeys(given.tolist()))
    else:
        found = trace.detections(threshold=threshold).proposals.tolist()
        wanted = list(dict.fromkeys(found))
        if not wanted:
            wanted = ranked(trace, 3)
            notes.append(f"no proposal scores {threshold:g}; the best {len(wanted)} are shown")
        elif len(wanted) > MOST:
            notes.append(f"the best {MOST} of {len(wanted)} detected proposals")
            wanted = wanted[:MOST]
        else:
            notes.append(f"proposals with a final score of at least {threshold:g}")
    if chosen is not None and chosen not in wanted:
        wanted.append(chosen)
        notes += [f"and proposal {chosen}"] if notes else []
    notes.append(broken_note(trace))
    rows = [trace.row(proposal) for proposal in wanted]
    texts = [describe(trace, proposal) for proposal in wanted]
    return Selection(tuple(map(int, wanted)), rows, texts, " · ".join(filter(None, notes)))


def best(trace: Trace) -> int:
    """The proposal with the best final score; one that holds NaN only where all do."""
    whole = ~broken(trace)
    order = ranked(trace)
    return next((proposal for proposal in order if whole[trace.row(proposal)]), order[0])


def broken_note(trace: Trace) -> str:
    """A note when some proposals are NaN and cannot be drawn, else ""."""
    count = int(broken(trace).sum())
    return f"{count} of {trace.num_proposals} proposals hold NaN, not all drawn" if count else ""


def end_color(trace: Trace, proposal: int, chosen: int | None) -> str:
    """The colour of the class that a proposal has at the last stage; the accent when chosen."""
    if proposal == chosen:
        return style.ACCENT
    return style.class_color(int(score_by_stage(trace)[1][-1, trace.row(proposal)]))


def describe(trace: Trace, proposal: int, stage: int | None = None) -> str:
    """A proposal's name: ``17 · dog .91``, with class and score at a stage (default: the last)."""
    stage = trace.check_stage(stage, 0)
    if stage == 0:
        return str(proposal)
    scores, labels = score_by_stage(trace)
    at = stage - 1, trace.row(proposal)
    name = trace.class_names[int(labels[at])]
    return f"{proposal} · {name} {style.score_text(float(scores[at]))}"
