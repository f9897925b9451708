"""What each part of a stage is worth: switched off over a whole data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from sparse_rcnn_lab.analysis.duplicates import count_duplicates
from sparse_rcnn_lab.analysis.experiments.kept import Cache, Job, Part, Tables
from sparse_rcnn_lab.analysis.experiments.passes import (
    StageRun,
    detect_with,
    found_by,
)
from sparse_rcnn_lab.analysis.outcomes import THRESHOLD
from sparse_rcnn_lab.analysis.table import Table
from sparse_rcnn_lab.core.ablation import NORMAL, Ablation
from sparse_rcnn_lab.core.pooling import Pyramid
from sparse_rcnn_lab.core.stage import StageOutput
from sparse_rcnn_lab.core.validation import check_stages
from sparse_rcnn_lab.data.sample import DetectionData
from sparse_rcnn_lab.detect.detector import Detector
from sparse_rcnn_lab.runtime.torch_runtime import Runtime

MEANING = {
    "switch": "what is changed in every stage, without training again",
    "stage": "stage whose answer is taken",
    "AP": "COCO AP, 0 to 1",
    "AP50": "AP at IoU 0.5, 0 to 1",
    "cost": "AP lost against the untouched model at the same stage",
    "found": "share of objects with a right detection (IoU 0.5, class), 0 to 1",
    "duplicates": "superfluous detections of an object, for each object found",
    "wrong": "all other wrong detections, for each picture",
}


def usual_switches(detector: Detector) -> dict[str, Ablation]:
    """The untouched model first; then what is asked most often, for this model's heads."""
    heads = detector.config.num_heads
    fewer = {h: Ablation(heads=tuple(range(h))) for h in sorted({heads // 2, 1}, reverse=True)}
    return {
        "untouched": NORMAL,
        "no self-attention": Ablation(self_attention=False),
        **{f"{h} of {heads} heads": s for h, s in fewer.items() if 0 < h < heads},
        "average filters": Ablation(filters="mean"),
        "shuffled filters": Ablation(filters="rolled"),
        "features frozen": Ablation(freeze_features=True),
        "boxes frozen": Ablation(freeze_boxes=True),
    }


def switch_costs(
    detector: Detector,
    data: DetectionData,
    *,
    switches: Mapping[str, Ablation] | None = None,
    stages: Sequence[int] | None = None,
    threshold: float = THRESHOLD,
    limit: int | None = None,
    batch_size: int = 8,
    cache: Cache = None,
    progress: bool = True,
) -> Table:
    """AP and duplicates with parts of every stage switched off, exchanged or frozen.

    switches: {name: what}, the first being the one to compare with; default
    :func:`usual_switches`.  stages: whose answers, default the last alone.  threshold: score from
    which a detection counts as found, duplicate or wrong; AP needs none.
    Raises LabError when data and detector have different classes, or a head does not exist.
    """
    tried = dict(switches or usual_switches(detector))
    last = detector.num_stages
    chosen = check_stages([last] if stages is None else stages, last)
    settings = {
        # Pairs: json forgets which of a mapping's keys came first, and that one is the base.
        "switches": [(name, str(switch)) for name, switch in tried.items()],
        "stages": chosen,
        "threshold": threshold,
    }
    job = Job("switch_costs", detector, data, limit, settings, cache, progress)

    def finish(parts: list[Part]) -> Tables:
        found = found_by(job, parts)
        stats = found.stats(progress)
        first = next(iter(tried))
        rows: list[dict[str, Any]] = [
            {
                "switch": name,
                "stage": stage,
                "AP": stats[f"{name} {stage}"].AP,
                "AP50": stats[f"{name} {stage}"].AP50,
                "cost": stats[f"{first} {stage}"].AP - stats[f"{name} {stage}"].AP,
                **count_duplicates(found.rows[f"{name} {stage}"], found.truth, threshold),
            }
            for name in tried
            for stage in chosen
        ]
        title = f"{detector.name}: what each part is worth, {job.count} images"
        return {"switches": Table.of(title, rows, MEANING, job.about())}

    ways = [_way(name, switch, chosen) for name, switch in tried.items()]
    return job.run(detect_with(job, ways), finish, batch_size)["switches"]


def _way(name: str, switches: Ablation, stages: tuple[int, ...]) -> StageRun:
    def run(
        runtime: Runtime, pyramid: Pyramid, boxes: Tensor, features: Tensor
    ) -> dict[str, StageOutput]:
        outputs = runtime.run_stages(pyramid, boxes, features, stop=stages[-1], ablation=switches)
        return {f"{name} {stage}": outputs[stage - 1] for stage in stages}

    return run
