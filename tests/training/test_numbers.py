"""Odd data and odd settings: they work, or are refused in words; nothing is not a number."""

import numpy as np
import pytest
import torch
from coco_folders import coco_folder

import sparse_rcnn_lab as srl

TINY = {"train__warmup_steps": 1, "model__dim": 16, "model__ffn_dim": 32, "model__dynamic_dim": 4}


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
    boxes = ([0.1 * w, 0.1 * h, 0.6 * w, 0.7 * h] for w, h in sizes)
    objects = [[(i % classes, box)] for i, box in enumerate(boxes)]
    names = [f"class {k}" for k in range(classes)]
    data = coco_folder(tmp_path / "data", sizes, objects, names)
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
