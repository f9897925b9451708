"""Careers and verdicts of a detector on a data set: traces, reduced picture by picture."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch

from sparse_rcnn_lab.analysis.career import Careers, career_rows, careers_from
from sparse_rcnn_lab.analysis.experiments.kept import Cache, Job, Part, Tables
from sparse_rcnn_lab.analysis.experiments.passes import found_by, label_map
from sparse_rcnn_lab.analysis.outcomes import THRESHOLD
from sparse_rcnn_lab.analysis.table import Table
from sparse_rcnn_lab.analysis.verdict import Verdicts, verdict_rows, verdicts_from
from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.trace import Trace
from sparse_rcnn_lab.data.sample import DetectionData
from sparse_rcnn_lab.detect.detector import Detector
from sparse_rcnn_lab.detect.ground_truth import with_ground_truth
from sparse_rcnn_lab.training.evaluate import detection_rows, label_category_ids


@torch.inference_mode()
def trace_images(job: Job, images: range) -> tuple[list[Trace], Part]:
    """Traces with ground truth, and the detections of every stage as rows."""
    detector, data = job.detector, job.data
    labels_of = label_map(detector, data)
    samples = [data[i] for i in images]
    ids = [sample.image_id for sample in samples]
    batch = detector.prepare([sample.image for sample in samples])
    boxes, features = detector.model.proposals(batch.sizes)
    runtime = detector.runtime
    outputs = runtime.run_stages(runtime.pyramid(batch.images), boxes, features)
    traces = [
        with_ground_truth(
            detector.to_trace(outputs, boxes, features, batch, i),
            sample.boxes,
            labels_of[sample.labels],
        )
        for i, sample in enumerate(samples)
    ]
    categories = label_category_ids(detector.class_names, data)
    rows = detection_rows(outputs, batch, ids, categories)
    part = {f"rows {stage}": found for stage, found in enumerate(rows, 1)}
    return traces, {"ids": np.array(ids), **part}


def careers(
    detector: Detector,
    data: DetectionData,
    *,
    threshold: float = THRESHOLD,
    limit: int | None = None,
    batch_size: int = 8,
    cache: Cache = None,
    progress: bool = True,
) -> Careers:
    """What each learned proposal does over a data set: where it ends, what it wins, how often it
    idles; see :class:`sparse_rcnn_lab.analysis.career.Careers`.

    threshold: score from which something is a detection.  limit: only the first so many images.
    Raises LabError when data and detector have different classes.
    """
    job = Job("careers", detector, data, limit, {"threshold": threshold}, cache, progress)

    def do(images: range) -> Part:
        traces, _ = trace_images(job, images)
        parts = [
            career_rows(trace, number, threshold)
            for number, trace in zip(images, traces, strict=True)
        ]
        joined = _joined(parts)
        joined["starts"] = parts[0]["starts"]
        return joined

    def finish(parts: list[Part]) -> Tables:
        found = careers_from(parts, detector.class_names, job.about())
        return {"proposals": found.proposals, "ends": found.ends}

    return Careers(**job.run(do, finish, batch_size))


def verdicts(
    detector: Detector,
    data: DetectionData,
    *,
    threshold: float = THRESHOLD,
    limit: int | None = None,
    batch_size: int = 8,
    cache: Cache = None,
    progress: bool = True,
) -> Verdicts:
    """Which stage found each object, improved, lost or duplicated it; errors and AP of each stage;
    the images on which the stages disagree most.

    threshold: score from which something is a detection.  limit: only the first so many images.
    Raises LabError when data and detector have different classes.
    """
    job = Job("verdicts", detector, data, limit, {"threshold": threshold}, cache, progress)

    def do(images: range) -> Part:
        traces, part = trace_images(job, images)
        rows = [verdict_rows(trace, i, threshold) for trace, i in zip(traces, images, strict=True)]
        return {**_joined(rows), **part}

    def finish(parts: list[Part]) -> Tables:
        stats = found_by(job, parts).stats(progress)
        judged = [
            {k: v for k, v in p.items() if k != "ids" and not k.startswith("rows ")} for p in parts
        ]
        found = verdicts_from(judged, detector.class_names, job.about())
        stages = _with_ap(found.stages, [stats[str(s)].AP for s in found.stages["stage"]])
        return {"objects": found.objects, "stages": stages, "images": found.images}

    return Verdicts(**job.run(do, finish, batch_size))


def traces_of(detector: Detector, data: DetectionData, images: Iterable[int]) -> Iterator[Trace]:
    """Traces, with ground truth, of the images with these numbers, in this order.

    Raises LabError when a number is none of an image.
    """
    chosen = check_images(data, images)
    job = Job("traces", detector, data, None, {}, False)
    return (trace_images(job, range(image, image + 1))[0][0] for image in chosen)


def check_images(data: DetectionData, images: Iterable[int]) -> list[int]:
    """Numbers of images as a list. Raises LabError when there are none, or one is out of range."""
    chosen = list(images)
    wrong = [i for i in chosen if not 0 <= i < len(data)]
    if not chosen or wrong:
        raise LabError(f"images must be 0..{len(data) - 1}, found {wrong or 'none'}.")
    return chosen


def _joined(parts: list[Part]) -> Part:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _with_ap(stages: Table, values: list[float]) -> Table:
    columns: dict[str, Any] = {}
    meaning: dict[str, str] = {}
    for name in stages.columns:
        columns[name], meaning[name] = stages[name], stages.meaning[name]
        if name == "stage":
            columns["AP"], meaning["AP"] = values, "COCO AP, 0 to 1"
    return Table(stages.title, columns, meaning, stages.about)
