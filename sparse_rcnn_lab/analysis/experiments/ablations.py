"""What each part of a stage contributes, measured by switching it off over a whole data set."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Unpack

import numpy as np
import torch

from sparse_rcnn_lab.analysis.detection_errors import RIGHT_IOU, THRESHOLD
from sparse_rcnn_lab.analysis.experiments.cache import CachedRun, RunOptions
from sparse_rcnn_lab.analysis.experiments.variants import Found, StageInputs, Variant, tabulate
from sparse_rcnn_lab.analysis.table import Table
from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core.errors import check_stages
from sparse_rcnn_lab.core.stage import NORMAL, Ablation, StageOutput
from sparse_rcnn_lab.data.sample import DetectionData
from sparse_rcnn_lab.detect.detector import Detector

MEANING = {
    "ablation": "what is changed in every stage, without training again",
    "stage": "stage whose answer is taken",
    "AP": "COCO AP, 0 to 1",
    "AP50": "AP at IoU 0.5, 0 to 1",
    "cost": "AP lost against the untouched model at the same stage",
    "found": "share of objects with a right detection (IoU 0.5, class), 0 to 1",
    "duplicates": "superfluous detections of an object, for each object found",
    "wrong": "all other wrong detections, for each image",
}


def usual_ablations(detector: Detector) -> dict[str, Ablation]:
    """The untouched model first, then the most common ablations, for this model's heads.

    >>> import sparse_rcnn_lab as srl
    >>> list(usual_ablations(srl.load("nano-shapes")))[:4]
    ['untouched', 'no self-attention', '2 of 4 heads', '1 of 4 heads']
    """
    heads = detector.config.num_heads
    fewer = {h: Ablation(heads=tuple(range(h))) for h in sorted({heads // 2, 1}, reverse=True)}
    unbiased = {"no overlap bias": Ablation(overlap_bias=False)}
    return {
        "untouched": NORMAL,
        "no self-attention": Ablation(self_attention=False),
        **{f"{h} of {heads} heads": a for h, a in fewer.items() if 0 < h < heads},
        **(unbiased if detector.config.overlap_attention else {}),
        "average filters": Ablation(filters="mean"),
        "shuffled filters": Ablation(filters="rolled"),
        "features frozen": Ablation(freeze_features=True),
        "boxes frozen": Ablation(freeze_boxes=True),
    }


def ablation_costs(
    detector: Detector,
    data: DetectionData,
    *,
    ablations: Mapping[str, Ablation] | None = None,
    stages: Sequence[int] | None = None,
    threshold: float = THRESHOLD,
    **options: Unpack[RunOptions],
) -> Table:
    """AP and duplicates with parts of every stage switched off, exchanged or frozen.

    ablations: {name: ablation}, the first of which is the baseline; default:
    :func:`usual_ablations`.  stages: the stages whose detections are measured; default: only the
    last.  threshold: lowest score of a detection that counts as found, duplicate or wrong; AP has
    no threshold.  options: :class:`RunOptions`.
    Raises LabError when data and detector have different classes, or a head does not exist.

    >>> import sparse_rcnn_lab as srl
    >>> detector, data = srl.load("nano-shapes"), srl.Shapes(2)
    >>> tried = {"whole": srl.Ablation(), "alone": srl.Ablation(self_attention=False)}
    >>> table = ablation_costs(detector, data, ablations=tried, cache=False, progress=False)
    >>> (table.cost > 0.5).tolist()
    [False, True]
    """
    tried = dict(ablations or usual_ablations(detector))
    last = detector.num_stages
    chosen = check_stages([last] if stages is None else stages, last)
    settings = {
        # As pairs, since json forgets which of a mapping's keys came first: that is the baseline.
        "ablations": [(name, str(ablation)) for name, ablation in tried.items()],
        "stages": chosen,
        "threshold": threshold,
    }
    run = CachedRun("ablation_costs", detector, data, settings, **options)
    first = next(iter(tried))

    def rows(found: Found) -> Iterable[dict[str, Any]]:
        return (
            {
                "ablation": name,
                "stage": stage,
                **found.ap(f"{name} {stage}"),
                "cost": found.ap(f"{first} {stage}")["AP"] - found.ap(f"{name} {stage}")["AP"],
                **count_duplicates(found.rows[f"{name} {stage}"], found.truth, threshold),
            }
            for name in tried
            for stage in chosen
        )

    variants = [_variant(name, ablation, chosen) for name, ablation in tried.items()]
    return tabulate(run, variants, "what each part is worth", MEANING, rows)


def _variant(name: str, ablation: Ablation, stages: tuple[int, ...]) -> Variant:
    def run(images: StageInputs) -> dict[str, StageOutput]:
        outputs = images.run(stop=stages[-1], ablation=ablation)
        return {f"{name} {stage}": outputs[stage - 1] for stage in stages}

    return run


def count_duplicates(
    rows: np.ndarray, truth: Mapping[str, Any], threshold: float = THRESHOLD
) -> dict[str, float]:
    """Counts detections against a COCO ground truth, at one score threshold.

    rows: ``[K, 7]`` image id, x, y, w, h, score, category id.
    ``found``: share of the objects with a detection of their class at IoU 0.5.  ``duplicates``:
    superfluous ones of these, per object found.  ``wrong``: all other detections, per image.
    Crowds do not count as objects.
    """
    objects = defaultdict(list)
    for note in truth["annotations"]:
        if not note.get("iscrowd", 0):
            objects[note["image_id"], note["category_id"]].append(note["bbox"])
    seen = defaultdict(list)
    for image, *box, score, category in rows.tolist():
        if score >= threshold:
            seen[int(image), int(category)].append(box)
    found = extra = wrong = 0
    for key, boxes in seen.items():
        if key not in objects:
            wrong += len(boxes)
            continue
        there = box_ops.xywh_to_xyxy(torch.tensor(objects[key], dtype=torch.float64))
        overlap = box_ops.iou(box_ops.xywh_to_xyxy(torch.tensor(boxes)).double(), there)
        best, which = overlap.max(1)
        placed = best >= RIGHT_IOU
        distinct = len(which[placed].unique())
        found += distinct
        extra += int(placed.sum()) - distinct
        wrong += int((~placed).sum())
    total = sum(map(len, objects.values()))
    return {
        "found": found / total if total else float("nan"),
        "duplicates": extra / found if found else float("nan"),
        "wrong": wrong / max(1, len(truth["images"])),
    }
