"""Scores that say how often they are right: nothing else of a detector changes."""

import numpy as np
import pytest
import torch
from scipy.special import expit

import sparse_rcnn_lab as srl
from sparse_rcnn_lab.training.coco_metrics import right_detections
from sparse_rcnn_lab.training.score_calibration import platt_scaling, uncalibrated


@pytest.fixture(scope="module")
def timid() -> srl.Detector:
    """nano-shapes with scores far too low in every stage, in the same order."""
    detector = srl.load("nano-shapes")
    for stage in detector.model.stages:
        with torch.no_grad():
            stage.classify.weight.mul_(0.5)
            stage.classify.bias.mul_(0.5).sub_(2.0)
    return srl.Detector(detector.model, detector.class_names, "timid")


def test_a_score_is_the_share_that_is_right(timid):
    """Catches a wrong sign or inverse, stages that exchange their numbers, an order that moves."""
    before = {name: value.clone() for name, value in timid.model.state_dict().items()}
    sure = srl.calibrate_scores(timid, srl.Shapes(24, seed=1), progress=False)
    unseen = srl.Shapes(24, seed=7)
    old, new = (srl.evaluate(d, unseen, progress=False) for d in (timid, sure))
    for stage in range(6):
        assert abs(new.per_stage[stage].AP - old.per_stage[stage].AP) < 1e-4
        rows = new.detections[stage]
        right, counts = right_detections(unseen.ground_truth(), rows)
        assert counts.all()
        assert rows[:, 5].mean() == pytest.approx(right.mean(), abs=0.02)
    kept = [(result.detections[-1][:, 5] >= 0.5).sum() for result in (old, new)]
    objects = len(unseen.ground_truth()["annotations"])
    assert kept[0] < 0.1 * objects < 0.9 * objects < kept[1]
    changed = {n for n, v in sure.model.state_dict().items() if not torch.equal(v, before[n])}
    assert changed == {
        f"stages.{s}.classify.{what}" for s in range(6) for what in ("weight", "bias")
    }
    assert all(torch.equal(v, before[n]) for n, v in timid.model.state_dict().items())
    # Fitted twice, and undone for a training that starts from it.
    twice = srl.calibrate_scores(sure, srl.Shapes(16, seed=3), progress=False)
    for name, value in twice.model.state_dict().items():
        torch.testing.assert_close(uncalibrated(name, value, twice.info), before[name])


def test_numbers_known_by_hand():
    """Catches a fit that stops early: scores drawn from a known scale and shift."""
    draw = np.random.default_rng(0)
    logits = draw.normal(-2, 2, 20_000)
    right = draw.random(20_000) < expit(1.7 * logits + 0.8)
    assert platt_scaling(expit(logits), right) == pytest.approx((1.7, 0.8), abs=0.1)


def test_which_detections_are_right():
    """Catches a second box on an object that counts, a crowd that counts, a class mixed up."""
    truth = {
        "images": [{"id": 5}, {"id": 9}],
        "categories": [{"id": 3, "name": "cat"}, {"id": 8, "name": "dog"}],
        "annotations": [
            {"id": 1, "image_id": 5, "category_id": 3, "bbox": [0, 0, 10, 10]},
            {"id": 2, "image_id": 9, "category_id": 8, "bbox": [0, 0, 10, 10], "iscrowd": 1},
        ],
    }
    rows = np.array(
        [
            [5, 0, 0, 10, 9, 0.3, 3],  # a worse score on the same cat
            [5, 0, 0, 10, 10, 0.9, 3],
            [5, 0, 0, 10, 10, 0.8, 8],  # no dog here
            [9, 0, 0, 9, 9, 0.7, 8],  # on the crowd
        ]
    )
    right, counts = right_detections(truth, rows)
    assert right.tolist() == [False, True, False, False]
    assert counts.tolist() == [True, True, True, False]


def test_too_little_to_go_by(timid):
    """Catches scores that are fitted to three lucky detections."""
    with pytest.raises(srl.LabError, match=r"Stage 1 has \d+ right detections on 2 images"):
        srl.calibrate_scores(timid, srl.Shapes(48, seed=1), limit=2, progress=False)
