"""How often a model is right about photographs of another data set, at one threshold.

python -m benchmarks.precision --model small-everyday --data FOLDER --threshold 0.5

FOLDER is in COCO's format. Of its objects those count whose class the model knows, under COCO's
name or PASCAL VOC's. A detection is right when it has an IoU of at least 0.5 with an object of its
class that no better detection has taken; what lies on a crowd of its class is not counted.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

import torch

import sparse_rcnn_lab as srl
from sparse_rcnn_lab.core import boxes as box_ops
from sparse_rcnn_lab.core.detections import Detections

# COCO's name of a class -> PASCAL VOC's, where they differ.
VOC_NAMES = {
    "airplane": "aeroplane",
    "couch": "sofa",
    "motorcycle": "motorbike",
    "tv": "tv monitor",
}


def judge(found: Detections, annotations: list[tuple[str, list[float], bool]]) -> Counter[str]:
    """Counts "right", "wrong", "objects", for one image: of each class and of all.

    annotations: class name, box as x, y, width, height in pixels, whether it is a crowd.
    """
    counts: Counter[str] = Counter()
    names = found.names()
    for name in {*names, *(name for name, _, _ in annotations)}:
        mine = found.boxes[[n == name for n in names]]
        rows = [(box, crowd) for other, box, crowd in annotations if other == name]
        crowd = torch.tensor([crowd for _, crowd in rows], dtype=torch.bool)
        truth = box_ops.xywh_to_xyxy(torch.tensor([box for box, _ in rows]).reshape(-1, 4))
        overlaps = box_ops.iou(mine, truth)
        free = ~crowd
        counts[f"{name} objects"] += int(free.sum())
        for row in overlaps:  # detections come best first
            able = row.masked_fill(~free, -1.0)
            best = int(able.argmax()) if len(able) else -1
            if best >= 0 and able[best] >= 0.5:
                free[best] = False
                counts[f"{name} right"] += 1
            elif not bool((row[crowd] >= 0.1).any()):
                counts[f"{name} wrong"] += 1
    return counts


def main() -> None:
    """Prints precision and recall, of all and of each class."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--model", default="small-everyday")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--threshold", type=float, default=0.5)
    arguments = parser.parse_args()
    detector = srl.load(arguments.model)
    counts: Counter[str] = Counter()
    for part in ("train.json", "val.json"):
        truth = json.loads((arguments.data / part).read_text(encoding="utf-8"))
        names = {c["id"]: VOC_NAMES.get(c["name"], c["name"]) for c in truth["categories"]}
        for image in truth["images"]:
            rows = [
                (names[a["category_id"]], a["bbox"], bool(a.get("iscrowd")))
                for a in truth["annotations"]
                if a["image_id"] == image["id"]
            ]
            known = [row for row in rows if row[0] in detector.class_names]
            file = arguments.data / "images" / image["file_name"]
            counts += judge(detector(file, threshold=arguments.threshold), known)
    print(f"{'class':<14}{'right':>7}{'wrong':>7}{'objects':>9}{'precision':>11}{'recall':>8}")
    for name in (*detector.class_names, "all"):
        of = [name] if name != "all" else detector.class_names
        right, wrong, objects = (
            sum(counts[f"{n} {what}"] for n in of) for what in ("right", "wrong", "objects")
        )
        if right or wrong or objects:
            print(
                f"{name:<14}{right:>7}{wrong:>7}{objects:>9}"
                f"{right / max(1, right + wrong):>11.2f}{right / max(1, objects):>8.2f}"
            )


if __name__ == "__main__":
    main()
