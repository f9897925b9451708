"""Odd data and odd settings: they work, or are refused in words; nothing is not a number."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sparse_rcnn_lab as srl
from sparse_rcnn_lab.core.errors import LabError

TINY = {
    "train__warmup_steps": 1,
    "model__dim": 16,
    "model__ffn_dim": 32,
    "model__dynamic_dim": 4,
}


def folder(path: Path, sizes: list[tuple[int, int]], classes: int) -> Path:
    """A data folder of noise: one box in each image of (width, height) pixels."""
    (path / "images").mkdir(parents=True)
    images, annotations = [], []
    for i, (w, h) in enumerate(sizes):
        noise = np.random.default_rng(i).integers(0, 255, (h, w, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path / "images" / f"{i}.png")
        images.append({"id": i, "file_name": f"{i}.png", "width": w, "height": h})
        box = [0.1 * w, 0.1 * h, 0.6 * w, 0.7 * h]
        annotations.append(
            {"id": i + 1, "image_id": i, "category_id": i % classes + 1, "bbox": box}
        )
    categories = [{"id": i + 1, "name": f"class {i}"} for i in range(classes)]
    document = {"images": images, "annotations": annotations, "categories": categories}
    for part in ("train", "val"):
        (path / f"{part}.json").write_text(json.dumps(document))
    return path


@pytest.mark.parametrize(
    ("sizes", "classes"),
    [
        ([(60, 40)], 1),
        ([(60, 40)] * 5, 4),  # four classes look like four coordinates
        ([(60, 40)] * 3, 500),
        ([(500, 10), (10, 500), (1, 50), (50, 1), (1500, 30)], 2),
    ],
    ids=["one image", "four classes", "500 classes", "sides of 50 to 1"],
)
def test_a_training_of_odd_data(sizes, classes, tmp_path):
    """Catches a shape that is taken for another one, and an image that vanishes when resized."""
    data = folder(tmp_path / "data", sizes, classes)
    changes = {**TINY, "train__steps": 2, "train__batch_size": 3}
    run = srl.fit(data, srl.recipe("nano", **changes), tmp_path / "run", workers=0, progress=False)
    assert run.detector.model.stages[0].classify.out_features == classes
    assert len(run.evaluation.per_stage) == 6
    assert all(torch.isfinite(p).all() for p in run.detector.model.parameters())


@pytest.mark.parametrize("size", [(50, 1), (1, 50), (2500, 50), (50, 2500), (1, 1)])
def test_images_of_every_aspect(size):
    """Catches boxes that are not numbers for an image that is all edge."""
    detector = srl.load("nano-shapes")
    trace = detector.trace(np.zeros((*size, 3), np.uint8))
    assert torch.isfinite(trace.boxes).all() and trace.size == size
    for found in detector([np.zeros((*size, 3), np.uint8)] * 2):
        assert len(found) == 20


def test_a_rate_far_too_high_is_said(tmp_path):
    """Catches a training that goes on without a word with weights that are no numbers."""
    data = folder(tmp_path / "data", [(60, 40)] * 8, 2)
    changes = {**TINY, "train__steps": 60, "train__lr": 500.0}
    with pytest.raises(LabError, match=r"not a finite number.* step .* lower learning rate"):
        srl.fit(data, srl.recipe("nano", **changes), tmp_path / "run", workers=0, progress=False)
