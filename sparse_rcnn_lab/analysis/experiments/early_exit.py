"""Early exit: easy images stop as soon as their boxes and scores have settled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Unpack

import numpy as np
import torch

from sparse_rcnn_lab.analysis.experiments.cache import CachedRun, Part, RunOptions
from sparse_rcnn_lab.analysis.experiments.trace_dataset import trace_images
from sparse_rcnn_lab.analysis.experiments.variants import Found
from sparse_rcnn_lab.analysis.table import Table
from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.trace import Trace
from sparse_rcnn_lab.data.sample import DetectionData
from sparse_rcnn_lab.detect.detector import Detector

TOLERANCES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
MEANING = {
    "rule": "settled: stop after the first stage that moved no box by more (1 - IoU) and changed "
    "no score by more than the tolerance; always: the same stage for every image",
    "tolerance": "0 to 1; none where the stage is fixed",
    "stages": "stages run, mean over the images",
    "AP": "COCO AP, 0 to 1",
    "AP50": "AP at IoU 0.5, 0 to 1",
    "early": "share of the images that stop before the last stage, 0 to 1",
}


def early_exit(
    detector: Detector,
    data: DetectionData,
    *,
    tolerances: Sequence[float] = TOLERANCES,
    min_score: float = 0.1,
    **options: Unpack[RunOptions],
) -> Table:
    """AP against the mean number of stages, when each image stops as soon as it has settled.

    tolerances: how much a box (1 - IoU) and a score may still change in the stage that becomes the
    last.  min_score: proposals with a lower score before and after do not matter.  The table also
    has, for comparison, the same fixed stage for every image.  options: :class:`RunOptions`.
    Raises LabError when data and detector have different classes, or the model has one stage.

    >>> import sparse_rcnn_lab as srl
    >>> detector, data = srl.load("nano-shapes"), srl.Shapes(2)
    >>> table = early_exit(detector, data, tolerances=[0.3], cache=False, progress=False)
    >>> print(table[["rule", "tolerance", "stages"]].tail(2))
    nano-shapes: early exit, 2 images
              rule tolerance stages
    always stage 6         –  6.000
           settled     0.300  3.000
    """
    if detector.num_stages < 2:
        raise LabError("This model has only one stage, so no image can stop earlier.")
    tried = [float(t) for t in tolerances]
    settings = {"tolerances": tried, "min_score": min_score}
    run = CachedRun("early_exit", detector, data, settings, **options)
    last = detector.num_stages

    def do(images: range) -> Part:
        traces, part = trace_images(detector, data, images)
        change = [[largest_change(t, s, min_score) for s in range(2, last + 1)] for t in traces]
        return {"change": np.array(change), **part}

    def finish(parts: list[Part]) -> Table:
        found = Found.of(run, parts)
        ids = np.concatenate([part["ids"] for part in parts])
        change = np.concatenate([part["change"] for part in parts])  # [images, S-1, 2]
        exits: dict[tuple[str, float | None], np.ndarray] = {
            (f"always stage {s}", None): np.full(len(ids), s) for s in range(1, last + 1)
        }
        exits |= {("settled", t): exit_stages(change, t) for t in tried}
        chosen = replace(
            found, rows={str(rule): _rows_at(found, ids, at) for rule, at in exits.items()}
        )
        rows = [
            {"rule": rule, "tolerance": tolerance, "stages": at.mean(), "early": (at < last).mean()}
            | chosen.ap(str((rule, tolerance)))
            for (rule, tolerance), at in exits.items()
        ]
        title = f"{detector.name}: early exit, {run.count} images"
        return Table.of(title, rows, MEANING, run.about())

    return run.table(do, finish)


def largest_change(trace: Trace, stage: int, min_score: float = 0.1) -> tuple[float, float]:
    """How far the proposals that matter moved from stage ``stage - 1`` to ``stage`` (2..S).

    These are the ones with a best class score of at least ``min_score`` at either stage. Returns
    the largest 1 - IoU between a proposal's two boxes, and the largest change of any of their class
    scores; (0, 0) where no proposal matters. Raises LabError for any other stage, and always for a
    trace with one stage.
    """
    stage = trace.check_stage(stage, 2)
    scores = trace.logits[stage - 2 : stage].sigmoid()  # [2, N, C]
    matter = (scores.amax(-1) >= min_score).any(0)
    if not matter.any():
        return 0.0, 0.0
    before, after = trace.boxes[stage - 1][matter], trace.boxes[stage][matter]
    moved = 1 - box_ops.paired_iou(before, after)
    changed = (scores[1] - scores[0]).abs()[matter]
    # A model that has diverged never settles.
    return float(torch.nan_to_num(moved, nan=1.0).max()), float(changed.nan_to_num(nan=1.0).max())


def exit_stages(change: np.ndarray, tolerance: float) -> np.ndarray:
    """The stage after which each image stops: ``[B, S-1, 2]`` -> ``[B]``, 2..S.

    change: what each stage 2..S changed (boxes, scores), as from :func:`largest_change`.
    """
    quiet = np.asarray((change <= tolerance).all(-1))
    quiet[:, -1] = True  # no image goes beyond the last stage
    return quiet.argmax(1) + 2


def _rows_at(found: Found, ids: np.ndarray, stages: np.ndarray) -> np.ndarray:
    """The detections of each image at its own stage."""
    parts = []
    for stage in np.unique(stages):
        rows = found.rows[str(stage)]
        parts.append(rows[np.isin(rows[:, 0], ids[stages == stage])])
    return np.concatenate(parts)
