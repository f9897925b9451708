"""Calibrates scores so that they say how often a detection is right (Platt scaling)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparse_rcnn_lab.core.errors import LabError
from sparse_rcnn_lab.core.stage import Stage
from sparse_rcnn_lab.data.sample import DetectionData
from sparse_rcnn_lab.detect.detector import Detector
from sparse_rcnn_lab.training.coco_metrics import right_detections
from sparse_rcnn_lab.training.evaluate import evaluate

INFO_KEY = "score_calibration"
LEAST_RIGHT = 20  # right detections that a stage needs for its calibration


def calibrate_scores(
    detector: Detector, data: DetectionData, *, limit: int | None = None, progress: bool = True
) -> Detector:
    """A copy of ``detector`` in which a score is about the share of such detections that are right.

    A short schedule, and a loss that neglects easy boxes, leave scores that are far too low: a
    threshold of 0.5 then hides what was found. For each stage two numbers are fitted on ``data``,
    preferably images not trained on: logit -> scale * logit + shift, scale > 0. They are folded
    into the stage's class layer, so the detector has the same form and speed. The order of its
    detections does not change, and neither does AP.

    As in COCO's AP50, a detection is right if its IoU with an object of its class is at least 0.5
    and no better detection has that object. Detections that COCO ignores (of crowds) do not count.
    limit: use only this many images, the first ones. Platt scaling: Platt 1999; for detectors:
    Küppers et al. 2020, arXiv 2004.13546.

    Raises LabError where a stage has fewer than 20 right detections in ``data``, and for custom
    stages, whose class layer is not known. ``info["score_calibration"]`` of the copy has both
    numbers of each stage, so that a training that starts from it can undo them.

    >>> import sparse_rcnn_lab as srl
    >>> drawn = srl.Shapes(length=24, seed=1)
    >>> detector = srl.load("nano-shapes")
    >>> sure = srl.calibrate_scores(detector, drawn, progress=False)
    >>> before, after = (d("photo.jpg").scores[:5] for d in (detector, sure))
    >>> bool((after > before).all())
    True
    """
    result = evaluate(detector, data, limit=limit, progress=progress, notes=False)
    count = result.num_images
    truth = data.ground_truth(range(count))
    model = copy.deepcopy(detector.model)
    before = detector.info.get(INFO_KEY) or [[1.0, 0.0]] * len(model.stages)
    done = []
    for number, (stage, rows) in enumerate(zip(model.stages, result.detections, strict=True), 1):
        if not isinstance(stage, Stage):
            raise LabError(f"Stage {number} is a {type(stage).__name__}, expected a Stage.")
        right, counts = right_detections(truth, rows)
        if right.sum() < LEAST_RIGHT:
            raise LabError(
                f"Stage {number} has {right.sum()} right detections on {count} images, but at "
                f"least {LEAST_RIGHT} are needed. Give more images, or train longer."
            )
        scale, shift = platt_scaling(rows[counts, 5], right[counts])
        with torch.no_grad():
            stage.classify.weight.mul_(scale)
            stage.classify.bias.mul_(scale).add_(shift)
        done.append([scale * before[number - 1][0], scale * before[number - 1][1] + shift])
    info = {**detector.info, INFO_KEY: done}
    return Detector(model, detector.class_names, detector.name, info)


def uncalibrated(key: str, value: Tensor, info: Mapping[str, Any]) -> Tensor:
    """An entry of a state dict as it was before :func:`calibrate_scores`, by ``info``: confident
    scores, on a steep scale, are a bad start for learning other classes."""
    if INFO_KEY not in info or ".classify." not in key:
        return value
    scale, shift = info[INFO_KEY][int(key.split(".")[1])]
    return (value - shift) / scale if key.endswith("bias") else value / scale


def platt_scaling(scores: np.ndarray, right: np.ndarray) -> tuple[float, float]:
    """The scale > 0 and the shift of the logits that minimise the cross-entropy.

    scores: ``[K]``, 0 < s < 1.  right: ``[K]`` bool.
    """
    from scipy.optimize import minimize  # its import takes half a second

    scores = np.clip(scores, 1e-6, 1 - 1e-6)
    logits = np.log(scores) - np.log1p(-scores)
    sign = np.where(right, 1.0, -1.0)

    def loss(values: np.ndarray) -> float:
        return float(np.logaddexp(0.0, -sign * (np.exp(values[0]) * logits + values[1])).mean())

    log_scale, shift = minimize(loss, [0.0, 0.0], method="Nelder-Mead").x
    return float(np.exp(log_scale)), float(shift)
