"""Precision on photographs: what counts as right, wrong, or not at all."""

import torch

from benchmarks.precision import judge
from sparse_rcnn_lab import Detections


def test_each_object_is_found_once_and_crowds_do_not_count():
    """Catches a second box on one object that counts as right, a class that is ignored, a box on a
    crowd that counts as wrong."""
    found = Detections(
        boxes=torch.tensor(
            [[0, 0, 10, 10], [0, 0, 10, 9], [20, 0, 30, 10], [50, 50, 60, 60], [80, 80, 90, 90.0]]
        ),
        scores=torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5]),
        labels=torch.tensor([0, 0, 1, 0, 0]),
        proposals=torch.arange(5),
        size=(100, 100),
        class_names=("cat", "dog"),
    )
    truth = [
        ("cat", [0.0, 0.0, 10.0, 10.0], False),
        ("cat", [20.0, 0.0, 10.0, 10.0], False),  # found, but as a dog
        ("cat", [50.0, 50.0, 20.0, 20.0], True),  # a crowd
    ]
    assert judge(found, truth) == {
        "cat objects": 2,
        "cat right": 1,
        "cat wrong": 2,  # the second box on the first cat, and the one on nothing
        "dog objects": 0,
        "dog wrong": 1,
    }
