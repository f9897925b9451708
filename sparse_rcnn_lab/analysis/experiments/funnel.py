"""Funnel: fewer proposals at each stage, the best by score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from sparse_rcnn_lab.analysis.experiments.cost import costs_of
from sparse_rcnn_lab.analysis.experiments.kept import Cache, Job, Part, Tables
from sparse_rcnn_lab.analysis.experiments.passes import StageRun, detect_with, found_by
from sparse_rcnn_lab.analysis.table import Table
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.pooling import Pyramid
from sparse_rcnn_lab.core.stage import StageOutput
from sparse_rcnn_lab.data.sample import DetectionData
from sparse_rcnn_lab.detect.detector import Detector
from sparse_rcnn_lab.runtime.torch_runtime import Runtime

MEANING = {
    "schedule": "proposals that enter each stage, 1 to S; the best by score go on",
    "AP": "COCO AP of the last stage, 0 to 1",
    "AP50": "AP at IoU 0.5, 0 to 1",
    "work": "proposals through stages, relative to all proposals through all stages, 0 to 1",
    "ms": "milliseconds a picture: backbone, pyramid and stages, one picture at a time",
    "stages_ms": "the part of it that the stages take",
    "stages_mb": "megabytes of tensors alive at once in the stages",
}


def usual_schedules(detector: Detector) -> list[tuple[int, ...]]:
    """All proposals all the way; then halves, thirds and tenths from stage 2, 3 and 5 on."""
    n, s = detector.num_proposals, detector.num_stages
    return list(
        dict.fromkeys(
            tuple(max(1, round(n * share(k, s))) for k in range(s))
            for share in (
                lambda k, s: 1.0,
                lambda k, s: 1.0 if k < 2 * s / 3 else 0.5,
                lambda k, s: 1.0 if k < s / 2 else 0.5,
                lambda k, s: 1.0 if k < s / 3 else 0.5,
                lambda k, s: 1.0 if k < s / 3 else 1 / 3,
                lambda k, s: 1.0 if k < s / 3 else 1 / 3 if k < 2 * s / 3 else 0.1,
                lambda k, s: 1.0 if k < 1 else 0.5,
                lambda k, s: 1.0 if k < 1 else 1 / 3,
                lambda k, s: 1.0 if k < 1 else 0.1,
            )
        )
    )


def funnel(
    detector: Detector,
    data: DetectionData,
    *,
    schedules: Sequence[Sequence[int]] | None = None,
    limit: int | None = None,
    batch_size: int = 8,
    cache: Cache = None,
    progress: bool = True,
) -> Table:
    """AP against time when only the best proposals go on from stage to stage.

    schedules: for each the proposals that enter stage 1..S, never more than the stage before:
    ``(300, 300, 100, 100, 30, 30)``; default :func:`usual_schedules`. Who goes on is decided by
    the best class score after each stage. The answer has as many detections as the last stage
    has proposals. Raises LabError when a schedule does not fit the model.
    """
    wanted = schedules or usual_schedules(detector)
    tried = list(dict.fromkeys(check_schedule(detector, schedule) for schedule in wanted))
    job = Job("funnel", detector, data, limit, {"schedules": tried}, cache, progress, timed=True)
    ways = {" ".join(map(str, schedule)): _way(schedule) for schedule in tried}

    def finish(parts: list[Part]) -> Tables:
        stats = found_by(job, parts).stats(progress)
        cost = costs_of(job, ways)
        full = detector.num_proposals * detector.num_stages
        rows: list[dict[str, Any]] = []
        for schedule, name in zip(tried, ways, strict=True):
            rows.append(
                {
                    "schedule": name,
                    "AP": stats[name].AP,
                    "AP50": stats[name].AP50,
                    "work": sum(schedule) / full,
                    **{what: cost[name][what] for what in ("ms", "stages_ms", "stages_mb")},
                }
            )
        title = f"{detector.name}: fewer proposals at each stage, {job.count} images"
        return {"funnel": Table.of(title, rows, MEANING, job.about())}

    return job.run(detect_with(job, list(ways.values())), finish, batch_size)["funnel"]


def check_schedule(detector: Detector, schedule: Sequence[int]) -> tuple[int, ...]:
    """A schedule as a tuple. Raises LabError unless it has S numbers that never rise."""
    numbers = tuple(int(n) for n in schedule)
    most, stages = detector.num_proposals, detector.num_stages
    fits = len(numbers) == stages and numbers[-1] >= 1 and numbers[0] <= most
    if not fits or list(numbers) != sorted(numbers, reverse=True):
        raise LabError(
            f"A funnel needs {stages} numbers of proposals, {most} at most and never rising, as "
            f"{' '.join(map(str, usual_schedules(detector)[-1]))}; found "
            f"{' '.join(map(str, numbers))}."
        )
    return numbers


def _way(schedule: tuple[int, ...]) -> StageRun:
    def run(
        runtime: Runtime, pyramid: Pyramid, boxes: Tensor, features: Tensor
    ) -> Mapping[str, StageOutput]:
        boxes, features = boxes[:, : schedule[0]], features[:, : schedule[0]]
        (output,) = runtime.run_stages(pyramid, boxes, features, stop=1)
        for stage, count in enumerate(schedule[1:], 1):
            best = output.logits.amax(-1).topk(count, dim=1).indices[..., None]  # [B, count, 1]
            boxes = output.boxes.gather(1, best.expand(-1, -1, 4))
            features = output.features.gather(1, best.expand(-1, -1, features.shape[-1]))
            (output,) = runtime.run_stages(pyramid, boxes, features, start=stage, stop=stage + 1)
        return {" ".join(map(str, schedule)): output}

    return run
