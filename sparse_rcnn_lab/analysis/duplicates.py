"""How often objects are found, and found again: what self-attention is there to prevent."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from sparse_rcnn_lab.analysis.detection_errors import RIGHT_IOU, THRESHOLD
from sparse_rcnn_lab.core import boxes as box_ops


def count_duplicates(
    rows: np.ndarray, truth: Mapping[str, Any], threshold: float = THRESHOLD
) -> dict[str, float]:
    """Detections beside a COCO ground truth, at one score.

    rows: ``[K, 7]`` image id, x, y, w, h, score, category id, as ``evaluate`` gives them.
    ``found``: share of the objects with a detection of their class at IoU 0.5.  ``duplicates``:
    superfluous ones of these, for each object found.  ``wrong``: all other detections, for each
    picture. Crowds do not count as objects.
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
