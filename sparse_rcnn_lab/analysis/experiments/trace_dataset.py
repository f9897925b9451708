"""Analyses of a data set's traces: what each proposal does, and the outcome of each object."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Unpack

import numpy as np
import torch

from sparse_rcnn_lab.analysis.detection_errors import THRESHOLD
from sparse_rcnn_lab.analysis.experiments.cache import CachedRun, Part, RunOptions, Tables
from sparse_rcnn_lab.analysis.experiments.variants import Found, StageInputs
from sparse_rcnn_lab.analysis.outcomes import ObjectOutcomes, outcome_rows, outcomes_from
from sparse_rcnn_lab.analysis.statistics import (
    ProposalStatistics,
    statistics_from,
    statistics_rows,
)
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.trace import Trace
from sparse_rcnn_lab.data.sample import DetectionData
from sparse_rcnn_lab.detect.detector import Detector
from sparse_rcnn_lab.detect.ground_truth import with_ground_truth


@torch.inference_mode()
def trace_images(
    detector: Detector, data: DetectionData, images: Iterable[int]
) -> tuple[list[Trace], Part]:
    """Traces with ground truth, the ``ids`` of the images, and each stage's detections as rows."""
    inputs = StageInputs.of(detector, data, images)
    outputs = inputs.run()
    traces = [
        with_ground_truth(
            detector.to_trace(outputs, inputs.boxes, inputs.features, inputs.batch, i), *truth
        )
        for i, truth in enumerate(inputs.truth)
    ]
    rows = inputs.rows({str(stage): output for stage, output in enumerate(outputs, 1)})
    return traces, {"ids": np.array(inputs.ids), **rows}


def proposal_statistics(
    detector: Detector,
    data: DetectionData,
    *,
    threshold: float = THRESHOLD,
    **options: Unpack[RunOptions],
) -> ProposalStatistics:
    """What each learned proposal does over a data set: where its detections are, how often it wins
    an object, how often it is idle; see :class:`ProposalStatistics`.

    threshold: lowest score of a detection.  options: :class:`RunOptions`.
    Raises LabError when data and detector have different classes.

    >>> import sparse_rcnn_lab as srl
    >>> detector, data = srl.load("nano-shapes"), srl.Shapes(4)
    >>> found = proposal_statistics(detector, data, cache=False, progress=False)
    >>> int(found.proposals.wins.sum()), int(found.detections.right.sum())
    (7, 7)
    """
    settings = {"threshold": threshold}
    run = CachedRun("proposal_statistics", detector, data, settings, **options)

    def do(images: range) -> Part:
        traces, _ = trace_images(detector, data, images)
        pairs = zip(traces, images, strict=True)
        parts = [statistics_rows(trace, image, threshold) for trace, image in pairs]
        return {**_joined(parts), "starts": parts[0]["starts"]}

    def finish(parts: list[Part]) -> Tables:
        return vars(statistics_from(parts, detector.class_names, run.about()))

    return ProposalStatistics(**run.tables(do, finish))


def object_outcomes(
    detector: Detector,
    data: DetectionData,
    *,
    threshold: float = THRESHOLD,
    **options: Unpack[RunOptions],
) -> ObjectOutcomes:
    """Which stage found, improved, lost or duplicated each object; errors and AP of each stage; the
    images on which the stages disagree most.

    threshold: lowest score of a detection.  options: :class:`RunOptions`.
    Raises LabError when data and detector have different classes.

    >>> import sparse_rcnn_lab as srl
    >>> detector, data = srl.load("nano-shapes"), srl.Shapes(4)
    >>> found = object_outcomes(detector, data, cache=False, progress=False)
    >>> len(found.objects), sorted(set(found.objects.outcome))
    (7, ['improved', 'kept'])
    """
    run = CachedRun("object_outcomes", detector, data, {"threshold": threshold}, **options)

    def do(images: range) -> Part:
        traces, rows = trace_images(detector, data, images)
        pairs = zip(traces, images, strict=True)
        return {**_joined([outcome_rows(trace, i, threshold) for trace, i in pairs]), **rows}

    def finish(parts: list[Part]) -> Tables:
        stats = Found.of(run, parts).stats
        ap = [stats[str(stage)].AP for stage in range(1, detector.num_stages + 1)]
        return vars(outcomes_from(parts, detector.class_names, run.about(), ap))

    return ObjectOutcomes(**run.tables(do, finish))


def traces_of(detector: Detector, data: DetectionData, images: Iterable[int]) -> Iterator[Trace]:
    """Traces, with ground truth, of the images with these numbers, in this order.

    Raises LabError when there is no image with such a number.

    >>> import sparse_rcnn_lab as srl
    >>> [trace.size for trace in traces_of(srl.load("nano-shapes"), srl.Shapes(9), [7, 2])]
    [(128, 128), (128, 128)]
    """
    chosen = check_images(data, images)
    return (trace_images(detector, data, [image])[0][0] for image in chosen)


def check_images(data: DetectionData, images: Iterable[int]) -> list[int]:
    """Image numbers as a list. Raises LabError when there are none, or one is out of range."""
    chosen = [int(image) for image in images]
    wrong = [i for i in chosen if not 0 <= i < len(data)]
    if not chosen or wrong:
        raise LabError(f"images must be 0..{len(data) - 1}, found {wrong or 'none'}.")
    return chosen


def _joined(parts: list[Part]) -> Part:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
