"""Adaptive stop: when have the boxes and scores of a picture settled?"""

from __future__ import annotations

import numpy as np
import torch

from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core.trace import Trace


def settled(trace: Trace, stage: int, least: float = 0.1) -> tuple[float, float]:
    """How far the proposals that matter moved from stage ``stage - 1`` to ``stage`` (2..S).

    Those with a best class score of at least ``least`` at either stage. Gives the largest
    1 - IoU between a proposal's two boxes, and the largest change of any of their class scores;
    (0, 0) where no proposal matters. Raises LabError for any other stage, and for all of a trace
    of one stage.
    """
    stage = trace.check_stage(stage, 2)
    scores = trace.logits[stage - 2 : stage].sigmoid()  # [2, N, C]
    matter = (scores.amax(-1) >= least).any(0)
    if not matter.any():
        return 0.0, 0.0
    before, after = trace.boxes[stage - 1][matter], trace.boxes[stage][matter]
    moved = 1 - box_ops.paired_iou(before, after)
    changed = (scores[1] - scores[0]).abs()[matter]
    # A model that has diverged never settles.
    return float(torch.nan_to_num(moved, nan=1.0).max()), float(changed.nan_to_num(nan=1.0).max())


def stop_stages(change: np.ndarray, tolerance: float) -> np.ndarray:
    """The stage after which each picture stops: ``[P, S-1, 2]`` -> ``[P]``, 2..S; 1 where S is 1.

    change: what each stage 2..S changed (boxes, scores), as :func:`settled` says. It is the first
    that changed neither by more than ``tolerance``; else the last.
    """
    quiet = np.asarray((change <= tolerance).all(-1))
    if quiet.shape[1] == 0:
        return np.ones(len(quiet), dtype=int)
    quiet[:, -1] = True  # the last stage ends it anyway
    return quiet.argmax(1) + 2


def stop_stage(trace: Trace, tolerance: float, least: float = 0.1) -> int:
    """The stage after which this picture would stop, as :func:`stop_stages` says."""
    change = [settled(trace, stage, least) for stage in range(2, trace.num_stages + 1)]
    return int(stop_stages(np.reshape(change, (1, -1, 2)), tolerance)[0])
