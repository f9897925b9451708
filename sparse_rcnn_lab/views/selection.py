"""Which proposals a figure shows when nobody says, and what they are called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from sparse_rcnn_lab.core.trace import Trace
from sparse_rcnn_lab.views import style
from sparse_rcnn_lab.views.measures import broken, ranked, score_by_stage

MOST = 12  # lines and labels that can be told apart


@dataclass(frozen=True)
class Selection:
    """Proposals (ids) to show, best first, and a sentence about those that are not."""

    proposals: tuple[int, ...]
    note: str


def select(
    trace: Trace, proposals: int | Sequence[int] | None, threshold: float, most: int = MOST
) -> Selection:
    """The proposals asked for; else those that end as detections; without any, the best three.

    threshold: least score of a detection, 0..1.  most: how many are shown at most when nobody
    asked for certain ones. Raises LabError for a proposal that is not in the trace.
    """
    notes = []
    if proposals is not None:
        wanted = list(dict.fromkeys(torch.as_tensor(proposals).flatten().tolist()))
        for proposal in wanted:
            trace.row(proposal)
    else:
        found = trace.detections(threshold=threshold).proposals.tolist()
        wanted = list(dict.fromkeys(found))
        if not wanted:
            wanted = ranked(trace, 3)
            notes.append(f"no proposal scores {threshold:g}; the best {len(wanted)} are shown")
        elif len(wanted) > most:
            notes.append(f"the best {most} of {len(wanted)} detected proposals")
            wanted = wanted[:most]
        else:
            notes.append(f"proposals with a final score of at least {threshold:g}")
    notes += broken_note(trace)
    return Selection(tuple(int(p) for p in wanted), " · ".join(notes))


def best(trace: Trace) -> int:
    """The proposal with the best final score; of those that are numbers, where there are any."""
    whole = ~broken(trace)
    order = ranked(trace)
    return next((proposal for proposal in order if whole[trace.row(proposal)]), order[0])


def broken_note(trace: Trace) -> list[str]:
    """One sentence when some proposals are not numbers and cannot be drawn, else none."""
    count = int(broken(trace).sum())
    if not count:
        return []
    return [f"{count} of {trace.num_proposals} proposals hold NaN, not all drawn"]


def final_label(trace: Trace, proposal: int) -> int:
    """The class a proposal has at the last stage."""
    return int(score_by_stage(trace)[1][-1, trace.row(proposal)])


def describe(trace: Trace, proposal: int, stage: int | None = None) -> str:
    """A proposal's name: ``17 · dog .91``, with class and score at a stage (default the last)."""
    stage = trace.check_stage(stage, 0)
    if stage == 0:
        return str(proposal)
    scores, labels = score_by_stage(trace)
    at = stage - 1, trace.row(proposal)
    name = trace.class_names[int(labels[at])]
    return f"{proposal} · {name} {style.score_text(float(scores[at]))}"
