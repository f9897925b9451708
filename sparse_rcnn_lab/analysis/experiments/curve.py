"""AP, time and memory over the two dials: how many proposals, how many stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparse_rcnn_lab.analysis.experiments.cost import costs_of
from sparse_rcnn_lab.analysis.experiments.kept import Cache, Job, Part, Tables
from sparse_rcnn_lab.analysis.experiments.passes import (
    StageRun,
    check_numbers,
    detect_with,
    found_by,
)
from sparse_rcnn_lab.analysis.table import Table
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.pooling import Pyramid
from sparse_rcnn_lab.core.stage import StageOutput
from sparse_rcnn_lab.core.validation import check_stages
from sparse_rcnn_lab.data.sample import DetectionData
from sparse_rcnn_lab.detect.detector import Detector
from sparse_rcnn_lab.runtime.torch_runtime import Runtime

Order = Sequence[int] | Tensor | None

MEANING = {
    "order": "which proposals are kept: the first n of this order",
    "n": "number of proposals",
    "stage": "stage whose answer is taken; later ones do not run",
    "AP": "COCO AP, 0 to 1",
    "AP50": "AP at IoU 0.5, 0 to 1",
    "ms": "milliseconds a picture: backbone, pyramid and stages, one picture at a time",
    "stages_ms": "the part of it that the stages take",
    "mb": "megabytes of tensors alive at once, beyond the weights",
    "stages_mb": "those of the stages alone",
}


def ap_curve(
    detector: Detector,
    data: DetectionData,
    *,
    n: Sequence[int] | None = None,
    stages: Sequence[int] | None = None,
    order: Order | Mapping[str, Order] = None,
    limit: int | None = None,
    batch_size: int = 8,
    cache: Cache = None,
    progress: bool = True,
) -> Table:
    """COCO AP and cost with the first ``n`` proposals and ``stages`` stages.

    n: numbers of proposals; default about eight of 1..N.  stages: 1-based, default all.
    order: ids, best first, as :func:`rank_proposals` gives them; None is the model's own order;
    several orders as {name: ids}.  limit: only the first so many images.  cache: folder for what
    is done (default the user's cache), or False.

    One row an order, number and stage. The full set is one and the same in every order. To set
    separately trained models beside it, add their tables: ``curve + ap_curve(other, data, n=[5])``.
    Raises LabError when data and detector have different classes or a number is out of range.
    """
    numbers, chosen = check_numbers(detector, n), check_stages(stages, detector.num_stages)
    orders = {
        name: check_order(detector, ids, numbers[-1])
        for name, ids in (order if isinstance(order, Mapping) else {_name(order): order}).items()
    }
    settings = {"n": numbers, "stages": chosen, "orders": list(orders.items())}
    job = Job("ap_curve", detector, data, limit, settings, cache, progress, timed=True)
    # A set of proposals answers alike in any order: each set runs once.
    sets = {tuple(sorted(ids[:k])) for ids in orders.values() for k in numbers}
    ways = [_way(ids, chosen) for ids in sorted(sets)]

    def finish(parts: list[Part]) -> Tables:
        found = found_by(job, parts)
        stats = found.stats(progress)
        cost = costs_of(job, {(k, s): _way(range(k), (s,)) for k in numbers for s in chosen})
        rows: list[dict[str, Any]] = [
            {
                "order": name,
                "n": k,
                "stage": stage,
                "AP": stats[_key(ids[:k], stage)].AP,
                "AP50": stats[_key(ids[:k], stage)].AP50,
                **cost[k, stage],
            }
            for name, ids in orders.items()
            for k in numbers
            for stage in chosen
        ]
        title = f"{detector.name}: AP over proposals and stages, {job.count} images"
        return {"curve": Table.of(title, rows, MEANING, job.about())}

    return job.run(detect_with(job, ways), finish, batch_size)["curve"]


def check_order(detector: Detector, ids: Order, least: int = 1) -> list[int]:
    """An order as a list of ids. Raises LabError unless it names ``least`` proposals, each once."""
    most = detector.num_proposals
    if ids is None:
        return list(range(most))
    order = [int(i) for i in np.asarray(ids).ravel()]
    if len(set(order)) != len(order) or not set(order) <= set(range(most)):
        raise LabError(f"An order names each proposal (0..{most - 1}) at most once; found {order}.")
    if len(order) < least:
        raise LabError(f"The order names {len(order)} proposals, but {least} are asked for.")
    return order


def random_orders(detector: Detector, count: int, seed: int = 0) -> dict[str, list[int]]:
    """``count`` random orders of all proposals, named "random 0" and so on: cutting blindly."""
    generator = torch.Generator().manual_seed(seed)
    return {
        f"random {i}": torch.randperm(detector.num_proposals, generator=generator).tolist()
        for i in range(count)
    }


def _name(order: Order) -> str:
    return "own" if order is None else "given"


def _key(ids: Sequence[int], stage: int) -> str:
    return f"{','.join(map(str, sorted(ids)))} stage {stage}"


def _way(ids: Sequence[int], stages: tuple[int, ...]) -> StageRun:
    def run(
        runtime: Runtime, pyramid: Pyramid, boxes: Tensor, features: Tensor
    ) -> dict[str, StageOutput]:
        rows = torch.tensor(list(ids), device=boxes.device)
        outputs = runtime.run_stages(pyramid, boxes[:, rows], features[:, rows], stop=stages[-1])
        return {_key(ids, stage): outputs[stage - 1] for stage in stages}

    return run
