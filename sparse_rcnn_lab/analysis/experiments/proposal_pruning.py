"""Proposal pruning: only the proposals with the best scores go on to the next stage."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Unpack

from sparse_rcnn_lab.analysis.experiments.cache import CachedRun, RunOptions
from sparse_rcnn_lab.analysis.experiments.running_cost import costs_of
from sparse_rcnn_lab.analysis.experiments.variants import Found, StageInputs, Variant, tabulate
from sparse_rcnn_lab.analysis.table import Table
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.stage import StageOutput
from sparse_rcnn_lab.data.sample import DetectionData
from sparse_rcnn_lab.detect.detector import Detector

MEANING = {
    "schedule": "proposals that enter each stage, 1 to S; the best by score go on",
    "AP": "COCO AP of the last stage, 0 to 1",
    "AP50": "AP at IoU 0.5, 0 to 1",
    "work": "proposals through stages, relative to all proposals through all stages, 0 to 1",
    "ms": "milliseconds an image: backbone, pyramid and stages, one image at a time",
    "stages_ms": "the part of it that the stages take",
    "stages_mb": "megabytes of tensors alive at once in the stages",
}


def usual_schedules(detector: Detector) -> list[tuple[int, ...]]:
    """All proposals at all stages; then halves, thirds and tenths from stages 2, 3 and 5 on.

    >>> import sparse_rcnn_lab as srl
    >>> usual_schedules(srl.load("nano-shapes"))[1]
    (20, 20, 20, 20, 10, 10)
    """
    n, s = detector.num_proposals, detector.num_stages
    shares: tuple[Callable[[int], float], ...] = (
        lambda k: 1,
        lambda k: 1 if k < 2 * s / 3 else 1 / 2,
        lambda k: 1 if k < s / 2 else 1 / 2,
        lambda k: 1 if k < s / 3 else 1 / 2,
        lambda k: 1 if k < s / 3 else 1 / 3,
        lambda k: 1 if k < s / 3 else 1 / 3 if k < 2 * s / 3 else 1 / 10,
        lambda k: 1 if k < 1 else 1 / 2,
        lambda k: 1 if k < 1 else 1 / 3,
        lambda k: 1 if k < 1 else 1 / 10,
    )
    schedules = [tuple(max(1, round(n * share(k))) for k in range(s)) for share in shares]
    return list(dict.fromkeys(schedules))


def proposal_pruning(
    detector: Detector,
    data: DetectionData,
    *,
    schedules: Sequence[Sequence[int]] | None = None,
    **options: Unpack[RunOptions],
) -> Table:
    """AP against time when only the best proposals go on from stage to stage.

    schedules: each has the numbers of proposals that enter stages 1..S, never more than before, as
    in ``(300, 300, 100, 100, 30, 30)``; default: :func:`usual_schedules`. The best class score
    after each stage decides which go on. There are as many detections as the last stage has
    proposals. options: :class:`RunOptions`. Raises LabError when a schedule does not fit.

    >>> import sparse_rcnn_lab as srl
    >>> detector, data = srl.load("nano-shapes"), srl.Shapes(2)
    >>> tried = [(20, 20, 10, 10, 10, 10)]
    >>> table = proposal_pruning(detector, data, schedules=tried, cache=False, progress=False)
    >>> table.work.round(3).tolist()
    [0.667]
    """
    wanted = schedules or usual_schedules(detector)
    tried = list(dict.fromkeys(check_schedule(detector, schedule) for schedule in wanted))
    settings = {"schedules": tried}
    run = CachedRun("proposal_pruning", detector, data, settings, **options, timed=True)
    variants = {" ".join(map(str, schedule)): _variant(schedule) for schedule in tried}
    full = detector.num_proposals * detector.num_stages

    def rows(found: Found) -> Iterable[dict[str, Any]]:
        cost = costs_of(run, variants)
        return (
            {"schedule": name, **found.ap(name), "work": sum(schedule) / full, **cost[name]}
            for schedule, name in zip(tried, variants, strict=True)
        )

    return tabulate(run, variants.values(), "fewer proposals at each stage", MEANING, rows)


def check_schedule(detector: Detector, schedule: Sequence[int]) -> tuple[int, ...]:
    """A schedule as a tuple. Raises LabError unless it has S numbers that never rise."""
    numbers = tuple(int(n) for n in schedule)
    most, stages = detector.num_proposals, detector.num_stages
    fits = len(numbers) == stages and numbers[-1] >= 1 and numbers[0] <= most
    if not fits or list(numbers) != sorted(numbers, reverse=True):
        raise LabError(
            f"A schedule needs {stages} numbers of proposals, {most} at most and never rising, as "
            f"{' '.join(map(str, usual_schedules(detector)[-1]))}; found "
            f"{' '.join(map(str, numbers))}."
        )
    return numbers


def _variant(schedule: tuple[int, ...]) -> Variant:
    def run(images: StageInputs) -> dict[str, StageOutput]:
        images = images.of_proposals(slice(schedule[0]))
        (output,) = images.run(stop=1)
        for stage, count in enumerate(schedule[1:], 1):
            best = output.logits.amax(-1).topk(count, dim=1).indices[..., None]  # [B, count, 1]
            boxes, features = (
                state.gather(1, best.expand(-1, -1, state.shape[-1]))
                for state in (output.boxes, output.features)
            )
            images = replace(images, boxes=boxes, features=features)
            (output,) = images.run(start=stage, stop=stage + 1)
        return {" ".join(map(str, schedule)): output}

    return run
