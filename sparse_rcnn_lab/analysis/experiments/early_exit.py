"""Adaptive stop: easy pictures leave early."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sparse_rcnn_lab.analysis.experiments.cache import Cache, Job, Part, Tables
from sparse_rcnn_lab.analysis.experiments.trace_dataset import trace_images
from sparse_rcnn_lab.analysis.experiments.variants import Found, found_by
from sparse_rcnn_lab.analysis.stopping import settled, stop_stages
from sparse_rcnn_lab.analysis.table import Table
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.data.sample import DetectionData
from sparse_rcnn_lab.detect.detector import Detector

TOLERANCES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
MEANING = {
    "rule": "settled: stop after the first stage that moved no box by more (1 - IoU) and changed "
    "no score by more than the tolerance; always: the same stage for every picture",
    "tolerance": "0 to 1; none where the stage is fixed",
    "stages": "stages run, mean over the pictures",
    "AP": "COCO AP, 0 to 1",
    "AP50": "AP at IoU 0.5, 0 to 1",
    "early": "share of the pictures that stop before the last stage, 0 to 1",
}


def adaptive_stop(
    detector: Detector,
    data: DetectionData,
    *,
    tolerances: Sequence[float] = TOLERANCES,
    least: float = 0.1,
    limit: int | None = None,
    batch_size: int = 8,
    cache: Cache = None,
    progress: bool = True,
) -> Table:
    """AP against the mean number of stages, when each picture stops as soon as it has settled.

    tolerances: how much a box (1 - IoU) and a score may still change in the stage that is then the
    last.  least: proposals with a lower score before and after do not matter. Beside it, as the
    yardstick, what stopping every picture at the same stage gives.
    Raises LabError when data and detector have different classes, or the model has one stage.
    """
    if detector.num_stages < 2:
        raise LabError("This model has one stage; there is nothing to stop before.")
    tried = [float(t) for t in tolerances]
    settings = {"tolerances": tried, "least": least}
    job = Job("adaptive_stop", detector, data, limit, settings, cache, progress)
    last = detector.num_stages

    def do(images: range) -> Part:
        traces, part = trace_images(job, images)
        change = [[settled(t, s, least) for s in range(2, last + 1)] for t in traces]
        return {"change": np.array(change), **part}

    def finish(parts: list[Part]) -> Tables:
        found = found_by(job, parts)
        ids = np.concatenate([part["ids"] for part in parts])
        change = np.concatenate([part["change"] for part in parts])  # [images, S-1, 2]
        stops: dict[tuple[str, float | None], np.ndarray] = {
            (f"always stage {s}", None): np.full(len(ids), s) for s in range(1, last + 1)
        }
        stops |= {("settled", t): stop_stages(change, t) for t in tried}
        chosen = {str(rule): _rows_at(found, ids, at) for rule, at in stops.items()}
        stats = Found(chosen, found.truth).stats(progress)
        rows: list[dict[str, Any]] = [
            {
                "rule": rule[0],
                "tolerance": rule[1],
                "stages": float(at.mean()),
                "AP": stats[str(rule)].AP,
                "AP50": stats[str(rule)].AP50,
                "early": float((at < last).mean()),
            }
            for rule, at in stops.items()
        ]
        title = f"{detector.name}: stopping early, {job.count} images"
        return {"stop": Table.of(title, rows, MEANING, job.about())}

    return job.run(do, finish, batch_size)["stop"]


def _rows_at(found: Found, ids: np.ndarray, stages: np.ndarray) -> np.ndarray:
    """The detections of each image at its own stage."""
    parts = []
    for stage in np.unique(stages):
        rows = found.rows[str(stage)]
        parts.append(rows[np.isin(rows[:, 0], ids[stages == stage])])
    return np.concatenate(parts)
