"""AP, time and memory by the number of proposals and of stages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Unpack

import numpy as np
import torch
from torch import Tensor

from sparse_rcnn_lab.analysis.experiments.cache import CachedRun, RunOptions
from sparse_rcnn_lab.analysis.experiments.running_cost import costs_of
from sparse_rcnn_lab.analysis.experiments.variants import Found, StageInputs, Variant, tabulate
from sparse_rcnn_lab.analysis.table import Table
from sparse_rcnn_lab.core.errors import LabError, check_stages
from sparse_rcnn_lab.core.stage import StageOutput
from sparse_rcnn_lab.data.sample import DetectionData
from sparse_rcnn_lab.detect.detector import Detector

Order = Iterable[int] | Tensor | None

MEANING = {
    "order": "which proposals are kept: the first n of this order",
    "n": "number of proposals",
    "stage": "stage whose answer is taken; later ones do not run",
    "AP": "COCO AP, 0 to 1",
    "AP50": "AP at IoU 0.5, 0 to 1",
    "ms": "milliseconds an image: backbone, pyramid and stages, one image at a time",
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
    **options: Unpack[RunOptions],
) -> Table:
    """COCO AP and cost with the first ``n`` proposals and ``stages`` stages.

    n: numbers of proposals; default: about eight of 1..N.  stages: 1-based, default: all.
    order: ids, best first, as from :func:`rank_proposals`; None is the model's own order; several
    orders are {name: ids}.  options: :class:`RunOptions`.

    There is one row per order, number and stage; all N proposals are the same set in every order.
    To compare with other trained models: ``pandas.concat([curve, ap_curve(other, data, n=[5])])``.
    Raises LabError when data and detector have different classes or a number is out of range.

    >>> import sparse_rcnn_lab as srl
    >>> detector, data = srl.load("nano-shapes"), srl.Shapes(2)
    >>> curve = ap_curve(detector, data, n=[1, 20], stages=[6], cache=False, progress=False)
    >>> print(curve[["order", "n", "stage"]])
    nano-shapes: AP over proposals and stages, 2 images
    order  n stage
      own  1     6
      own 20     6
    """
    numbers, chosen = check_numbers(detector, n), check_stages(stages, detector.num_stages)
    given = order if isinstance(order, Mapping) else {"own" if order is None else "given": order}
    orders = {name: check_order(detector, ids, numbers[-1]) for name, ids in given.items()}
    settings = {"n": numbers, "stages": chosen, "orders": list(orders.items())}
    run = CachedRun("ap_curve", detector, data, settings, **options, timed=True)
    # A set of proposals gives the same result in any order, so each set runs once.
    sets = {tuple(sorted(ids[:k])) for ids in orders.values() for k in numbers}

    def rows(found: Found) -> Iterable[dict[str, Any]]:
        cost = costs_of(run, {(k, s): _variant(range(k), (s,)) for k in numbers for s in chosen})
        return (
            {"order": name, "n": k, "stage": stage, **found.ap(_key(ids[:k], stage))}
            | cost[k, stage]
            for name, ids in orders.items()
            for k in numbers
            for stage in chosen
        )

    variants = [_variant(ids, chosen) for ids in sorted(sets)]
    return tabulate(run, variants, "AP over proposals and stages", MEANING, rows)


def check_numbers(detector: Detector, n: Sequence[int] | None) -> tuple[int, ...]:
    """Numbers of proposals, ascending; by default about eight, evenly spaced on a log scale.

    Raises LabError for more proposals than the model has.
    """
    most = detector.num_proposals
    given = [round(most ** (i / 7)) for i in range(8)] if n is None else n
    chosen = sorted({int(value) for value in given})
    if not chosen or not 1 <= chosen[0] <= chosen[-1] <= most:
        raise LabError(f"The numbers of proposals must be 1..{most}, found {chosen}.")
    return tuple(chosen)


def check_order(detector: Detector, ids: Order, count: int = 1) -> list[int]:
    """An order as a list of ids. Raises LabError unless it names ``count`` proposals, each once."""
    most = detector.num_proposals
    if ids is None:
        return list(range(most))
    order = [int(i) for i in np.asarray(ids).ravel()]
    if len(set(order)) != len(order) or not set(order) <= set(range(most)):
        raise LabError(f"An order names each proposal (0..{most - 1}) at most once; found {order}.")
    if len(order) < count:
        raise LabError(f"The order names {len(order)} proposals, but {count} are needed.")
    return order


def random_orders(detector: Detector, count: int, seed: int = 0) -> dict[str, list[int]]:
    """``count`` random orders of all proposals, named "random 0" and so on, for comparison.

    >>> import sparse_rcnn_lab as srl
    >>> list(random_orders(srl.load("nano-shapes"), 2))
    ['random 0', 'random 1']
    """
    generator = torch.Generator().manual_seed(seed)
    return {
        f"random {i}": torch.randperm(detector.num_proposals, generator=generator).tolist()
        for i in range(count)
    }


def _key(ids: Sequence[int], stage: int) -> str:
    return f"{','.join(map(str, sorted(ids)))} stage {stage}"


def _variant(ids: Sequence[int], stages: tuple[int, ...]) -> Variant:
    def run(images: StageInputs) -> dict[str, StageOutput]:
        outputs = images.of_proposals(list(ids)).run(stop=stages[-1])
        return {_key(ids, stage): outputs[stage - 1] for stage in stages}

    return run
