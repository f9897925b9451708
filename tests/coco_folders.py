"""A folder of COCO json and its images, for the tests."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Objects = Sequence[tuple[int, Sequence[float]]]  # class and box (left, top, width, height) of each


def coco_folder(
    root: Path,
    sizes: Sequence[tuple[int, int]] = ((60, 40),),
    objects: Sequence[Objects] | None = None,
    names: Sequence[str] = ("thing",),
    splits: Sequence[str] = ("train", "val"),
    **changes: Any,
) -> Path:
    """Noise of these (width, height) in ``images/``, and one json for each of ``splits``.

    objects: what each image shows; without it, one thing in the middle of each.
    changes: lists of the json to have in place of those made here.
    """
    (root / "images").mkdir(parents=True, exist_ok=True)
    if objects is None:
        objects = [[(0, [0.1 * w, 0.1 * h, 0.6 * w, 0.7 * h])] for w, h in sizes]
    images, annotations = [], []
    for i, ((w, h), own) in enumerate(zip(sizes, objects, strict=True), 1):
        noise = np.random.default_rng(i).integers(0, 255, (h, w, 3), dtype=np.uint8)
        Image.fromarray(noise).save(root / "images" / f"{i}.png")
        images.append({"id": i, "file_name": f"{i}.png", "width": w, "height": h})
        annotations += [
            {"image_id": i, "category_id": 1 + kind, "bbox": list(box)} for kind, box in own
        ]
    document = {
        "images": images,
        "annotations": [{"id": k, **row} for k, row in enumerate(annotations, 1)],
        "categories": [{"id": k, "name": name} for k, name in enumerate(names, 1)],
        **changes,
    }
    for split in splits:
        (root / f"{split}.json").write_text(json.dumps(document), encoding="utf-8")
    return root
