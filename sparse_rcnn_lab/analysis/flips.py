"""How stable the assignment of proposals to objects is: from stage to stage, and in training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparse_rcnn_lab.analysis.table import Table
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.trace import Trace

MEANING = {
    "step": "of the training",
    "stage": "1 to S",
    "objects": "objects in these pictures",
    "flipped": "share of them with another proposal than at the snapshot before, 0 to 1; none at "
    "the first (the instability of DN-DETR, 2203.01305)",
    "handed_on": "share of them with another proposal than at the stage before, 0 to 1; none at "
    "stage 1",
}


def proposals_of_objects(trace: Trace) -> Tensor:
    """``[S, M]`` int64: id of the proposal that each object is matched with at each stage, or -1.

    Raises LabError when the trace has no ground truth.
    """
    matches, truth = trace.truth_matches()
    found = torch.full((trace.num_stages, len(truth)), -1, dtype=torch.long)
    stage, row = (matches >= 0).nonzero().unbind(1)
    found[stage, matches[stage, row]] = trace.proposal_ids[row]
    return found


def flips_of(
    traces: Mapping[int, Sequence[Trace]], about: Mapping[str, Any] | None = None
) -> Table:
    """How often matches flip: {step: traces of the same pictures} -> one row a step and stage."""
    if not traces:
        raise LabError("There are no traces to compare.")
    matched = {
        step: torch.cat([proposals_of_objects(trace) for trace in shown], dim=1).numpy()
        for step, shown in sorted(traces.items())
    }
    if len({match.shape for match in matched.values()}) > 1:
        raise LabError("The traces of each step must be of the same pictures and stages.")
    return flip_table(matched, about)


def flip_table(matched: Mapping[int, np.ndarray], about: Mapping[str, Any] | None = None) -> Table:
    """The same from {step: ``[S, M]`` proposal ids}, steps ascending."""
    rows: list[dict[str, Any]] = []
    before: np.ndarray | None = None
    for step, now in matched.items():
        for stage in range(len(now)):
            rows.append(
                {
                    "step": step,
                    "stage": stage + 1,
                    "objects": now.shape[1],
                    "flipped": None if before is None else _share(now[stage] != before[stage]),
                    "handed_on": _share(now[stage] != now[stage - 1]) if stage else None,
                }
            )
        before = now
    return Table.of("How often an object changes its proposal", rows, MEANING, about)


def _share(changed: np.ndarray) -> float | None:
    return float(changed.mean()) if changed.size else None
