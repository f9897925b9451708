"""Lens: what is in a stage's features, read with the heads of every stage."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from sparse_rcnn_lab.analysis.experiments.kept import Cache, Job, Part, Tables
from sparse_rcnn_lab.analysis.experiments.passes import detect_with, found_by
from sparse_rcnn_lab.analysis.table import Table
from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core.pooling import Pyramid
from sparse_rcnn_lab.core.stage import Stage, StageOutput
from sparse_rcnn_lab.data.sample import DetectionData
from sparse_rcnn_lab.detect.detector import Detector
from sparse_rcnn_lab.runtime.torch_runtime import Runtime

READINGS = ("both", "class", "place")
MEANING = {
    "features": "stage whose features are read, after it has worked on them",
    "heads": "stage whose heads read them",
    "reading": "class: the class is read with these heads, the box with the stage's own; place: "
    "the box with these, the class with its own; both: both",
    "AP": "COCO AP, 0 to 1",
    "AP50": "AP at IoU 0.5, 0 to 1",
}


def lens(
    detector: Detector,
    data: DetectionData,
    *,
    limit: int | None = None,
    batch_size: int = 8,
    cache: Cache = None,
    progress: bool = True,
) -> Table:
    """AP of each stage's features, read with each stage's heads: an S x S table, three times.

    Boxes are decoded from those that entered the stage whose features are read, the boxes it has
    pooled; so features s with heads s is that stage's own answer. Nothing is trained.
    Raises LabError when data and detector have different classes.
    """
    job = Job("lens", detector, data, limit, {}, cache, progress)
    stages = range(1, detector.num_stages + 1)

    def finish(parts: list[Part]) -> Tables:
        stats = found_by(job, parts).stats(progress)
        rows: list[dict[str, Any]] = []
        for reading in READINGS:
            for s in stages:
                for t in stages:
                    found = stats[key("both" if s == t else reading, s, t)]
                    rows.append(
                        {
                            "features": s,
                            "heads": t,
                            "reading": reading,
                            "AP": found.AP,
                            "AP50": found.AP50,
                        }
                    )
        title = f"{detector.name}: features of a stage read with heads of another, "
        return {"lens": Table.of(f"{title}{job.count} images", rows, MEANING, job.about())}

    return job.run(detect_with(job, [_read]), finish, batch_size)["lens"]


def _read(
    runtime: Runtime, pyramid: Pyramid, boxes: Tensor, features: Tensor
) -> dict[str, StageOutput]:
    own = runtime.run_stages(pyramid, boxes, features)
    found: dict[str, StageOutput] = {}
    for s, output in enumerate(own, 1):
        entered = boxes if s == 1 else own[s - 2].boxes
        for t, stage in enumerate(runtime.model.stages, 1):
            if s == t:
                found[key("both", s, t)] = output
                continue
            assert isinstance(stage, Stage)
            logits = stage.classify(stage.cls_tower(output.features))
            deltas = stage.regress(stage.reg_tower(output.features)).float()
            moved = box_ops.decode_deltas(entered, deltas)
            found[key("both", s, t)] = replace(output, logits=logits, boxes=moved)
            found[key("class", s, t)] = replace(output, logits=logits)
            found[key("place", s, t)] = replace(output, boxes=moved)
    return found


def key(reading: str, features: int, heads: int) -> str:
    """What the detections of one reading are called."""
    return f"{reading} {features} {heads}"
